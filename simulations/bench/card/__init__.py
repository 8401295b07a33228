"""What `presspool bench gpu` checks and measures on a graphics card."""
