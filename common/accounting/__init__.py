"""Privacy events as data, what they cost, and the filter that admits them.

Nothing here imports torch, Flower or transformers: an auditor accounts without them.
"""
