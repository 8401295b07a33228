"""Which rounds of a run an outlet pays for: the one in which it joins, and all after it.

Steps of earlier rounds were never executed here. They never will be, because no round before the
first that was reserved is trained, whatever the coordinator asks. In a run with cohorts the rounds
that are counted here are the outlet's own turns (`presspool.common.contract.cohorts.turn_of`): one
that has fewer than others pays as if it had missed their first.

Invariant: the first round that is paid for follows from the contract and from the event that stands
in the ledger; nothing else remembers it, so nothing can forget it.

Example: `from_round(contract, 5).steps` is what a run of ten rounds has left at its fifth.
"""

from __future__ import annotations

from presspool.common.accounting import events
from presspool.common.base.errors import GuardError, PlanError
from presspool.common.contract.contract import Contract
from presspool.common.ledger.ledger_state import Reservation


def from_round(contract: Contract, number: int) -> events.SelfComposed | events.Composed:
    """What a run's plan does in a round and all after it.

    A plan whose event does not count the contract's steps is taken whole, as is one without that
    round, which is refused then.

    Raises:
        LedgerError: an event that no ledger can price.
    """
    event = contract.trust.event(contract)
    missed = (number - 1) * contract.federation.local_steps
    return event.after(missed) if event.steps == contract.outlet_steps > missed else event


def missed_steps(contract: Contract, held: Reservation) -> int:
    """Steps of the plan before the first that was reserved: whole rounds.

    Raises:
        PlanError: what was reserved is not what the plan does from some round on.
    """
    planned, reserved = contract.trust.event(contract), held.entry.event
    missed = planned.steps - reserved.steps
    whole = missed >= 0 and missed % contract.federation.local_steps == 0
    if not whole or reserved != planned.after(missed):
        raise PlanError(
            "what was reserved is not what this run does from one of its rounds on",
            where=f"entry {held.entry.seq}",
            expected=planned,
            got=reserved,
            advice="the run is over here; report this, the program is at fault",
        )
    return missed


def require_reserved(contract: Contract, held: Reservation, number: int) -> int:
    """See that a round's steps are among those that its run's reservation pays for.

    Returns:
        `missed_steps`.

    Raises:
        GuardError: a round before the one in which the outlet joined.
        PlanError: a round after the last one that is paid for, or a reservation of another plan.
    """
    steps, missed = contract.federation.local_steps, missed_steps(contract, held)
    if (number - 1) * steps < missed:
        raise GuardError(
            "round-not-agreed",
            "a round before the one in which this outlet joined the run; nothing pays for it",
            where=f"round {number} of {contract.digest}",
            expected=f"round {missed // steps + 1}, or one after it",
            got=number,
            advice="nothing: the next round asks again",
        )
    if (last := number * steps - missed) > held.steps:
        raise PlanError(
            "steps that were not reserved",
            where=f"round {number}",
            expected=f"at most {held.steps}",
            got=last,
        )
    return missed


def require_unspent(contract: Contract, held: Reservation, before: int) -> None:
    """See that no round has released the steps that would pay for this one.

    An outlet's turns hang on its name, which no contract's digest covers: called otherwise from
    one round to the next, it would count them anew.

    Args:
        contract: the run's.
        held: its reservation.
        before: steps of the reservation that come before the round's.

    Raises:
        GuardError: a later round, by this count, has released already.
    """
    if before < held.executed:
        raise GuardError(
            "round-not-agreed",
            "an earlier round has released what pays for this one",
            where=contract.digest,
            expected=f"steps after the first {held.executed} that were reserved",
            got=f"step {before + 1}",
            advice="see that this outlet is called as in the rounds before",
        )
