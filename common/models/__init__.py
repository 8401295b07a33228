"""Base models, adapters, and the model that every outlet trains."""
