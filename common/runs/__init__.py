"""A run on disk: its file, its folder, its default recipe and its result."""
