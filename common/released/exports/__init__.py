"""Forms in which an adapter goes elsewhere: how each is written, read back by others, compared."""
