"""The task `fill-mask` under attack: sentences of random words, of which one each is hidden.

As for a model that writes, there is no head that could be baited: a malicious coordinator sends the
public start in every round, and nobody stands beside the canaries.

Example: `attacked(contract).planted(canaries)`.
"""

from __future__ import annotations

from presspool.simulations.attack.tasks.attacked_writer import AttackedWriter


class AttackedFiller(AttackedWriter):
    """A text with hidden tokens."""

    spans_left_out = (
        "Tokens were not looked for in the updates: what an encoder's layer reads at one place "
        "hangs on all words around it, and the span check here only tries single tokens. Nothing "
        "is known about them from this audit."
    )
