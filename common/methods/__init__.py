"""What can train of a model: one file a method, and what every method must say of itself."""
