"""What an outlet does for its data before a run: look, leave out twice told texts, redact, part."""
