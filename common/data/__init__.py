"""Named columns of table files, read in a stream."""
