"""What the attacks need to know of each task."""
