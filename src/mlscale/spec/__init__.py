"""The user's file: text → Spec → Deployment."""
