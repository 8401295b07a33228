"""The consortium log, and the service through which outlets witness each other."""
