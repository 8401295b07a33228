"""What an agent asks of a task: of its header, before its body is fetched, and of the body.

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
from typing import Protocol

from presspool.client.agent import home as homes
from presspool.client.agent.spool import Spool
from presspool.client.agent.spool_files import SpooledTask
from presspool.client.consent.budget import Budget
from presspool.client.round import Round
from presspool.common.base.errors import (
    ContractError,
    EvidenceError,
    GuardError,
    InputError,
    LedgerError,
)
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.envelope import Signed, TaskHeader, open_task
from presspool.common.wire.flower import from_bytes

LARGEST_TASK = 512 << 20  # bytes


class OutletKeys(Protocol):
    """Who this outlet is, and whom it trusts."""

    @property
    def name(self) -> str:
        """The outlet."""

    @property
    def update(self) -> SigningKey:
        """Its key for updates."""

    @property
    def contract_key(self) -> bytes:
        """The coordinator's public key for tasks."""


def checked(
    signed: Signed, *, for_: OutletKeys, newest: Callable[[str], SpooledTask | None], largest: int
) -> SpooledTask:
    """The task that a header is, if it is one for us and not an old one.

    Args:
        signed: the header, as it came.
        for_: who this outlet is.
        newest: from a run to its newest task here.
        largest: bytes of a task's body; what declares more is not read.

    Raises:
        EvidenceError: it is not.
    """
    header = open_task(signed, for_.contract_key)
    if header.outlet != for_.name:
        raise EvidenceError(
            "a task of another outlet",
            where="task",
            got=header.outlet,
            expected=for_.name,
        )
    if header.bytes > largest:
        raise EvidenceError(
            "a task that is too large",
            where=f"run {header.run}",
            expected=f"at most {largest} bytes",
            got=header.bytes,
            advice="task_megabytes in outlet.toml says how much this outlet reads",
        )
    older = newest(header.run)
    if older is None:
        return SpooledTask(header, signed)
    if older.header.contract != header.contract:
        raise EvidenceError(
            "the run has another contract now",
            where=f"run {header.run}",
            expected=older.header.contract,
            got=header.contract,
        )
    if header.place < older.header.place:
        raise EvidenceError(
            "a task of an earlier round or phase",
            where=f"run {header.run}",
            expected="after round {}, phase {}".format(*older.header.place),
            got="round {}, phase {}".format(*header.place),
        )
    if header.place == older.header.place and signed.body != older.signed.body:
        raise EvidenceError(
            "this round's task has changed",
            where=f"run {header.run}",
            expected=older.header.nonce,
            got=header.nonce,
        )
    return SpooledTask(header, signed)


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
