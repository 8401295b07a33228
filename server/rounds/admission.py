"""Which updates count: every reply is checked in full before it may touch the sum.

Flower's own averaging takes NaN, broadcasts shapes and goes on when every client has failed; here
an update is refused unless it is exactly what the contract's model and this round ask for.

Invariants:
    * A refusal is one word of `UPDATE_REFUSALS`, the outlet's own word of `FAILURES`, the Grid's of
      `LEFT_OUT`, or "failed" where the node could not even say that; never a text that quotes the
      update.
    * An update is the outlet's whose task it answers. Where a Grid knows whose each node is, from
      certificates, the name inside the update is only held against that, and decides nothing. Stock
      Flower's nodes have no names: there an update is whose it says it is, and any node can speak
      as another.
    * The first admitted update of an outlet counts, any further one is refused.
    * Too few admitted updates fail the round; nothing is averaged then.

Example: `admit(replies, expected)` → `Admitted(updates=…, refused={"outlet": "not-finite"})`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Error, Message

from presspool.common.base.errors import AdmissionError, QuorumError
from presspool.common.models import adapters
from presspool.common.wire.run_grid import LEFT_OUT
from presspool.common.wire.update import FAILURES, AdapterUpdate, unpack_update

UPDATE_REFUSALS = (
    "malformed",
    "unknown-outlet",
    "not-in-cohort",
    "wrong-outlet",
    "duplicate",
    "wrong-contract",
    "wrong-round",
    "wrong-phase",
    "wrong-base",
    "wrong-names",
    "wrong-shape",
    "not-finite",
    "norm-above-cap",
)
_ARRAY_WORDS: Mapping[adapters.FaultKind, str] = {
    "names": "wrong-names",
    "shapes": "wrong-shape",
    "finite": "not-finite",
    "norm": "norm-above-cap",
}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an answer to this phase of a round must be.

    Attributes:
        outlets: names in the contract.
        cohort: those that were asked in this round.
        round: from 1.
        contract: digest of the contract.
        base: digest of the adapter that was sent out.
        shapes: name to shape of every trained array; none in a phase that does not train.
        norm_cap: largest L2 norm.
        quorum: fewest admitted updates.
        dtype: of the arrays.
        phase: of the round, from 1.
        nodes: node id to outlet, where a Grid gives outlets ids of their own; empty where it does
            not.
        take: told each answer that is admitted; raises `AdmissionError` where it is none after all.
    """

    outlets: frozenset[str]
    cohort: frozenset[str]
    round: int
    contract: str
    base: str
    shapes: Mapping[str, tuple[int, ...]]
    norm_cap: float
    quorum: int
    dtype: str = "float32"
    phase: int = 1
    nodes: Mapping[int, str] = field(default_factory=dict)
    take: Callable[[str, AdapterUpdate], None] = lambda _outlet, _update: None


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A round's updates after admission.

    Attributes:
        updates: outlet to update, sorted by outlet; over the wire their arrays stay in the mailbox.
        refused: outlet (or node number, where nobody knows who it is) to refusal.
    """

    updates: Mapping[str, AdapterUpdate]
    refused: Mapping[str, str]


def admit(replies: Iterable[Message], expected: Expected) -> Admitted:
    """Check every reply of a round.

    Raises:
        QuorumError: fewer were admitted than the contract's quorum; says who was refused and why.
    """
    updates: dict[str, AdapterUpdate] = {}
    refused: dict[str, str] = {}
    for reply in replies:
        try:
            outlet, update = check(reply, expected, frozenset(updates))
            expected.take(outlet, update)
        except AdmissionError as refusal:
            refused[refusal.where] = refusal.code
        else:
            updates[outlet] = update
    if len(updates) < expected.quorum:
        raise QuorumError(
            f"round {expected.round} has too few admitted updates",
            where="coordinator",
            expected=f"at least {expected.quorum}",
            got="; ".join(
                [str(len(updates)), *(f"{who}: {why}" for who, why in sorted(refused.items()))]
            )
            if updates or refused
            else "no outlet answered",
        )
    return Admitted(updates=dict(sorted(updates.items())), refused=dict(sorted(refused.items())))


def check(reply: Message, expected: Expected, seen: frozenset[str]) -> tuple[str, AdapterUpdate]:
    """The outlet of one reply and its update, if it is exactly what this round expects.

    Args:
        reply: a node's answer.
        expected: this round.
        seen: outlets that are already admitted.

    Raises:
        AdmissionError: the first thing that is wrong; `where` says whose reply it was.
    """
    number = reply.metadata.src_node_id
    node = expected.nodes.get(number, f"node {number}")
    if reply.has_error():
        raise AdmissionError(_failure(reply.error), "failed", where=node)
    try:
        update = unpack_update(reply.content, dtype=expected.dtype)
    except (ValueError, TypeError):  # the second from a shape of booleans, which Flower lets pass
        raise AdmissionError("malformed", "not an update", where=node) from None
    outlet = node if expected.nodes else update.outlet
    if outlet not in expected.outlets or update.outlet not in expected.outlets:
        raise AdmissionError("unknown-outlet", "not in the contract", where=node)
    if update.outlet != outlet:
        raise AdmissionError("wrong-outlet", "in the name of another outlet", where=node)
    if outlet not in expected.cohort:
        raise AdmissionError("not-in-cohort", "nobody asked it in this round", where=outlet)
    if refusal := _fault(update, expected, outlet in seen):
        raise AdmissionError(refusal, "refused", where=outlet)
    return outlet, update


def _failure(error: Error) -> str:
    """The outlet's or Grid's own word; "failed" for what Flower reports with the same numbers."""
    word = FAILURES.get(error.code) or LEFT_OUT.get(error.code)
    return word if word is not None and word == error.reason else "failed"


def _fault(update: AdapterUpdate, expected: Expected, seen: bool) -> str | None:
    """The first fault of an update from a known outlet, as a word of `UPDATE_REFUSALS`."""
    if seen:
        return "duplicate"
    if update.contract != expected.contract:
        return "wrong-contract"
    if update.round != expected.round:
        return "wrong-round"
    if update.phase != expected.phase:
        return "wrong-phase"
    if update.base != expected.base:
        return "wrong-base"
    fault = adapters.fault(update.delta, shapes=expected.shapes, largest=expected.norm_cap)
    return None if fault is None else _ARRAY_WORDS[fault.kind]
