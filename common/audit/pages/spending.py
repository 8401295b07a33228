"""What was spent, first of all, and why it is a share: in one sentence and one bar.

Budgets are added up in Rényi divergence at the ledger's order, where a cap of ε has room for less
than ε: the rest is what δ costs, once for all runs (`presspool.common.accounting.filter`). So a run
that states a third of a cap may take a sixth of it, and readers of a report ask why.

Invariants:
    * A share is said, never a running ε: the claim is the cap.
    * All is made from a report's document; no number is in the bar that is not in the sentence.

Example:
    >>> spent_sentence([])
    'No ledger was given, so there is no budget to report.'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from presspool.common.base.numbers import bound, percent, plain

Document = dict[str, Any]
_IS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
NAMED = 3  # so many outlets are told one by one


@dataclass(frozen=True, kw_only=True)
class BudgetRoom:
    """How a cap's ε is divided.

    Attributes:
        sentence: the whole of it in words.
        parts: style, words and share of the cap's ε, in the bar's order; they add up to 1.
    """

    sentence: str
    parts: tuple[tuple[str, str, float], ...]


def spent_sentence(outlets: Sequence[Document]) -> str:
    """What the outlets have spent so far of what they may ever spend."""
    if not outlets:
        return "No ledger was given, so there is no budget to report."
    told = [outlet for outlet in outlets if outlet["claim"]]
    free = [outlet["origin"] for outlet in outlets if not outlet["claim"]]
    said = [_spent(told)] if told else []
    if free:
        said.append(f"Nothing bounds what {', '.join(free)} spent: non-private.")
    return " ".join(said)


def _spent(outlets: Sequence[Document]) -> str:
    shares = [outlet["filter"]["share"] for outlet in outlets]
    if len(outlets) == 1:
        (outlet,) = outlets
        n = len(outlet["runs"])
        return (
            f"So far {outlet['origin']} has spent {percent(shares[0])} of what it may ever spend "
            f"of a {outlet['unit']}’s privacy (ε{_IS}{plain(outlet['filter']['epsilon'])}, "
            f"δ{_IS}{bound(outlet['delta'])}), by {n} run{'s' * (n != 1)}."
        )
    if len(outlets) <= NAMED:
        first, *others = zip(outlets, shares, strict=True)
        more = ", ".join(f"{outlet['origin']} {percent(share)}" for outlet, share in others)
        return (
            f"So far {first[0]['origin']} has spent {percent(first[1])}, and {more}, of what each "
            "may ever spend of a reader’s privacy."
        )
    return (
        f"So far between {percent(min(shares))} and {percent(max(shares))} is spent of what each "
        f"of {len(outlets)} outlets may ever spend of a reader’s privacy; the table has them all."
    )


def room_of(outlet: Document) -> BudgetRoom | None:
    """Why an outlet's runs take the shares that they take; None where nothing is claimed."""
    room = outlet["filter"]
    if not outlet["claim"]:
        return None
    cap, holds = room["epsilon"], room["capacity_nats"]
    used, fixed = min(room["used_nats"], holds), cap - holds
    sentence = (
        f"Runs are added up in nats of Rényi divergence, not in ε. Of the limit ε = {plain(cap)}, "
        f"{fixed:.2f} is what δ costs, once for all runs together, and {holds:.2f} nats are room "
        "for runs. The ε that a run states has a cost of δ of its own in it: so add up shares, and "
        f"never the ε of runs{_for_example(outlet)}."
    )
    parts = (
        ("fixed", f"what δ costs: {fixed:.2f}", fixed / cap),
        ("up", f"used: {used:.2f}", used / cap),
        ("free", f"free: {holds - used:.2f}", (holds - used) / cap),
    )
    return BudgetRoom(sentence=sentence, parts=parts)


def _for_example(outlet: Document) -> str:
    stated = [run for run in outlet["runs"] if run["stated"]]
    if not stated:
        return ""
    last = stated[-1]
    return (
        f" (here, a run of ε = {bound(last['stated']['epsilon'])} takes "
        f"{last['charged_nats']:.2f} nats, {percent(last['share'])})"
    )
