"""What a compliance team sees: evidence read into one model, and reports and cards made from it.

`evidence` reads files and ledgers into a frozen model, `pages` and `cards` show it, `dashboard`
serves it, `cli` is what is typed. Nothing here imports torch, Flower or transformers: an auditor's
machine needs none of them.
"""
