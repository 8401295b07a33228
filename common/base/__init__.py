"""What everything stands on: errors, files, locks, figures, signals, the console."""
