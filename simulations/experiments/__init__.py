"""Declared experiments on real data: jobs that can be stopped and continued, and their tables."""
