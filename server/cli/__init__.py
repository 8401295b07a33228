"""`presspool contract …` and `presspool coordinator …`: what its operator types."""
