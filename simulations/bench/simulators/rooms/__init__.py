"""Contestants that run in virtual environments of their own, and are imported nowhere else."""
