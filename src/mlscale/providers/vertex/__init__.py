"""Google Vertex AI as a provider."""
