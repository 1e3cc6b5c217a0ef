"""This machine as a provider."""
