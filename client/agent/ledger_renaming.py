"""A ledger's name is the outlet's, as its membership has it: peers know it by no other.

A ledger that was made under another name can never be witnessed. One that has not paid for
anything holds nothing that may not be forgotten, so it is made anew under the right name; one that
has paid is kept, whatever it is called.

Invariants:
    * Only a ledger in which no run was ever reserved is replaced, and only while no agent works.
    * Nothing is deleted: the old file is kept beside the new one.
    * What was chosen for the ledger's lifetime stays: unit, ε, δ, order and caps.

Example: `rename(home)["ledger"]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presspool.client.agent import home as homes
from presspool.client.agent.moving import require_paid
from presspool.client.agent.spool import Spool
from presspool.client.identity.identity import Identity
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import FolderError, InputError, LedgerError
from presspool.common.ledger.store import Ledger

RENAME = "presspool outlet budget rename"


def require_own(ledger: Ledger, path: Path, identity: Identity) -> None:
    """Raise `LedgerError` unless a ledger is one that the outlet's peers could witness."""
    book, own = ledger.refresh(), identity.log.key
    if book.key == own.text:
        return
    named = book.opened.origin != own.name
    raise LedgerError(
        "this ledger was made under another name, so no peer can ever witness it"
        if named
        else "this ledger is signed by another key than log.key, so no peer can witness it",
        where=str(path),
        expected=own.name if named else own.text,
        got=book.opened.origin if named else book.key,
        advice=f"nothing was charged yet: {RENAME}"
        if _unused(ledger)
        else "it has paid for runs, so keep it; ask the coordinator's operator for a token under "
        "that name"
        if named
        else "put back the key that the ledger was made with",
    )


def rename(home: Path) -> dict[str, Any]:
    """Make a ledger that has paid for nothing anew, under the outlet's own name and key.

    Returns:
        Paths of the new and the old ledger, both names, and the new verifier key.

    Raises:
        InputError: no ledger, a name that is right, or a home that was restored.
        LedgerError: a ledger that a run was ever reserved in, or of which a head is known.
        FolderError: the agent is running, or another program reads the ledger.
    """
    identity, path = Identity.read(home), homes.ledger_path(home)
    require_paid(home)
    with Spool.open(home / homes.WORK):
        with homes.ledger_in(home) as ledger:
            opened, caps = ledger.book.opened, ledger.book.caps
            _check_replaceable(ledger, path, identity)
        aside = _free(path, opened.origin)
        if path.with_name(f"{path.name}-wal").exists():
            raise FolderError("another program reads the ledger", where=str(path))
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        Ledger.create(
            draft,
            signer=identity.log,
            unit=opened.unit,
            order=opened.order,
            delta=opened.delta,
            caps=caps,
        ).close()
        path.replace(aside)
        draft.replace(path)
    return {
        "ledger": str(path),
        "kept": str(aside),
        "from": opened.origin,
        "to": identity.log.key.name,
        "key": identity.log.key.text,
    }


def _check_replaceable(ledger: Ledger, path: Path, identity: Identity) -> None:
    if ledger.book.key == identity.log.key.text:
        raise InputError("this ledger has the right name", where=str(path), advice="nothing")
    known = WitnessFolder.at(identity.home).own_head()
    if known is not None or not _unused(ledger):
        raise LedgerError(
            "this ledger is kept: a new one would forget what was spent",
            where=str(path),
            expected="a ledger in which no run was ever reserved, and no published head of another",
            got=f"{ledger.book.size} entries here"
            + (f", and a head of {known.size} entries" if known is not None else ""),
            advice="put back the newest copy of this outlet's own ledger",
        )


def _unused(ledger: Ledger) -> bool:
    """Whether nothing in it may not be forgotten: no run, nothing lost, nothing paid for a loss."""
    book = ledger.book
    return not (book.began or book.spent or book.lost or book.restored) and not book.no_claim


def _free(path: Path, origin: str) -> Path:
    base = f"{path.name}.{origin.rpartition('/')[2]}"
    names = (base, *(f"{base}.{number}" for number in range(2, 100)))
    found = next((name for name in names if not path.with_name(name).exists()), None)
    if found is None:
        raise FolderError("too many old ledgers", where=str(path.parent))
    return path.with_name(found)
