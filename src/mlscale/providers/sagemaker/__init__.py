"""Amazon SageMaker as a provider."""
