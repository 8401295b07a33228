"""A finished run's adapter: its folder, which says all about itself, and its use."""
