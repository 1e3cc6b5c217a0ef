"""One YAML spec becomes a model in production, and stays true over its life."""

__version__ = "0.1.0"
