"""The outlet's ledger: budget is reserved here, durably, before anything is computed.

A reservation is admitted or refused and fsynced in one transaction; other processes wait for it.
The entries are the only truth: opening replays them all, and every write first reads what other
processes have written.

Invariants:
    * What a method returned survives a kill and a power cut. What failed is there whole or not at
      all; if it is there though the caller heard of an error, it counts as spent.
    * The caps hold over all processes together, in whatever order they come.
    * A file older than a head that was remembered or cosigned outside it reserves nothing.

Example:
    >>> import tempfile
    >>> signer = notes.Signer.generate("example.org/outlet", kind=notes.NOTE)
    >>> ledger = Ledger.create(Path(tempfile.mkdtemp()) / "ledger.db", signer=signer, order=4,
    ...                        unit="reader", delta=1e-5, caps=Caps(epsilon_max=8.0))
    >>> step = events.PoissonSampled(rate=0.02, event=events.Gaussian(noise_multiplier=1.2))
    >>> run = ledger.reserve(
    ...     run="sha256:" + "0" * 64, unit="reader", period="2026-Q1", head=None,
    ...     datasets=[entries.new_id()], event=events.SelfComposed(event=step, count=200))
    >>> ledger.settle(run.reservation).seq, ledger.book.spent == run.charge
    (2, True)
    >>> ledger.close()
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from presspool.common.errors import BudgetError, EvidenceError, LedgerError, RollbackError
from presspool.common.ledger import entries, events, merkle, notes
from presspool.common.ledger.book import Book
from presspool.common.ledger.checkpoints import Checkpoint
from presspool.common.ledger.database import Database, go_on
from presspool.common.ledger.filter import Caps

E = TypeVar("E", bound=entries.Entry)
_ALL = 2**62  # entries: more than there can be


def utc_today() -> date:
    """The day that entries get."""
    return datetime.now(UTC).date()


class Ledger:
    """An open ledger; a handle belongs to one thread, any number of handles may be open.

    Args:
        path: an existing ledger.
        today: gives the day of new entries (never earlier than the last entry's).
        step: the seam of `Database` for tests.

    Attributes:
        book: the state after the last entry that this handle has read or written.

    Raises:
        LedgerError: no ledger there.
        EvidenceError: its entries or its tree are damaged; names the first bad entry.
        StorageError: the file cannot be read.
    """

    def __init__(
        self, path: Path, *, today: Callable[[], date] = utc_today,
        step: Callable[[str], None] = go_on,
    ) -> None:  # fmt: skip
        self._start(Database(path, step=step), today)
        try:
            with self._database.reading():
                self._catch_up()
                self._check_tree()
            _ = self.book.opened  # an interrupted creation is no ledger yet
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, path: Path, *, signer: notes.Signer, unit: str, order: int, delta: float, caps: Caps,
        today: Callable[[], date] = utc_today, step: Callable[[str], None] = go_on,
    ) -> Ledger:  # fmt: skip
        """A new ledger named as its signer; an interrupted creation is completed.

        Raises:
            LedgerError: there is a ledger already, or a cap has no capacity.
            StorageError: the disk refuses.
        """
        caps.check(delta=delta, order=order)  # before a file is made
        self = cls.__new__(cls)
        self._start(Database(path, create=True, step=step), today)

        def first() -> entries.Opened:
            if self.book.size:
                raise LedgerError("there is a ledger already", where=str(path), advice="open it")
            return self._next(
                entries.Opened, origin=signer.key.name, unit=unit, order=order, delta=delta,
                key=signer.key.text, **_fields(caps),
            )  # fmt: skip

        try:
            self._write(first)
        except BaseException:
            self.close()
            raise
        return self

    def reserve(
        self, *, run: str, unit: str, period: str, datasets: Iterable[str],
        event: events.SelfComposed | events.Composed, head: Checkpoint | None,
        stated: entries.Stated | None = None,
    ) -> entries.Reserve:  # fmt: skip
        """Take a run's whole cost, or refuse it and write that down; before anything is computed.

        Args:
            run: digest of the contract.
            unit: of the run's plan.
            period: what the run counts under.
            datasets: random ids of what it trains on.
            event: the composed event of the code that will run.
            head: this ledger's highest head that was remembered or cosigned outside this file;
                None only where there has never been one.
            stated: the contract's own ε.

        Raises:
            BudgetError: it does not fit; a refusal was written.
            RollbackError: this file is older than `head`, or has another history.
            LedgerError: it could never be written down.
            StorageError: the disk refuses; whatever is on it counts as spent.
        """
        refused: list[BudgetError] = []

        def admit() -> entries.Reserve | entries.Refusal:
            if head is not None:
                self._compare(head)
            entry = self._next(
                entries.Reserve, reservation=entries.new_id(), run=run, unit=unit, period=period,
                datasets=tuple(sorted(set(datasets))), event=event, stated=stated,
                charge=events.charge(event, order=self.book.opened.order),
            )  # fmt: skip
            try:
                self.book.check(entry)
            except BudgetError as error:
                refused.append(error)
                parts = {"reason": error.reason, "charge": error.charge, "free": error.free}
                return self._next(entries.Refusal, run=run, **parts)
            return entry

        entry = self._write(admit)
        if isinstance(entry, entries.Refusal):
            raise refused[0]
        return entry

    def intend(
        self, reservation: str, *, round_number: int, steps: int, digest: str
    ) -> entries.ReleaseIntent:
        """Bind a round to the exact bytes about to be sent; binding them again changes nothing.

        Args:
            reservation: of the run.
            round_number: the round.
            steps: private steps executed in the run so far.
            digest: of the bytes.

        Raises:
            LedgerError: the round is bound to other bytes, or the steps were not reserved.
        """
        held = self.refresh().dangling.get(reservation)
        bound = held.released.get(round_number) if held else None
        if bound is not None and bound.digest == digest:
            return bound
        if bound is not None:
            raise LedgerError(
                "these are not the bytes of this round", where=f"round {round_number}",
                expected=bound.digest, got=digest,
                advice="send the bytes that were bound first, or nothing",
            )  # fmt: skip
        parts = {"round": round_number, "steps": steps, "digest": digest}
        return self._write(
            lambda: self._next(entries.ReleaseIntent, reservation=reservation, **parts)
        )

    def give_back(self, reservation: str, *, kept: int) -> entries.GiveBack:
        """Free the cost of all steps after the first `kept`, none of which was ever executed.

        The ledger refuses steps that a release declared; steps executed since are the caller's to
        count, those of an interrupted round included.

        Raises:
            LedgerError: such steps, or nothing to give back.
        """

        def lower() -> entries.GiveBack:
            held, charge = self.book.dangling.get(reservation), 0
            if held and 0 < kept < held.steps:
                event = held.entry.event.first(kept)
                charge = min(held.charge, events.charge(event, order=self.book.opened.order))
            return self._next(entries.GiveBack, reservation=reservation, kept=kept, charge=charge)

        return self._write(lower)

    def settle(self, reservation: str) -> entries.Settle:
        """The run is over; raises `LedgerError` where it is not open."""
        return self._write(lambda: self._next(entries.Settle, reservation=reservation))

    def change_policy(self, caps: Caps) -> entries.PolicyChanged:
        """New caps; raises `LedgerError` where one has no capacity."""
        return self._write(lambda: self._next(entries.PolicyChanged, **_fields(caps)))

    def receive(self, *, run: str, round_number: int, digest: str) -> entries.AdapterReceived:
        """An aggregated adapter arrived."""
        parts = {"run": run, "round": round_number, "digest": digest}
        return self._write(lambda: self._next(entries.AdapterReceived, **parts))

    def close_period(self, period: str) -> entries.PeriodClosed:
        """No more runs in a period; raises `LedgerError` while one of its runs is open."""

        def close() -> entries.PeriodClosed:
            charge = self.book.charged(period=period)
            return self._next(entries.PeriodClosed, period=period, charge=charge)

        return self._write(close)

    def rotate_key(self, old: notes.Signer, new: notes.VerifierKey) -> entries.KeyRotated:
        """Let `new` sign from here on; raises `EvidenceError` unless `old` signs until now."""
        message = entries.rotation_message(self.book.opened.origin, new.text)
        signature = base64.b64encode(old.sign(message).value).decode()
        parts = {"key": new.text, "signature": signature}
        return self._write(lambda: self._next(entries.KeyRotated, **parts))

    def checkpoint(self, signer: notes.Signer) -> notes.Note:
        """The ledger's signed head as it is now, with the cosignatures it has.

        Raises:
            LedgerError: another key signs this ledger.
        """
        with self._database.writing():
            self._catch_up()
            if signer.key.text != self.book.key:
                raise LedgerError("signing key", expected=self.book.key, got=signer.key.text)
            kept = self._database.note(self.book.size)
            if kept is not None:
                return notes.parse_note(kept)
            text = self.head().text
            note = notes.Note(text=text).signed(signer.sign(text))
            self._database.keep_note(self.book.size, note.encode())
        return note

    def cosign(self, note: notes.Note, *, witnesses: Iterable[notes.VerifierKey]) -> notes.Note:
        """Add the cosignatures of known witnesses to the kept checkpoint of that size.

        Raises:
            EvidenceError: none of them, or one that does not verify.
            LedgerError: not a checkpoint that this ledger signed.
        """
        found = notes.verified(note, witnesses)
        size = Checkpoint.parse(note.text).size
        with self._database.writing():
            data = self._database.note(size)
            kept = notes.parse_note(data) if data is not None else None
            if kept is None or kept.text != note.text:
                raise LedgerError("checkpoint", expected="one that this ledger signed")
            merged = kept.signed(*found)
            self._database.keep_note(size, merged.encode())
        return merged

    def checkpoints(self) -> list[notes.Note]:
        """All signed checkpoints, the smallest first."""
        return [notes.parse_note(data) for data in self._database.notes()]

    def head(self) -> Checkpoint:
        """Size and root of what this handle has read, unsigned."""
        origin = self.book.opened.origin
        return Checkpoint(origin=origin, size=self.book.size, root=self._edge.root())

    def compare(self, head: Checkpoint) -> None:
        """Raise `RollbackError` unless this ledger begins with the one that `head` describes."""
        self.refresh()
        self._compare(head)

    def bodies(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of entries `start` to `stop` - 1."""
        return self._database.bodies(start, stop)

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that entry `index` is among the first `size`."""
        return merkle.inclusion_proof(index, size, self._database.node)

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that the first `new` entries begin with the first `old`."""
        return merkle.consistency_proof(old, new, self._database.node)

    def refresh(self) -> Book:
        """The state after everything that any process has written."""
        self._catch_up()
        return self.book

    def close(self) -> None:
        """Close the file; the handle is of no use afterwards."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def _start(self, database: Database, today: Callable[[], date]) -> None:
        self._database, self._today = database, today
        self.book, self._edge, self._last = Book(), merkle.Frontier(), b""

    def _next(self, kind: type[E], **parts: Any) -> E:
        """The next entry of this kind; the clock never runs backwards."""
        day = max(self.book.day, self._today().isoformat())
        return entries.build(kind, seq=self.book.size, day=day, **parts)

    def _write(self, make: Callable[[], E]) -> E:
        """Write one entry, made and checked after everything that others have written."""
        with self._database.writing():
            self._catch_up()
            entry = make()
            self.book.check(entry)
            body = entry.canonical()
            self._database.append(entry.seq, body)
        self._take(body)
        return entry

    def _catch_up(self) -> None:
        """Replay what other processes have written since, after what we know is still there."""
        known = self.book.size
        rows = self._database.bodies(max(known - 1, 0), _ALL)
        if known and merkle.leaf_hash(next(rows, b"")) != self._last:
            raise RollbackError(
                "the ledger's file was replaced while it was open", where=str(self._database.path),
                expected=f"entry {known - 1} as it was", advice="restore the newest copy",
            )  # fmt: skip
        for body in rows:
            self._take(body)

    def _take(self, body: bytes) -> None:
        index = self.book.size
        try:
            self.book.apply(entries.parse_entry(body))
        except (EvidenceError, LedgerError) as error:
            raise EvidenceError(
                "the ledger is damaged", where=f"{self._database.path}, entry {index}",
                entry=index, got=error, advice="restore the newest copy",
            ) from error  # fmt: skip
        self._last = merkle.leaf_hash(body)
        self._edge.append(self._last)

    def _check_tree(self) -> None:
        """The stored nodes are those of the entries: as many, and with their root."""
        size, database = self.book.size, self._database
        right = 2 * size - size.bit_count()
        if database.node_count() != right or database.root(size) != self._edge.root():
            raise EvidenceError(
                "the stored tree is not that of the entries", where=str(database.path),
                expected=f"the tree of {size} entries", advice="restore the newest copy",
            )  # fmt: skip

    def _compare(self, head: Checkpoint) -> None:
        if head.origin != self.book.opened.origin:
            raise LedgerError("origin of head", expected=self.book.opened.origin, got=head.origin)
        older = self.book.size < head.size
        if older or self._database.root(head.size) != head.root:
            raise RollbackError(
                "this ledger is older than a head that it once had" if older
                else "this ledger has another history than a head that it once had",
                where=str(self._database.path), expected=f"at least {head.size} entries, and root "
                f"{head.root.hex()} at that size", got=f"{self.book.size} entries",
                advice="restore the newest copy; nothing is reserved from this one",
            )  # fmt: skip


def _fields(caps: Caps) -> dict[str, float | None]:
    return {
        "epsilon_max": caps.epsilon_max,
        "period_epsilon": caps.period,
        "dataset_epsilon": caps.dataset,
    }
