"""What an agent asks of a task before its body is fetched, and of the body before it is trained.

Invariants:
    * A header alone can only be refused for what no body could change: a run that is over here, or
      a round beyond what the policy ever allows.
    * A body is believed only where it says what the header, which the coordinator signed, says.

Example: `Agent(..., before=judge(home, spool))`; `asked(task, spool.body(task)).contract`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from presspool.client.agent import home as homes
from presspool.client.agent.spool import Spool, SpooledTask
from presspool.client.consent.budget import Budget
from presspool.client.round import Round
from presspool.common.base.errors import (
    ContractError,
    EvidenceError,
    GuardError,
    InputError,
    LedgerError,
)
from presspool.common.wire.envelope import TaskHeader
from presspool.common.wire.flower import from_bytes


def judge(home: Path, spool: Spool) -> Callable[[TaskHeader], None]:
    """Raises `GuardError` for a header whose round is never trained at this home."""

    def before(header: TaskHeader) -> None:
        with suppress(InputError, LedgerError, EvidenceError):  # the gate says it, in a code
            check(header)

    def check(header: TaskHeader) -> None:
        policy, number = homes.policy_in(home), header.round
        if number > policy.max_rounds:
            raise GuardError(
                "policy-rounds",
                "fewer rounds",
                where=f"round of run {header.run}",
                expected=f"at most {policy.max_rounds}",
                got=number,
                advice="nothing: the task's body was not fetched",
            )
        with homes.ledger_in(home) as ledger:
            known = ledger.book.reserved(header.contract)
            if known is None or known[1] in ledger.book.dangling:
                return
            bound = Budget(ledger, policy=policy).bound(header.contract, number=number)
        # What is bound may have phases to follow, or an answer that a kill kept from being sealed.
        if not bound and not spool.answer(header.task).exists():
            raise GuardError(
                "run-over",
                "this run is over here",
                where=header.contract,
                expected="a run that is open",
                advice="nothing: the task's body was not fetched",
            )

    return before


def asked(task: SpooledTask, body: bytes) -> Round:
    """The round that a task asks for, if it is what the signed header says.

    Raises:
        ContractError: it is not.
    """
    try:
        found = Round.of(from_bytes(body))
    except ValueError:
        raise ContractError("not a training task", where=f"task {task.header.task}") from None
    header = task.header
    expected = (header.contract, *header.place, header.base)
    says = (found.task.digest, found.number, found.phase, found.base)
    if says != expected:
        raise ContractError(
            "the task is another than its signed header says",
            where=f"task {task.header.task}",
            expected=expected,
            got=says,
        )
    return found
