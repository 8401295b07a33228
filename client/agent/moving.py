"""An outlet's home as one file, and a home made from it; and how its ledger goes on there.

The file is a plain tar (mode 0600) of what makes the outlet: settings, policy, approvals, peers,
keys, what its witness keeps, the suppression list and the ledger, which is copied by SQLite's own
online backup, so that the agent may be running. Readers' data and unfinished work are not in it.

A ledger that comes from a file may have forgotten what was spent since. So a restored home trains
nothing until its ledger has paid for what it cannot know (`go_on`): the operator says which of
three things holds (`presspool.common.ledger.restored_entries.BASES`), and the ledger keeps that
word, its charge and the hashes of the lost entries for ever.

Invariants:
    * A home is made whole or not at all, and never over another one.
    * Nothing is restored to a place that the file names: only known names, below the new home; and
      its settings name policy and ledger as files of the home, not of the one that it came from.
    * The highest head of the ledger is asked of the coordinator before anything is charged.

Example: `backup(home, Path("outlet.backup"))`, `restore(Path("outlet.backup"), Path("new"))`, then
`go_on(Path("new"), "period", link=link)`.
"""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

from presspool.client.agent import home as homes
from presspool.client.agent.spool import Spool
from presspool.client.consent.policy import period_of
from presspool.client.data.suppression_list import FOLDER as PRIVATE
from presspool.client.witnessing.trusted_peers import PEERS
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_folder import WITNESS, WitnessFolder
from presspool.common.base.archives import pack, unpack
from presspool.common.base.errors import InputError, LedgerError, asked_wrongly
from presspool.common.ledger.restored_entries import Basis, Restored
from presspool.common.ledger.store import Ledger
from presspool.common.transparency.checkpoints import Checkpoint

MARKER = "restored"  # a file of a home whose ledger has not paid yet
KIND = "presspool-outlet-backup/1"
_IDENTITY = "identity"
_FILES = (homes.SETTINGS, homes.POLICY, PEERS)
_FOLDERS = (_IDENTITY, "approvals", WITNESS, PRIVATE)


def backup(home: Path, file: Path) -> None:
    """Write an outlet's home to a new file.

    Raises:
        InputError: no outlet, or settings that do not name policy and ledger as usual.
        FolderError: there is something at `file`.
        StorageError: the disk refuses.
    """
    _require_beside(home, where=home)
    with pack(file, KIND) as archive:
        for name in _FILES:
            archive.add_file(home / name, name)
        for name in _FOLDERS:
            archive.add_folder(home / name, name)
        archive.add_database(homes.ledger_path(home), homes.LEDGER)


def restore(file: Path, home: Path) -> None:
    """Make a home from a backup; it trains nothing before `go_on`.

    Raises:
        InputError: not such a backup, or one of settings that name policy or ledger elsewhere.
        FolderError: there is something at `home`.
        StorageError: the disk refuses.
    """
    files = (*_FILES, homes.LEDGER)
    with unpack(file, KIND, home, files=files, folders=_FOLDERS) as draft:
        _require_beside(draft, where=file)
        (draft / MARKER).touch(mode=0o600)


def go_on(home: Path, basis: Basis, *, link: WitnessClient, today: date) -> Restored:
    """Let a restored ledger go on, charged with what it cannot know.

    Args:
        home: an outlet's, whose agent is stopped.
        basis: the operator's word.
        link: to the coordinator, which knows the newest head.
        today: UTC.

    Raises:
        FolderError: the agent is running.
        InputError: this was said already, and nothing came since, or the basis does not hold for
            this ledger.
        EvidenceError: the coordinator's hashes do not lead to the head.
        LinkError: the coordinator cannot be reached; nothing was changed.
    """
    folder, policy = WitnessFolder.at(home), homes.policy_in(home)
    with Spool.open(home / homes.WORK), homes.ledger_in(home) as ledger:
        note = link.head()
        if note is not None:
            folder.keep_own(note)
        highest, here = folder.own_head(), ledger.book.size
        known = Checkpoint.parse(note.text).size if note is not None else 0
        if highest is not None and highest.size > max(here, known):
            raise LedgerError(
                "the coordinator does not have the newest head of this ledger",
                where=str(folder.path / "own.checkpoint"),
                expected=f"a head of {highest.size} entries",
                got=known,
                advice="restore the coordinator's newest database first",
            )
        _require_new_word(ledger, basis, home, known=known)
        leaves = link.leaves(here, known) if known > here else ()
        with asked_wrongly(LedgerError):
            entry = ledger.restore(
                basis, like=period_of(today, policy.period), leaves=leaves, head=note
            )
    (home / MARKER).unlink(missing_ok=True)
    return entry


def _require_new_word(ledger: Ledger, basis: Basis, home: Path, *, known: int) -> None:
    """What was just said is not said twice; each word stands in the ledger for ever.

    A period may have begun since, so that basis may be said again.
    """
    last = ledger.book.restored[-1:]
    same = bool(last) and last[0].seq == ledger.book.size - 1 and last[0].basis == basis
    if same and basis != "period" and known <= ledger.book.size and not (home / MARKER).exists():
        raise InputError(
            "this ledger goes on already",
            where=str(homes.ledger_path(home)),
            expected="a ledger that was restored since",
            advice="nothing: presspool outlet run",
        )


def require_paid(home: Path) -> None:
    """Raise `InputError` for a restored home whose ledger has not paid yet."""
    if (home / MARKER).exists():
        raise InputError(
            "this home was restored, and its ledger may have forgotten what was spent",
            where=str(home),
            expected="a ledger that has paid for what it cannot know",
            advice="presspool outlet budget restored --charge moved, period or lifetime",
        )


def _require_beside(home: Path, *, where: Path) -> None:
    """A backup holds one folder: what the settings name elsewhere is missed, or found by two homes.

    A whole path is refused even where it leads here: restored, it would lead here still.
    """
    homes.settings_in(home)
    said = tomllib.loads((home / homes.SETTINGS).read_text(encoding="utf-8"))
    for key, name in (("policy", homes.POLICY), ("ledger", homes.LEDGER)):
        if Path(said.get(key, name)) != Path(name):
            raise InputError(
                "not the name of this home's own file",
                where=f"{where} {homes.SETTINGS} {key}",
                expected=f'{key} = "{name}"',
                got=said[key],
                advice="move the file there, write that line, and make the backup anew",
            )
