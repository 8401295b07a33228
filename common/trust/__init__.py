"""Trust models: who must be believed for a run's ε to hold, and what that makes of a round."""
