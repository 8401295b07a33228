"""`presspool audit …`: what a compliance team types."""
