"""Several outlets of one worker in one pass of the model: each with what is its own."""
