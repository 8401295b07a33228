"""Evidence from ledgers and run folders, read into one frozen model."""
