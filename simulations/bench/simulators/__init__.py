"""Contestants of `presspool bench simulation`: ways to simulate the same private rounds."""
