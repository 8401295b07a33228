"""The coordinator's process: its home, its queue of runs, their status, its dashboard."""
