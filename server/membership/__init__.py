"""Who belongs to the pool, and who may look at it."""
