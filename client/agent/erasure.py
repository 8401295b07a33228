"""A reader asks to be forgotten: what an outlet can do, in which order, and what stays.

First the reader is excluded, durably; then the runs are looked up; then the records go, from the
snapshot that is trained on and from the file that it was made of. So a kill anywhere leaves the
reader out of every later round and import, and the same command ends what was begun.

Invariants:
    * The ledger is only read. Budgets, caps and the declared population n_j stay as they are.
    * The document names no reader: it may be kept as evidence.

Example: `erase(Path("."), "reader-4711", dry_run=True)["runs"]` lists what would be concerned.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from presspool.client.agent import home as homes
from presspool.client.data.query_sources import remove_spilled
from presspool.client.data.removal import Removal, remove
from presspool.common.base.errors import InputError
from presspool.common.base.files import draft_of
from presspool.common.data.decoders import Moved
from presspool.common.data.tables import Columns
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger

Document = dict[str, Any]
STATEMENT = (
    "Differential privacy bounds what one reader can have changed in an adapter; it does not "
    "remove it. What was released stays released, no budget comes back, and the ledger stays as "
    "it is. The declared number of readers stays too: it is a public constant. A round that is "
    "being trained now ends as it began. Backups, logs and the system that the data comes from "
    "are yours to clean."
)


def erase(
    home: Path,
    reader: str,
    *,
    dry_run: bool = False,
    watch: Moved = lambda _done, _total: None,
) -> Document:
    """Exclude a reader, find the runs concerned, and remove the records.

    Args:
        home: the outlet's folder.
        reader: the id, as it stands in the data.
        dry_run: look only.
        watch: called with the bytes of a file done and their total.

    Raises:
        InputError: no outlet, an empty id, or a suppression list whose key is lost.
        StorageError: the disk refuses the exclusion; nothing was changed.
    """
    if not reader.strip():
        raise InputError("whom to erase", where="READER", expected="the id of a reader", got=reader)
    settings, suppression = homes.settings_in(home), homes.suppression_list_in(home)
    with nullcontext() if dry_run else suppression.locked():
        new = None if dry_run else suppression.exclude(reader)
        concerned, noted = suppression.runs_of(reader), suppression.noted()
        snapshot = homes.snapshot_in(home)
        if not dry_run:
            draft_of(snapshot).unlink(missing_ok=True)  # what a killed import left behind
            remove_spilled(home)
        files = {
            path: remove(path, columns=columns, reader=reader, dry_run=dry_run, watch=watch)
            for path, columns in ((snapshot, Columns()), (settings.data, settings.columns))
            if isinstance(path, Path)  # what lies elsewhere is only read
            if path.exists() or (path == settings.data and not snapshot.exists())
        }
    runs = _runs(homes.ledger_path(home))
    return {
        "dry_run": dry_run,
        "excluded": not dry_run,
        "excluded_before": new is False,
        "files": [_file(path, removal) for path, removal in files.items()],
        "runs": [runs.get(run, _unknown(run)) for run in sorted(concerned)],
        "runs_nobody_noted": [row for run, row in runs.items() if run not in noted],
        "statement": STATEMENT,
    }


def _file(path: Path, removal: Removal) -> Document:
    return {
        "file": str(path),
        "records": removal.records,
        "removed": removal.removed,
        "obstacle": removal.obstacle or None,
        "unreadable_records": removal.unreadable,
    }


def _runs(path: Path) -> dict[str, Document]:
    """Every run that was begun: what the outlet sent, and which adapters then held it."""
    found: dict[str, Document] = {}
    by_reservation: dict[str, Document] = {}
    if not path.exists():
        return found
    with Ledger(path) as ledger:
        for body in ledger.bodies(0, ledger.book.size):
            match entry := entries.parse_entry(body):
                case entries.Reserve():
                    row = found.setdefault(entry.run, _unknown(entry.run) | {"day": entry.day})
                    by_reservation[entry.reservation] = row
                case entries.ReleaseIntent():
                    by_reservation[entry.reservation]["rounds_released"].append(entry.round)
                case entries.AdapterReceived() if entry.run in found:
                    row = found[entry.run]
                    if row["rounds_released"]:  # it holds what was sent before
                        row["adapters"].append({"round": entry.round, "digest": entry.digest})
    return found


def _unknown(run: str) -> Document:
    return {"run": run, "day": None, "rounds_released": [], "adapters": []}
