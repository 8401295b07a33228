"""What researchers type."""
