"""What is shown of evidence and results: reports, comparison, charts, and their templates."""
