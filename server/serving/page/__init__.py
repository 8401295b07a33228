"""The page that a newsroom opens: `presspool serve --ui`."""
