"""The outlet's ledger: budget is reserved here, durably, before anything is computed.

A reservation is admitted or refused and fsynced in one transaction; other processes wait for it.

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

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import BudgetError, EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.entry_base import Purpose
from presspool.common.ledger.frozen_data import DataFrozen, Opening
from presspool.common.ledger.log import Log, utc_today
from presspool.common.ledger.restored_entries import (
    Basis,
    Lost,
    Restored,
    leaf_of,
    owed,
    periods_between,
)
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, open_checkpoint
from presspool.common.transparency.log_database import LogDatabase, go_on

G = TypeVar("G", Lost, Restored)


class Ledger(Log):
    """An open ledger: what an outlet may write, each verb one entry, durable when it returns."""

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        signer: notes.Signer,
        unit: str,
        order: int,
        delta: float,
        caps: Caps,
        today: Callable[[], date] = utc_today,
        step: Callable[[str], None] = go_on,
    ) -> Ledger:
        """A new ledger named as its signer; an interrupted creation is completed.

        Raises:
            LedgerError: there is a ledger already, or a cap has no capacity.
            StorageError: the disk refuses.
        """
        caps.check(delta=delta, order=order)  # before a file is made
        self = cls.__new__(cls)
        self._start(LogDatabase(path, create=True, step=step), today)

        def first() -> entries.Opened:
            if self.book.size:
                raise LedgerError("there is a ledger already", where=str(path), advice="open it")
            return self._next(
                entries.Opened,
                origin=signer.key.name,
                unit=unit,
                order=order,
                delta=delta,
                key=signer.key.text,
                **_fields(caps),
            )

        try:
            self._write(first)
        except BaseException:
            self.close()
            raise
        return self

    def position(self, run: str) -> tuple[int, str]:
        """Index of a run's reserve entry, and the hex root up to it; `LedgerError` for none."""
        known = self.refresh().reserved(run)
        if known is None:
            raise LedgerError("the run has no reservation", where=run)
        return known[0], self.root(known[0] + 1).hex()

    def reserve(
        self,
        *,
        run: str,
        unit: str,
        period: str,
        datasets: Iterable[str],
        event: events.SelfComposed | events.Composed,
        head: Checkpoint | None,
        stated: entries.Stated | None = None,
        once: bool = False,
        purpose: Purpose = None,
    ) -> entries.Reserve:
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
            once: refuse, without an entry, a run that was ever reserved.
            purpose: what it is for, where it is no run.

        Raises:
            BudgetError: it does not fit; a refusal was written.
            RollbackError: this file is older than `head`, or has another history.
            LedgerError: it could never be written down, or is there already.
            StorageError: the disk refuses; whatever is on it counts as spent.
        """
        refused: list[BudgetError] = []

        def decide() -> entries.Reserve | entries.Refusal:
            if head is not None:
                self._compare(head)
            if once and self.book.reserved(run) is not None:
                raise LedgerError("the run has a reservation already", where=run)
            entry = self._next(
                entries.Reserve,
                reservation=entries.new_id(),
                run=run,
                unit=unit,
                period=period,
                datasets=tuple(sorted(set(datasets))),
                event=event,
                stated=stated,
                purpose=purpose,
                charge=events.charge(event, order=self.book.opened.order),
                alone=events.charge_alone(event, order=self.book.opened.order),
            )
            try:
                self.book.check(entry)
            except BudgetError as error:
                refused.append(error)
                parts = {"reason": error.reason, "charge": error.charge, "free": error.free}
                return self._next(entries.Refusal, run=run, **parts)
            return entry

        entry = self._write(decide)
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
                "these are not the bytes of this round",
                where=f"round {round_number}",
                expected=bound.digest,
                got=digest,
                advice="send the bytes that were bound first, or nothing",
            )
        parts = {"round": round_number, "steps": steps, "digest": digest}
        return self._write(
            lambda: self._next(entries.ReleaseIntent, reservation=reservation, **parts)
        )

    def give_back(
        self, reservation: str, *, kept: int, begun: int | None = None
    ) -> entries.GiveBack:
        """Free the cost of all steps after the first `kept`, none of which was ever executed.

        The ledger refuses steps that a release declared; steps executed since are the caller's to
        count, those of an interrupted round included.

        Args:
            reservation: of the run.
            kept: the steps that stay charged.
            begun: the newest round that had begun when the caller counted them; None where nobody
                else can begin one.

        Raises:
            LedgerError: such steps, nothing to give back, or another round has begun since.
        """

        def lower() -> entries.GiveBack:
            held, charge = self.book.dangling.get(reservation), 0
            if held and begun not in (None, newest := max(held.received, default=0)):
                raise LedgerError(
                    "a round has begun meanwhile", expected=begun, got=newest, advice="say it again"
                )
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

    def protect_nobody(self) -> entries.NonPrivate:
        """All runs will draw noise that can be drawn again: nothing is claimed, for ever.

        Raises:
            LedgerError: a run was reserved before, or it is said already.
        """
        return self._write(lambda: self._next(entries.NonPrivate))

    def receive(self, *, run: str, round_number: int, digest: str) -> entries.AdapterReceived:
        """An aggregated adapter arrived."""
        parts = {"run": run, "round": round_number, "digest": digest}
        return self._write(lambda: self._next(entries.AdapterReceived, **parts))

    def refuse(self, *, run: str, reason: entries.GuardReason) -> entries.Refusal:
        """The outlet's own rules refused a run, or a round of it, before it had a price."""
        return self._write(
            lambda: self._next(entries.Refusal, run=run, reason=reason, charge=0, free=0)
        )

    def freeze_data(self, opening: Opening, *, head: Checkpoint | None) -> DataFrozen:
        """Data is about to be frozen: its commitment, and what was asked for; `head` as above."""

        def say() -> DataFrozen:
            if head is not None:
                self._compare(head)
            return self._next(DataFrozen, **opening.said())

        return self._write(say)

    def restore(
        self, basis: Basis, *, like: str, leaves: Sequence[bytes], head: notes.Note | None
    ) -> Restored:
        """Go on from an older copy: keep the hashes of what is lost, and pay for it.

        After a kill in the middle the same call goes on, with the leaves that are missing then.

        Args:
            basis: what the operator says of what is lost.
            like: name of today's period, where the basis is "period".
            leaves: the leaf hashes of the entries that are not here.
            head: the highest head of this ledger that is known, signed by its key; None for none.

        Raises:
            EvidenceError: these leaves do not lead from here to the head; nothing is written.
            LedgerError: the basis does not hold for this ledger; nothing is written.
            StorageError: the disk refuses.
        """
        book, today = self.refresh(), self._today().isoformat()
        self._check_leaves(leaves, head)
        day = book.day if book.lost else max(book.day, today)
        periods = periods_between(book.known, day, like=like) if basis == "period" else ()
        charge = owed(book, basis, periods)
        if basis == "moved" and (leaves or book.lost):
            raise LedgerError(
                "entries came after this copy",
                where="moved",
                expected="a basis that charges for what is lost: period or lifetime",
                got=f"{len(leaves) + book.lost} entries that are known to be lost",
            )

        def write(kind: type[G], **parts: object) -> G:
            made = self._write(lambda: entries.build(kind, seq=self.book.size, day=day, **parts))
            assert isinstance(made, kind)
            return made

        for leaf in leaves:
            write(Lost, leaf=leaf.hex())
        self._keep(head)
        lost = self.book.lost
        return write(Restored, lost=lost, basis=basis, periods=periods, charge=charge)

    def _check_leaves(self, leaves: Sequence[bytes], head: notes.Note | None) -> None:
        edge, here = merkle.Frontier(), self.book.size
        size, root = 0, merkle.EMPTY_ROOT
        if head is not None:
            found, _ = open_checkpoint(head, log=notes.parse_key(self.book.key))
            size, root = found.size, found.root
        for leaf in (*map(leaf_of, self.bodies(0, min(here, size))), *leaves):
            edge.append(leaf)
        if here + len(leaves) != max(here, size) or (size and edge.root() != root):
            raise EvidenceError(
                "these entries do not lead to the head",
                where=str(self._database.path),
                expected=f"{size} entries, root {root.hex()}",
                got=f"{here} entries here and {len(leaves)} hashes",
                advice="this copy is of another ledger, or of another history of it",
            )

    def _keep(self, head: notes.Note | None) -> None:
        """Keep the head that others have, so that cosignatures of it find it here."""
        if head is None:
            return
        size, key = Checkpoint.parse(head.text).size, notes.parse_key(self.book.key)
        own = [s for s in head.signatures if (s.name, s.key_id) == (key.name, key.id)]
        with self._database.writing():
            if self._database.note(size) is None:
                kept = notes.Note(text=head.text, signatures=tuple(own[:1]))
                self._database.keep_note(size, kept.encode())


def _fields(caps: Caps) -> dict[str, float | None]:
    return {
        "epsilon_max": caps.epsilon_max,
        "period_epsilon": caps.period,
        "dataset_epsilon": caps.dataset,
    }
