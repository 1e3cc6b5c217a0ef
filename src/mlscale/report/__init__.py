"""Values → words and tables."""
