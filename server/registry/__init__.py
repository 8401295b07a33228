"""The adapter registry: finished adapters with their papers, and which of them is in use."""
