"""What runs next to a model."""
