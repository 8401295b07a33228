"""What an audit says of frozen data: its entries in words, and which of them a snapshot opens.

Only who has the snapshot can open its entry, and that is the outlet: the nonce stands in it.

Example:
    >>> words({"source": "duckdb", "window": None, "consent": None, "most_records": 50})
    'from duckdb, all days, no consent asked for, at most 50 records of a reader'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presspool.common.data.rows_digest import digest_of
from presspool.common.ledger.frozen_data import DataFrozen, entry_of, opening_in

if TYPE_CHECKING:
    from rich.console import Console


def words(said: Mapping[str, Any]) -> str:
    """An entry of frozen data in a line."""
    days = f"{said['window'][0]} to before {said['window'][1]}" if said["window"] else "all days"
    asked = f"consent by {said['consent'][:19]}…" if said["consent"] else "no consent asked for"
    most = said["most_records"]
    kept = "all records" if most is None else f"at most {most:,} records of a reader"
    return f"from {said['source']}, {days}, {asked}, {kept}"


def judged(snapshot: Path, frozen: Sequence[DataFrozen]) -> dict[str, Any]:
    """Which entry a snapshot opens.

    Raises:
        InputError: not a snapshot that a ledger speaks of.
        EvidenceError: no entry is opened by it.
    """
    opening = opening_in(snapshot)
    entry = entry_of(opening, frozen)
    return {
        "entry": entry.seq,
        "day": entry.day,
        "newest": entry == frozen[-1],
        "rows_unchanged": digest_of(snapshot) == opening.digest,
        "words": words(entry.model_dump()),
    }


def show(found: Mapping[str, Any] | None, screen: Console) -> None:
    """The same for people."""
    if found is None:
        return
    rows = (
        "its rows are the ones that were frozen"
        if found["rows_unchanged"]
        else "its rows have changed since: readers were erased, or somebody wrote it"
    )
    newest = "" if found["newest"] else "; a later entry speaks of another snapshot"
    screen.print(
        f"The snapshot opens entry {found['entry']} of {found['day']}: {found['words']}; "
        f"{rows}{newest}.",
        markup=False,
        soft_wrap=True,
    )
