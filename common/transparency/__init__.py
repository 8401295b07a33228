"""Append-only Merkle logs with signed, witnessed heads, and proofs of who told two stories.

Nothing here imports torch, Flower or transformers: an auditor reads a log without them.
"""
