"""The outside world: one folder a provider, each with the same file names."""
