"""What a run costs this outlet's readers: reserved before a gradient, bound before it leaves.

Stands between training and the ledger (`presspool.common.ledger.store`). A run has one reservation,
made when its first round here begins, for that round and all after it: earlier steps were never
executed here, and never will be. A round is begun, its steps are counted as they are taken, and the
digest of the exact bytes of its answer is written down before anybody is handed those bytes.

Invariants:
    * The event that is charged is the contract's trust model's, of the plan that the code runs:
      separately clipped groups share one draw of noise scaled to their joint sensitivity.
    * A run is reserved once in the ledger's lifetime; a run that is over is never trained again.
    * No round is trained that lies before the reservation's first. Which that is follows from the
      contract and the reserved event alone, so a kill cannot change it; the ledger's counts of
      steps are of reserved steps.
    * A round whose bytes are bound is never trained again: only those bytes may be sent.
    * A kill between any two writes leaves more charged than was spent, or as much, never less.
    * A step beyond the reserved ones ends the run before its noise is drawn.
    * Nothing here sees readers' data.

Example: ``with Budget.open(path, policy=policy) as budget, budget.round(contract, number=1,
adapter=digest) as meter: …; meter.step(1); …; meter.bind(data)``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Self

from presspool.client.consent.joined_rounds import (
    from_round,
    missed_steps,
    require_reserved,
    require_unspent,
)
from presspool.client.consent.ledger_fit import follow_policy, keep_apart
from presspool.client.consent.meter import Meter
from presspool.client.consent.policy import Policy, period_of
from presspool.common.accounting import events
from presspool.common.base.errors import (
    BudgetError,
    GuardError,
    InputError,
    LedgerError,
    PlanError,
    RollbackError,
    StorageError,
)
from presspool.common.contract.cohorts import turn_of, turns_until
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import LedgerState, Reservation
from presspool.common.ledger.log import utc_today
from presspool.common.ledger.store import Ledger
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.log_database import go_on

log = logging.getLogger(__name__)


class Budget:
    """A ledger with the rules of one outlet's policy; belongs to one thread.

    Args:
        ledger: an open ledger; the caller closes it (`open` does both).
        policy: the outlet's.
        dataset: random id of the data that is trained on; None for the ledger's only data set.
        head: gives this ledger's highest head that is known from elsewhere, if any is.
        outlet: its name in contracts; only runs with cohorts need it.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        policy: Policy,
        dataset: str | None = None,
        head: Callable[[], Checkpoint | None] = lambda: None,
        outlet: str = "",
    ) -> None:
        self._ledger, self._policy, self._head, self._outlet = ledger, policy, head, outlet
        self._dataset = dataset or only_dataset(ledger)

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        *,
        policy: Policy,
        dataset: str | None = None,
        head: Callable[[], Checkpoint | None] = lambda: None,
        step: Callable[[str], None] = go_on,
        outlet: str = "",
    ) -> Iterator[Self]:
        """The budget in a ledger's file; `step` is the ledger's seam for tests.

        Raises:
            LedgerError: no ledger there.
            EvidenceError: a damaged one.
        """
        with Ledger(path, step=step) as ledger:
            yield cls(ledger, policy=policy, dataset=dataset, head=head, outlet=outlet)

    def check(self, run: str, *, number: int) -> None:
        """Return if a round may still be trained, for all that the ledger knows.

        Raises:
            GuardError: its bytes are bound, or the run is over.
        """
        held = self._held(run)
        done = max(held.released, default=0) if held is not None else 0
        if number <= done:
            raise GuardError(
                "round-released",
                "the bytes of this round are bound, or of one after it",
                where=f"round {number} of {run}",
                expected=f"a round after {done}",
                got=number,
                advice="send the bytes again that were bound; no round is trained twice",
            )

    def check_released(self, run: str, *, number: int) -> None:
        """Return if this outlet's bytes of a round are bound: only then it says more on it.

        Raises:
            GuardError: they are not.
        """
        if not self.bound(run, number=number):
            raise GuardError(
                "round-not-agreed",
                "a phase after the training of a round in which this outlet released nothing",
                where=f"round {number} of {run}",
                expected="a round whose bytes are bound",
                advice="nothing: the next round asks again",
            )

    @contextmanager
    def round(
        self, contract: Contract, *, number: int, adapter: str, reproducible: bool = False
    ) -> Iterator[Meter]:
        """Begin a round: its run is reserved and its adapter written down when this is entered.

        Args:
            contract: an admitted one.
            number: of the round, from 1.
            adapter: digest of the adapter state that it starts from.
            reproducible: the outlet's noise can be drawn again, so that nobody is protected.

        Raises:
            InputError: noise of the other kind than this ledger is for.
            BudgetError: the run does not fit under a cap; the refusal is written down.
            GuardError: the round is bound, another cohort's or before the first that is paid for,
                the run is over, or its event has no price here.
            LedgerError: the ledger cannot be used.
            RollbackError: the file is older than a head that it once had: a run's rounds in it
                may have been released already, though it knows nothing of it.
            StorageError: the disk refuses.
            PlanError: more steps than were reserved; the run is over then, and stays charged.
        """
        self._require_newest()
        self.check(contract.digest, number=number)
        turn_of(contract, self._outlet, number=number)  # or raises, before anything is written
        keep_apart(self._ledger, reproducible=reproducible)
        held = self._held(contract.digest) or self._reserve(contract, number)
        try:
            yield self._begin(contract, held, number, adapter)
        except PlanError:
            self._settle(held.entry.reservation)
            raise

    def refuse(self, run: str, reason: entries.GuardReason) -> None:
        """Write down that the outlet's own rules refused a run; once for each reason."""
        if not self._ledger.refresh().refused(run, reason):
            self._ledger.refuse(run=run, reason=reason)

    def end(self, contract: Contract) -> int:
        """The run is over here before its last round: free what was never begun.

        A round that was begun counts as executed, whether or not its bytes were ever bound. After
        a kill in the middle the same call goes on; no round is trained in between either.

        Returns:
            What was freed, in `events.UNIT`s.

        Raises:
            GuardError: the run is over already.
            InputError: nothing of it was ever charged, so that its rounds could still be trained.
            LedgerError: a round begins at this very moment.
            RollbackError: the file is older than a head that it once had: it may know nothing of
                rounds that were released.
        """
        self._require_newest()
        held = self._held(contract.digest)
        if held is None:
            raise InputError(
                "nothing of this run is charged here",
                where=contract.digest,
                expected="a run of which a round has begun",
                advice="the policy and its approvals keep a run out; there is nothing to end",
            )
        begun = max(held.received, default=0)
        newest = turns_until(contract, self._outlet, number=max([begun, *held.released]))
        kept = max(
            held.executed, newest * contract.federation.local_steps - missed_steps(contract, held)
        )
        before, after = held.charge, held.charge
        if kept < held.steps:
            reservation = held.entry.reservation
            after = self._ledger.give_back(reservation, kept=kept, begun=begun).charge
        self._ledger.settle(held.entry.reservation)
        return before - after

    def bound(self, run: str, *, number: int) -> str:
        """The digest that binds a round's bytes, also when its run is over; "" for none."""
        first, reservation = self._ledger.refresh().reserved(run) or (0, "")
        for body in self._ledger.bodies(first, self._ledger.book.size):
            entry = entries.parse_entry(body)
            if isinstance(entry, entries.ReleaseIntent) and (
                (entry.reservation, entry.round) == (reservation, number)
            ):
                return entry.digest
        return ""

    @property
    def book(self) -> LedgerState:
        """The state of the ledger as it is now."""
        return self._ledger.refresh()

    def _require_newest(self) -> None:
        """Raise `RollbackError` if this file is older than a head that it once had."""
        if (head := self._head()) is not None:
            self._ledger.compare(head)

    def _begin(self, contract: Contract, held: Reservation, number: int, adapter: str) -> Meter:
        steps, reservation = contract.federation.local_steps, held.entry.reservation
        turn = turn_of(contract, self._outlet, number=number)
        first, last = (turn - 1) * steps, turn * steps
        missed = require_reserved(contract, held, turn)
        require_unspent(contract, held, first - missed)
        if held.received.get(number) != adapter:
            self._ledger.receive(run=contract.digest, round_number=number, digest=adapter)
            # Only a round that stands in the ledger before the run's end was counted there.
            now = self._held(contract.digest)
            assert now is not None  # it was reserved
            require_reserved(contract, now, turn)

        def bind(data: bytes) -> str:
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            try:
                self._ledger.intend(
                    reservation, round_number=number, steps=last - missed, digest=digest
                )
            except LedgerError:
                self.check(contract.digest, number=number)  # another process was first
                raise
            if last - missed == held.steps:
                self._settle(reservation)
            return digest

        return Meter(taken=first, last=last, _bind=bind)

    def _reserve(self, contract: Contract, number: int) -> Reservation:
        """Reserve the plan from a round on."""
        self._finish()
        follow_policy(self._ledger, self._policy)
        event, plan, run = self._event(contract, number), contract.plan, contract.digest
        accountant, package = contract.trust.stated_by
        stated = entries.Stated(
            accountant=accountant,
            delta=plan.delta,
            epsilon=contract.trust.epsilon(contract, charged=event),
            version=version(package),
        )
        try:
            entry = self._ledger.reserve(
                run=run,
                unit=plan.unit,
                period=period_of(utc_today(), self._policy.period),
                datasets=[self._dataset],
                event=event,
                head=self._head(),
                stated=stated,
                once=True,
            )
        except LedgerError as error:
            # Where another process reserved the run in the meantime, that is the reservation.
            refused = isinstance(error, BudgetError | RollbackError)
            if refused or self._ledger.refresh().reserved(run) is None:
                raise
            found = self._held(run)
            assert found is not None  # else `_held` raised: it was reserved and is over
            return found
        return self._ledger.book.dangling[entry.reservation]

    def _event(self, contract: Contract, number: int) -> events.SelfComposed | events.Composed:
        """The composed event of the plan from a round on, if this ledger can price it."""
        try:
            event = from_round(contract, turn_of(contract, self._outlet, number=number))
            events.charge(event, order=self._ledger.book.opened.order)
        except LedgerError as error:
            self.refuse(contract.digest, "event-not-priceable")
            raise GuardError(
                "event-not-priceable",
                "no budget can pay for this run",
                **error.parts | {"where": "[privacy]"},
            ) from None
        return event

    def _held(self, run: str) -> Reservation | None:
        """The run's open reservation; None if it has never been reserved."""
        book = self._ledger.refresh()
        known = book.reserved(run)
        if known is None:
            return None
        held = book.dangling.get(known[1])
        if held is None:
            raise GuardError(
                "run-over",
                "this run is over here",
                where=run,
                expected="a run that is open",
                advice="a coordinator that wants more offers a new contract, under a new name",
            )
        return held

    def _finish(self) -> None:
        """Settle runs whose last round was bound just before a kill."""
        for reservation, held in list(self._ledger.refresh().dangling.items()):
            if held.executed == held.steps:
                self._settle(reservation)

    def _settle(self, reservation: str) -> None:
        # What it says is true already; where it cannot be written now, `_finish` does it later.
        try:
            self._ledger.settle(reservation)
        except (LedgerError, StorageError) as error:
            log.warning("a run could not be settled yet: %s", error)


def only_dataset(ledger: Ledger) -> str:
    """The id of a ledger's only data set: as random as the ledger's own key."""
    first = next(ledger.bodies(0, 1))
    return hashlib.sha256(b"presspool/dataset/v1\0" + first).hexdigest()[:32]
