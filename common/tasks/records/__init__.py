"""What the records of tasks are, and how they become tokens."""
