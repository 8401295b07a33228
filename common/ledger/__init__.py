"""The outlet's budget ledger: what was reserved, spent and released, in an append-only log.

Nothing here imports torch, Flower or transformers: an auditor reads a ledger without them.
"""
