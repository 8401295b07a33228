"""The run contract and the privacy plan that follows from it."""
