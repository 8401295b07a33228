"""Secure aggregation: the coordinator learns the sum of the outlets' integers, and no one's own."""
