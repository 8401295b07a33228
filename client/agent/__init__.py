"""The outlet's long-running process, its home on disk, and the acts of its operator."""
