"""The release gate: what must hold of an adapter before a newsroom uses it."""
