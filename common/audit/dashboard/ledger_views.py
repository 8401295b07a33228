"""What the pages of a ledger say: its entries in lines, one entry, and the proof that it is there.

Invariants:
    * A page's cost does not grow with the ledger: entries are paged.
    * A proof was verified before it is shown.

Example: `ledger(look, "example.org~outlet", page=1)["rows"]` are the newest `ENTRIES`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from presspool.common.accounting import events
from presspool.common.audit.dashboard.followed_ledgers import Proven
from presspool.common.audit.dashboard.snapshot import Snapshot
from presspool.common.audit.dashboard.views import NotThereError, reading_of
from presspool.common.audit.evidence import frozen_data_verdict
from presspool.common.audit.pages.report_json import Document
from presspool.common.base.errors import EvidenceError
from presspool.common.base.numbers import bound
from presspool.common.ledger import restored_entries
from presspool.common.transparency import merkle

ENTRIES = 50  # a page


def ledger(look: Snapshot, part: str, page: int) -> dict[str, Any]:
    """A page of a ledger's entries, the newest first.

    Args:
        look: the snapshot.
        part: the origin as part of a path.
        page: 1 for the newest.
    """
    _, reading = reading_of(look, part)
    pages = max(1, -(-reading.entries // ENTRIES))
    if page > pages:
        raise NotThereError("no such page", expected=f"1 to {pages}", got=page)
    stop = reading.entries - (page - 1) * ENTRIES
    start = max(0, stop - ENTRIES)
    bodies = look.ledgers[reading.origin].bodies(start, stop)
    runs = {found.reservation: found.run for found in reading.runs}
    rows = [_row(index, body, runs) for index, body in enumerate(bodies, start)]
    return {"outlet": reading, "rows": rows[::-1], "page": page, "pages": pages, "live": False}


def entry(look: Snapshot, part: str, index: int) -> dict[str, Any]:
    """One entry with its proof."""
    _, reading = reading_of(look, part)
    proven = prove(look, part, index)
    body = json.loads(proven.body)
    return {
        "outlet": reading,
        "proven": proven,
        "kind": body["kind"],
        "fields": [
            (name, json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
            for name, value in body.items()
        ],
        "words": _words(body),
        "steps": _steps(proven),
        "run": body.get("run") if any(r.run == body.get("run") for r in reading.runs) else None,
        "last": reading.entries - 1,
        "live": False,
    }


def prove(look: Snapshot, part: str, index: int) -> Proven:
    """An entry with its proof."""
    _, reading = reading_of(look, part)
    try:
        return look.ledgers[reading.origin].prove(index)
    except EvidenceError as error:
        if 0 <= index < reading.entries:
            raise
        raise NotThereError("no such entry", expected=error.expected, got=index) from None


def _row(index: int, body: bytes, runs: Mapping[str, str]) -> Document:
    """An entry in a line; an entry about a reservation is about its run."""
    said = json.loads(body)
    run = said.get("run", runs.get(said.get("reservation", "")))
    return {
        "seq": index,
        "day": said["day"],
        "kind": said["kind"],
        "run": run,
        "words": _words(said),
    }


def _words(said: Mapping[str, Any]) -> str:
    """What an entry says, in a few words; its numbers as they stand in it."""
    nats = f"{said['charge'] * events.UNIT:.6f} nats" if "charge" in said else ""
    match said["kind"]:
        case "opened":
            return (
                f"{said['unit']} level, order {said['order']}, ε ≤ {said['epsilon_max']:g}, "
                f"δ = {bound(said['delta'])}"
            )
        case "policy-changed":
            return f"lifetime cap ε ≤ {said['epsilon_max']:g} from here on"
        case "reserve":
            return f"{nats} in {said['period']}"
        case "release-intent":
            return f"round {said['round']}, {said['steps']:,} steps so far"
        case "settle":
            return "the run is over; what it charged stays charged"
        case "give-back":
            return f"{said['kept']:,} steps stay charged, {nats}"
        case "adapter-received":
            return f"round {said['round']}"
        case "refusal":
            return str(said["reason"])
        case "data-frozen":
            return frozen_data_verdict.words(said)
        case "lost":
            return "only its hash is known: a newer copy of the ledger was lost"
        case "restored":
            basis = restored_entries.BASES[said["basis"]]
            return f"from an older copy; {said['lost']} entries lost, {nats}; its operator: {basis}"
        case "non-private":
            return "noise that can be drawn again: nobody is protected, nothing is claimed"
        case "period-closed":
            return f"{said['period']}, {nats}"
    return ""


def _steps(proven: Proven) -> list[Document]:
    """The way from leaf to root: each sibling, its side, and what both make."""
    value, steps = proven.leaf, []
    for sibling, left in zip(proven.hashes, _left(proven.index, proven.size), strict=True):
        value = merkle.node_hash(sibling, value) if left else merkle.node_hash(value, sibling)
        steps.append(
            {"sibling": sibling.hex(), "side": "left" if left else "right", "makes": value.hex()}
        )
    return steps


def _left(index: int, size: int) -> list[bool]:
    """Whether each sibling of a leaf's path stands to the left; the lowest first."""
    sides, low, high = [], 0, size
    while high - low > 1:
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        sides.append(index >= middle)
        low, high = (middle, high) if index >= middle else (low, middle)
    return sides[::-1]
