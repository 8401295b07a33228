"""The round that a task's body asks for, held against its signed header.

Invariant: a round is trained only if contract, round, phase and adapter are those that were signed.

Example: `asked_round(task.header, spool.body(task)).number`.
"""

from __future__ import annotations

from presspool.client.round import Round
from presspool.common.base.errors import ContractError
from presspool.common.wire.envelope import TaskHeader
from presspool.common.wire.flower import from_bytes


def asked_round(header: TaskHeader, body: bytes) -> Round:
    """The round that a task asks for, if it is what the signed header says.

    Args:
        header: what the coordinator signed.
        body: the task's, whose digest stands in the header.

    Raises:
        ContractError: it is not.
    """
    try:
        asked = Round.of(from_bytes(body))
    except ValueError:
        raise ContractError("not a training task", where=f"task {header.task}") from None
    expected = (header.contract, *header.place, header.base)
    found = (asked.task.digest, asked.number, asked.phase, asked.base)
    if found != expected:
        raise ContractError(
            "the task is another than its signed header says",
            where=f"task {header.task}",
            expected=expected,
            got=found,
        )
    return asked
