"""Rows of tokens that are several texts: titles of which none sees another, a source and what is said."""
