"""Experiments as they were declared before anything ran: what is compared, and on which data."""
