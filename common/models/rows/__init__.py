"""Rows of tokens that are several texts: titles apart from each other, a source and an answer."""
