"""One run file at many points: `presspool sweep`."""
