"""Rounds without waiting: the coordinator aggregates whenever K answers are in its buffer.

With ``[federation] buffer = 8`` and ``staleness = 2`` an outlet starts from the newest adapter when
it is ready; the first eight answers make an aggregation, and an answer that starts from an adapter
which is more than two aggregations old is dropped (FedBuff: Nguyen et al., AISTATS 2022, algorithm
1). An answer's weight is its outlet's population over √(1 + its staleness), as there in section 5.

Two things are stricter than there, so that what an outlet pays is known beforehand: an answer is
named by the aggregation that follows the adapter it starts from, and an outlet starts anew only
from an adapter that its last answer is part of, or after that was dropped. So it answers each
aggregation once at most, has one answer in a buffer at most, and starts at most `rounds` tasks: the
plan of the contract bounds its steps as in any run, and no task draws another's noise again.

Invariant: nothing is amplified. An outlet reserves and pays for the whole plan.

Example:
    >>> import json
    >>> from presspool.common.contract.contract import EXAMPLE, parse_contract
    >>> contract = parse_contract(json.loads(EXAMPLE)).replace(
    ...     outlets={"a": 9, "b": 9, "c": 9}, federation={"buffer": 2, "staleness": 1})
    >>> [round(weights_now(contract, {"a": 3, "b": 2}, number=3)[name], 3) for name in ("a", "b")]
    [0.333, 0.236]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from presspool.common.base.errors import ContractError

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract


def check_buffer(contract: Contract) -> None:
    """Return if what a contract says of a buffer fits the rest of it.

    Raises:
        ValueError: it does not; says what to change.
    """
    table, said = contract.federation, f"federation.buffer is {contract.federation.buffer}"
    if (table.buffer is None) != (table.staleness is None):
        raise ValueError("federation.buffer and federation.staleness: give both keys or neither")
    if table.buffer is None:
        return
    if table.buffer > len(contract.outlets):
        raise ValueError(f"{said}, but [outlets] lists only {len(contract.outlets)}: lower it")
    if table.buffer < table.quorum:
        raise ValueError(f"{said}, less than the quorum of {table.quorum}: raise it to that")
    for key, there in (
        ("cohort", table.cohort is not None),
        ("robust", table.attackers > 0),
        ("trust", contract.trust.adds_up),
    ):
        if there:
            raise ValueError(
                f"{said}, which does not go with federation.{key} = {getattr(table, key)!r}: "
                "leave out one of the two"
            )


def refuse_waiting(contract: Contract, where: str) -> None:
    """Raise `ContractError` where a run whose outlets do not wait would be run without a clock."""
    if contract.federation.buffer is not None:
        raise ContractError(
            "outlets that do not wait for each other are simulated only",
            where="[federation] buffer",
            expected=where,
            got=contract.federation.buffer,
            advice="presspool simulate, with a [simulation.clock]; or leave buffer and staleness "
            "out",
        )


def weights_now(contract: Contract, started: Mapping[str, int], *, number: int) -> dict[str, float]:
    """Each answer's weight in an aggregation.

    Args:
        contract: the run's.
        started: outlet to the round whose task it answers.
        number: of the aggregation, from 1.
    """
    shares = contract.weights()
    return {name: shares[name] * (1 + number - begun) ** -0.5 for name, begun in started.items()}
