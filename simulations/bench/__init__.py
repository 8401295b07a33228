"""What things cost on this machine: `presspool bench NAME`."""
