"""The rounds of a run: send, admit, aggregate, evaluate, checkpoint."""
