"""Commands on Vertex AI, as its double has it."""
