"""Follows sources, and says on demand what they are now.

A path may be what `presspool audit report` takes: an export, a ledger, an outlet's home or a run
folder; which paths there are may change while it runs.

Invariants:
    * A source that cannot be read, or no longer holds, is a fault that is shown; what it said
      before is not.
    * A ledger that was put back to an earlier state stays a fault for as long as this runs.
    * Files are only read, and only where their time, size or inode changed.
    * One thread: ledgers are SQLite handles.

Example:
    >>> look = SourceWatch(lambda: [Path("/no/such/file")]).look()
    >>> look.faults[0].source, look.evidence.outlets
    ('file', ())
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from presspool.common.audit.cards import model_card
from presspool.common.audit.dashboard.followed_ledgers import (
    ExportFile,
    Followed,
    LedgerFile,
    stamp,
)
from presspool.common.audit.dashboard.snapshot import (
    CertificateLook,
    PoolLook,
    Snapshot,
    SourceFault,
)
from presspool.common.audit.evidence import audit_console, sources
from presspool.common.audit.evidence.evidence import Evidence, RunReading
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import (
    EvidenceError,
    InputError,
    LedgerError,
    PressPoolError,
    RollbackError,
)
from presspool.common.base.files import read_file
from presspool.common.pki.certificates import OUTLET, read_certificate
from presspool.common.released.counts_document import CountsDocument
from presspool.common.runs.result_file import RESULT_FILE
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.wire.approval import Approval

# In an outlet's home.
CERTIFICATE, FORKS = "identity/certificate.pem", "witness/heads"
CONTRADICTION = "witness/contradiction.json"
COUNTS = "counts"
_LARGEST_CARD = 1 << 20
_BROKEN = "It is damaged in a way that this program does not know; its log says more."
log = logging.getLogger(__name__)


def _still(_done: int, _total: int) -> None:
    """Nobody watches."""


class SourceWatch:
    """Sources that are followed.

    Args:
        paths: what to show, asked at every look.
        brought: keys and heads that the auditor has from elsewhere than the files.
        pool: what a coordinator knows besides.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        paths: Callable[[], Sequence[Path]],
        *,
        brought: sources.Brought = sources.NOTHING,
        pool: Callable[[], PoolLook] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._paths, self._brought, self._pool, self._clock = paths, brought, pool, clock
        self._runs: dict[Path, tuple[object, RunReading]] = {}
        self._exports: dict[Path, tuple[object, ExportFile]] = {}
        self._ledgers: dict[Path, LedgerFile] = {}
        self._heads: dict[Path, Checkpoint] = {}

    def look(self, moved: audit_console.Moved = _still) -> Snapshot:
        """Everything as it is now; only what changed is read again.

        Args:
            moved: called with the bytes read and the total of each export.
        """
        found = _Found()
        paths = list(self._paths())
        for path in paths:
            try:
                self._take(path, found, moved)
            except PressPoolError as error:
                self._forget(path)
                found.faults.append(_fault(path, error))
            except OSError as error:
                self._forget(path)
                words = f"cannot read: {error.strerror}"
                found.faults.append(SourceFault(source=path.name, words=words, evidence=False))
            except Exception:  # one source must not hide the others, however it is damaged
                log.exception("%s cannot be read", path)
                self._forget(path)
                found.faults.append(SourceFault(source=path.name, words=_BROKEN, evidence=True))
        pool = self._ask_pool(found)
        for gone in {*self._runs, *self._exports, *self._ledgers} - found.used:
            self._forget(gone)
        return Snapshot(
            evidence=Evidence(
                outlets=tuple(found.outlets[name] for name in sorted(found.outlets)),
                runs=tuple(sorted(found.runs, key=lambda r: (r.contract.name, r.contract.digest))),
            ),
            now=self._clock(),
            ledgers=found.ledgers,
            cards=found.cards,
            certificates=tuple(found.certificates),
            forks=tuple(found.forks),
            faults=tuple(found.faults),
            pool=pool,
            counts=tuple(found.counts),
        )

    def _ask_pool(self, found: _Found) -> PoolLook | None:
        try:
            return self._pool() if self._pool else None
        except PressPoolError as error:
            found.faults.append(SourceFault(source=error.where, words=str(error), evidence=False))
            return None

    def close(self) -> None:
        """Close all ledgers."""
        for path in list(self._ledgers):
            self._forget(path)

    def _forget(self, path: Path) -> None:
        self._runs.pop(path, None)
        self._exports.pop(path, None)
        for known in (path, _ledger_of(path)):
            if (ledger := self._ledgers.pop(known, None)) is not None:
                ledger.close()

    def _take(self, path: Path, found: _Found, moved: audit_console.Moved) -> None:
        if path.is_dir() and (path / RESULT_FILE).exists():
            self._take_run(path, found)
        elif path.is_dir():
            self._take_home(path, found)
        elif sources.is_ledger(path):
            shown = f"{path.resolve().parent.name}/{path.name}"
            self._take_ledger(path, shown, sources.approvals_beside(path), found)
        else:
            seen, known = stamp(path), self._exports.get(path)
            if known is None or known[0] != seen:
                known = seen, ExportFile(path, self._brought, moved)
                self._exports[path] = known
            found.ledger(path, known[1], known[1].reading())

    def _take_run(self, path: Path, found: _Found) -> None:
        adapter = path / "adapter" / sources.WEIGHTS
        seen, known = (stamp(path / RESULT_FILE), stamp(adapter)), self._runs.get(path)
        if known is None or known[0] != seen:
            known = seen, sources.read_run(path)
            self._runs[path] = known
        found.run(path, known[1])

    def _take_home(self, path: Path, found: _Found) -> None:
        file, approvals = sources.ledger_in(path)
        self._take_ledger(file, f"{path.resolve().name}/{file.name}", approvals, found)
        certificate = path / CERTIFICATE
        if certificate.is_file():
            facts = read_certificate(certificate.read_bytes())
            found.certificates.append(
                CertificateLook(kind=OUTLET, name=facts.name, ends=facts.ends)
            )
        proofs = [*sorted((path / FORKS).glob("*.fork")), path / CONTRADICTION]
        found.forks += [f"{path.resolve().name}: {f.name}" for f in proofs if f.is_file()]
        for answer in sorted((path / COUNTS).glob("*.json")):
            found.answer(answer)

    def _take_ledger(
        self, path: Path, source: str, approvals: Sequence[Approval], found: _Found
    ) -> None:
        if path in self._ledgers and self._ledgers[path].replaced:
            self._ledgers.pop(path).close()
        if path not in self._ledgers:
            self._ledgers[path] = LedgerFile(path, source, self._heads.get(path))
        ledger = self._ledgers[path]
        try:
            reading = ledger.reading(tuple(approvals))
        except PressPoolError:
            self._ledgers.pop(path).close()
            raise
        self._heads[path] = ledger.head
        found.ledger(path, ledger, reading)


