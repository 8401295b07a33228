"""Records that are several texts in one row of tokens, of which none sees another."""
