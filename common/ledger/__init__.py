"""The outlet's budget ledger: an append-only Merkle log of every unit of privacy reserved.

Nothing here imports torch, Flower or transformers: an auditor reads a ledger without them.
"""
