"""What several methods are made of: where they add something, and what."""
