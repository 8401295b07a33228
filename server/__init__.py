"""The coordinator: admission, aggregation, rounds and their checkpoints."""