class _Found:
    """What one look has found so far."""

    def __init__(self) -> None:
        self.outlets: dict[str, OutletReading] = {}
        self.ledgers: dict[str, Followed] = {}
        self.runs: list[RunReading] = []
        self.cards: dict[str, bytes] = {}
        self.certificates: list[CertificateLook] = []
        self.forks: list[str] = []
        self.faults: list[SourceFault] = []
        self.counts: list[CountsDocument] = []
        self.used: set[Path] = set()

    def ledger(self, path: Path, ledger: Followed, reading: OutletReading) -> None:
        if reading.origin in self.outlets:
            raise InputError(
                "one ledger twice",
                where=path.name,
                got=reading.origin,
                advice="show one of the files only",
            )
        self.outlets[reading.origin], self.ledgers[reading.origin] = reading, ledger
        self.used.add(path)

    def answer(self, path: Path) -> None:
        """Noised counts whose bytes their ledger bound before they were shown; else a fault."""
        try:
            counts = CountsDocument.read(path)
        except PressPoolError as error:
            self.faults.append(_fault(path, error))
            return
        outlet, digest = self.outlets.get(counts.origin), hashlib.sha256(path.read_bytes())
        bound = [r.digest for run in (outlet.runs if outlet else ()) for r in run.releases]
        if f"sha256:{digest.hexdigest()}" in bound:
            self.counts.append(counts)
        else:
            words = "These are not counts that the ledger beside them paid for."
            self.faults.append(SourceFault(source=path.name, words=words, evidence=True))

    def run(self, path: Path, run: RunReading) -> None:
        if any(known.contract.digest == run.contract.digest for known in self.runs):
            raise InputError(
                "one run twice",
                where=path.name,
                got=run.contract.digest,
                advice="show one of the folders only",
            )
        self.runs.append(run)
        self.used.add(path)
        card = path / "adapter" / model_card.CARD_FILE
        if run.adapter is not None and card.is_file():
            self.cards[run.adapter] = read_file(card, most=_LARGEST_CARD)


def _ledger_of(home: Path) -> Path:
    try:
        return sources.ledger_in(home)[0] if home.is_dir() else home
    except (PressPoolError, OSError):
        return home


def _fault(path: Path, error: PressPoolError) -> SourceFault:
    false = isinstance(error, EvidenceError | RollbackError) or (
        isinstance(error, LedgerError) and "locked" not in error.what
    )
    return SourceFault(
        source=path.name, words=str(error).replace(f"{path.parent}/", ""), evidence=false
    )
