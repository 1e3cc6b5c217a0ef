"""Scaling policies, as values."""
