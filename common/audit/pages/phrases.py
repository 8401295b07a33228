"""Plain words for what reports and cards say beside their numbers; no number is made here.

Example:
    >>> reason("filter")
    "it did not fit into the outlet's lifetime budget"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from presspool.common.ledger import entries

_REASONS: Final[Mapping[entries.Reason, str]] = {
    "filter": "it did not fit into the outlet's lifetime budget",
    "period": "it did not fit into the budget of its period",
    "dataset": "it did not fit into the budget of its data set",
    "period-closed": "its period was closed already",
    "unit": "it protects another unit than the ledger's claim",
    "policy-task": "the outlet's policy does not take such tasks",
    "policy-base-model": "the base model is not one that the outlet's policy names",
    "policy-rounds": "more rounds than the outlet's policy allows",
    "policy-steps": "more steps than the outlet's policy allows",
    "policy-sampling-rate": "a higher sampling rate than the outlet's policy allows",
    "policy-noise": "less noise than the outlet's policy demands",
    "policy-delta": "a larger δ than the outlet's policy allows",
    "policy-epsilon": "a larger ε for one run than the outlet's policy allows",
    "policy-targets": "it trains layers that the outlet's policy does not open",
    "policy-cohort": "fewer outlets take part than the outlet's policy demands",
    "round-not-agreed": "a round, or an outlet, that its contract does not have",
    "event-not-priceable": "its privacy event cannot be priced",
    "adapter-names": "the adapter sent had parameters of other names",
    "adapter-shapes": "the adapter sent had parameters of other shapes",
    "adapter-not-finite": "the adapter sent held numbers that are not finite",
    "adapter-norm": "the adapter sent was larger than the outlet's policy allows",
    "witnesses-too-few": "the outlet's operator approved too few witnesses for any quorum",
    "split-view": "the coordinator has contradicted itself",
    "policy-trust": "it rests on a trust model that the outlet's policy does not name",
    "policy-adapter-scale": "its adapter is scaled by more than the outlet's policy allows",
    "policy-record-size": "more or longer records of one reader than the outlet's policy allows",
    "adapter-branch": "the adapter sent outweighed a frozen layer by more than the policy allows",
    "declined": "a person of the outlet declined it",
    "policy-colluders": "it reckons with fewer colluding outlets than the policy demands",
    "policy-dropouts": "it reckons with more missing outlets than the policy allows",
    "policy-peers": "too few of its outlets are peers that the outlet's operator approved",
    "policy-alone": "ε, if everybody else works together, is larger than the policy allows",
    "sum-refused": "what the coordinator passed on opens no sum of the pool",
}

UNIT: Final[Mapping[str, str]] = {
    "reader": "Protected is a reader: all records of one person at one outlet together.",
    "record": (
        "Protected is one record only. That is weaker than a reader: a person with many records is "
        "protected less."
    ),
}

MEANING: Final = (
    "An (ε, δ) claim bounds how much the outlet's outputs can tell about any one reader: whatever "
    "somebody concludes from them, the odds change by at most a factor of e to the power ε, "
    "except with probability about δ, compared with the same outlet without that reader."
)

COMPOSITION: Final = (
    "A reader of several outlets composes sequentially, because each round's model already carries "
    "the other outlets' data. The worst case is the sum over the outlets, not the largest of them. "
    "Outlets answer in turn, again and again; that sums hold for that too is the concurrent "
    "composition of interactive mechanisms (Vadhan and Wang 2021; Vadhan and Zhang 2023). Where "
    "outlets share their noise, such a reader is a group inside each of their sums, which costs "
    "more than that sum of ε."
)

PROVES: Final = (
    "which runs the outlet declared, in which order, with which privacy events, and what each cost",
    "that no run was admitted beyond the caps that were in force",
    "which digest of bytes the outlet bound to each round before it sent them",
    "with a head that somebody else kept: that the ledger was not shortened or rewritten since",
)

DOES_NOT_PROVE: Final = (
    "that the noise was drawn, or that the code that ran is the code that was declared; the "
    "engine's self-test and attacks on the model speak to that",
    "that the outlet has only this one ledger, or trains only with it",
    "anything about entries after the newest signed head",
    "that a file is the whole story, if nobody kept a head of it",
)

NOT_STATED: Final = "not stated by the operator"


def reason(code: entries.Reason) -> str:
    """Why a run was refused."""
    return _REASONS[code]
