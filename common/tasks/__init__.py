"""What can be learned: one file a task, and what every task must say of itself."""
