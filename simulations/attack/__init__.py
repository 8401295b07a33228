"""Attacks on our own runs: what an adversary who sees every update really learns about a reader."""
