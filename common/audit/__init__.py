"""What a compliance team sees: evidence read into one model, and reports and cards made from it.

`reading` and `evidence` are the model, `replay` makes an outlet's part of it from ledger entries,
`sources` reads files and folders; `document`, `page` and `card` show it. Nothing here imports
torch, Flower or transformers: an auditor's machine needs none of them.
"""
