"""Which outlets train in a round: cohorts that take turns, drawn by public randomness.

With ``[federation] cohort = 50`` a round asks fifty of the outlets. All outlets are put in a random
order and asked in it, one cohort after the other; when the order is used up, all of them are put in
another one. Each round's cohort alone is a uniform random choice; over a run nobody is asked twice
more often than anybody else, so that the busiest outlet pays for as few rounds as can be.

The order of cycle c is that of sha256(DOMAIN, seed, c, outlet): anybody who has the contract can
draw it again, with `sha256sum` if need be. It hangs on seed and names alone, which are there before
σ is solved.

No privacy amplification is claimed. That needs a draw that stays secret from whoever sees the
updates; this one is known to all beforehand, so an outlet pays for each of its rounds in full. Who
chooses the seed can choose who is asked when, and gains nothing by it: what an outlet may be
charged for (`Federation.turns`) hangs on the contract's numbers, not on the draw.

Invariants:
    * Each cycle has every outlet once, so numbers of turns differ by one at most.
    * A cohort has no outlet twice, also where two cycles meet.

Example:
    >>> import json
    >>> from presspool.common.contract.contract import EXAMPLE, parse_contract
    >>> contract = parse_contract(json.loads(EXAMPLE)).replace(
    ...     outlets={"a": 9, "b": 9, "c": 9}, federation={"cohort": 2})
    >>> [cohort_of(contract, number) for number in (1, 2, 3)]
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    >>> [turn_of(contract, outlet, number=3) for outlet in cohort_of(contract, 3)]
    [2, 2]
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count, islice
from typing import TYPE_CHECKING

from presspool.common.base.errors import GuardError

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract

DOMAIN = "presspool/cohort/v1"
MOST_ASKED = 5_000_000
"""Tasks of a run with cohorts: everybody who reads its contract draws all of them."""

Cohorts = tuple[tuple[str, ...], ...]


def check_cohort(contract: Contract) -> None:
    """Return if what a contract says of cohorts fits the rest of it.

    Raises:
        ValueError: it does not; says what to change.
    """
    table, said = contract.federation, f"federation.cohort is {contract.federation.cohort}"
    if table.cohort is None:
        return
    if table.cohort > len(contract.outlets):
        raise ValueError(
            f"{said}, but [outlets] lists only {len(contract.outlets)}: lower the cohort, or leave "
            "it out to ask all of them"
        )
    if table.rounds * table.cohort > MOST_ASKED:
        raise ValueError(
            f"{said}, and rounds × cohort more than {MOST_ASKED:,}: take fewer rounds or a smaller "
            "cohort, or leave cohort out"
        )
    if contract.trust.adds_up:
        raise ValueError(
            f"{said}, but under trust = {table.trust!r} the noise of each sum is shared by all "
            "outlets of the run, whose keys are agreed once: take trust = 'local', or leave cohort "
            "out"
        )


def cohort_of(contract: Contract, number: int) -> tuple[str, ...]:
    """The outlets that train in a round, sorted; all of them in a run without cohorts.

    Args:
        contract: the run's.
        number: of the round, from 1 to its last.
    """
    size = contract.federation.cohort
    if size is None:
        return tuple(sorted(contract.outlets))
    return _drawn(_key(contract))[number - 1]


def rounds_of(contract: Contract, outlet: str) -> Sequence[int]:
    """The rounds in which an outlet trains, from 1."""
    if contract.federation.cohort is None:
        return range(1, contract.federation.rounds + 1)
    return _rounds(_key(contract)).get(outlet, ())


def turn_of(contract: Contract, outlet: str, *, number: int) -> int:
    """Which of an outlet's turns a round is, so counted that everybody's last has one number.

    That number is the most turns that any outlet has; one with fewer begins at 2. So an outlet's
    steps are always the last ones of the plan, as of one that joins late. In a run without cohorts
    it is the round's own number.

    Raises:
        GuardError: the outlet is not in the round's cohort.
    """
    if contract.federation.cohort is not None and number not in rounds_of(contract, outlet):
        raise GuardError(
            "round-not-agreed",
            "this outlet is not in the cohort of this round",
            where="contract [federation] cohort",
            expected="a round of " + ", ".join(map(str, rounds_of(contract, outlet))),
            got=f"round {number} of {outlet}",
            advice="nothing: a later round asks again",
        )
    return turns_until(contract, outlet, number=number)


def turns_until(contract: Contract, outlet: str, *, number: int) -> int:
    """The turn (`turn_of`) of an outlet's last round that is not after this one."""
    if contract.federation.cohort is None:
        return number
    own, most = rounds_of(contract, outlet), contract.federation.turns(len(contract.outlets))
    return most - len(own) + bisect_left(own, number + 1)


Key = tuple[int, tuple[str, ...], int, int]  # seed, sorted outlets, cohort, rounds


def _key(contract: Contract) -> Key:
    size, rounds = contract.federation.cohort, contract.federation.rounds
    assert size is not None
    return contract.seed, tuple(sorted(contract.outlets)), size, rounds


@lru_cache(maxsize=4)  # a worker or coordinator has one run at a time
def _drawn(key: Key) -> Cohorts:
    *_, rounds = key
    return tuple(tuple(sorted(chosen)) for chosen in islice(_in_turn(key), rounds))


@lru_cache(maxsize=4)
def _rounds(key: Key) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {name: [] for name in key[1]}
    for number, chosen in enumerate(_drawn(key), start=1):
        for name in chosen:
            found[name].append(number)
    return {name: tuple(numbers) for name, numbers in found.items()}


def _in_turn(key: Key) -> Iterator[list[str]]:
    """Cohorts without end: who was asked last in one cycle waits where the next begins."""
    seed, names, size, _ = key
    waiting: list[str] = []
    for cycle in count(1):
        order = _order(seed, cycle, names)
        first = _without(order, waiting)[: size - len(waiting)]
        yield waiting + first
        waiting = _without(order, first)
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]


def _without(order: Sequence[str], left_out: Sequence[str]) -> list[str]:
    out = frozenset(left_out)
    return [name for name in order if name not in out]


def _order(seed: int, cycle: int, names: Sequence[str]) -> list[str]:
    def place(name: str) -> bytes:
        return hashlib.sha256(f"{DOMAIN}\0{seed}\0{cycle}\0{name}".encode()).digest()

    return sorted(names, key=place)
