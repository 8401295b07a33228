"""Private training: sampling, per-reader gradients, clipping, noise, optimiser, self-test."""
