"""Exports: a checked adapter in another form, with its papers, compared before it is there."""
