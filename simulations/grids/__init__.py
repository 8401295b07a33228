"""Flower grids on which many outlets run on one machine."""
