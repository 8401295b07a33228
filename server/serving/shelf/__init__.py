"""Adapters in place and their answers: what is behind the routes, and knows nothing of HTTP."""
