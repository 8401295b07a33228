"""The history of the coordinator's tables."""
