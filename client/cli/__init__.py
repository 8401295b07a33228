"""`presspool outlet …`: what an outlet's operator types."""
