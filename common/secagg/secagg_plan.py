"""The public numbers of a run's secure sums, and what must hold between them.

K outlets are in the cohort. At most c of them work together with the coordinator, at most d drop
out of a step. t = ⌊(K+c)/2⌋+1 shares open a secret and t signatures fix a survivor set. Any two
sets of t outlets have 2t − K > c outlets in common, so an honest one; this one line carries the
proofs in docs/adr/0011-secure-aggregation.md, and so t is computed here and can be set nowhere.

Invariants:
    * t ≤ K − d: a step that loses no more than d outlets can be finished.
    * No two outlets have the same signing key.
    * K inputs of at most `bound` cannot leave the ring, so their sum is the integers' sum.

Example:
    >>> cohort = {name: bytes([at]) * 32 for at, name in enumerate("ABCDE")}
    >>> plan = SecaggPlan(run="r", contract="sha256:0", cohort=cohort, colluders=1, dropouts=1,
    ...                   ring_bits=32, length=4, bound=1000)
    >>> plan.threshold, plan.fewest
    (4, 4)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from presspool.common.base.errors import ContractError
from presspool.common.pki.keys import KEY_BYTES
from presspool.common.secagg.secagg_messages import named, packed

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract

FEWEST_OUTLETS, MOST_OUTLETS = 3, 50
RINGS = (32, 64)
ATTEMPT = 1  # of each round over a network: one that has stopped goes on where it stopped
_MOST_LENGTH = 1 << 28
_PART_BYTES, _OTHER_BYTES = 384, 1024  # of one outlet, and of all the rest, in the longest message


@dataclass(frozen=True, kw_only=True)
class SecaggPlan:
    """Who sums what, and against whom it is safe.

    Attributes:
        run: the run's name.
        contract: digest of its contract.
        cohort: K outlets' names and the public keys (Ed25519) by which they sign.
        colluders: c.
        dropouts: d.
        ring_bits: w, 32 or 64; sums are modulo 2ʷ.
        length: integers of one input.
        bound: the largest absolute value of an integer of an input.

    Raises:
        ContractError: numbers that do not go together; it names them.
    """

    run: str
    contract: str
    cohort: Mapping[str, bytes]
    colluders: int
    dropouts: int
    ring_bits: int
    length: int
    bound: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "cohort", MappingProxyType(dict(sorted(self.cohort.items()))))
        self._check_cohort()
        self._check_threshold()
        self._check_ring()

    @property
    def threshold(self) -> int:
        """The number t of shares that open a secret, and of signatures that fix U."""
        return (len(self.cohort) + self.colluders) // 2 + 1

    @property
    def fewest(self) -> int:
        """K − d, the fewest inputs that are ever opened together."""
        return len(self.cohort) - self.dropouts

    @property
    def message_bytes(self) -> int:
        """No message of these sums is longer."""
        vector = self.length * self.ring_bits // 8
        return max(vector, _PART_BYTES * len(self.cohort)) + _OTHER_BYTES

    @cached_property
    def context(self) -> bytes:
        """SHA-256 of everything above: what keys and messages are bound to."""
        numbers = (self.colluders, self.dropouts, self.ring_bits, self.length)
        fields = packed(self.run, self.contract, named(self.cohort), *numbers, str(self.bound))
        return hashlib.sha256(packed("presspool/secagg/plan/v1", fields)).digest()

    @cached_property
    def points(self) -> dict[str, int]:
        """Where each outlet's shares are taken: its place in the cohort, from 1."""
        return {name: at for at, name in enumerate(self.cohort, start=1)}

    def _check_cohort(self) -> None:
        if not FEWEST_OUTLETS <= len(self.cohort) <= MOST_OUTLETS:
            span = f"{FEWEST_OUTLETS} to {MOST_OUTLETS} outlets"
            raise _unfit("the cohort of a secure sum", span, len(self.cohort))
        if any(len(key) != KEY_BYTES for key in self.cohort.values()):
            raise _unfit("a signing key of the cohort", f"{KEY_BYTES} bytes", "another length")
        if len(set(self.cohort.values())) < len(self.cohort):
            raise _unfit(
                "signing keys of the cohort", "one of its own for each outlet", "one twice"
            )

    def _check_threshold(self) -> None:
        if min(self.colluders, self.dropouts) < 0:
            raise _unfit("colluders and dropouts", "0 or more", (self.colluders, self.dropouts))
        if self.threshold > self.fewest:
            raise _unfit(
                f"threshold of {len(self.cohort)} outlets with {self.colluders} colluders and "
                f"{self.dropouts} dropouts",
                f"t <= K - d = {self.fewest}",
                f"t = {self.threshold}",
                advice="assume fewer colluders or dropouts, or find more outlets",
            )

    def _check_ring(self) -> None:
        if self.ring_bits not in RINGS:
            raise _unfit("ring of a secure sum", "32 or 64 bits", self.ring_bits)
        if not 1 <= self.length <= _MOST_LENGTH:
            raise _unfit("length of a secure sum", f"1 to {_MOST_LENGTH}", self.length)
        largest = len(self.cohort) * self.bound
        if not (self.bound >= 1 and largest < 1 << (self.ring_bits - 1)):
            wide = largest < 1 << (RINGS[-1] - 1)
            raise _unfit(
                f"sum of {len(self.cohort)} inputs of at most {self.bound}",
                f"less than 2**{self.ring_bits - 1}, and inputs of 1 or more",
                largest,
                advice="take ring_bits = 64" if wide else "take a coarser grid",
            )


def plan_of(contract: Contract, cohort: Mapping[str, bytes]) -> SecaggPlan:
    """The secure sums of a frozen contract whose noise the pool shares.

    What does not fit into the ring is the contract's own matter: its chance is part of the plan
    (`PooledPlan.smallest_ring`), and nothing is refused for its values.

    Args:
        contract: the run's.
        cohort: its outlets' public keys.

    Raises:
        ContractError: sums over a network are not possible with these numbers.
    """
    table = contract.pooled
    assert table is not None  # the trust model saw to it
    assert table.ring_bits is not None
    assert table.parameters is not None
    return SecaggPlan(
        run=contract.name,
        contract=contract.digest,
        cohort=cohort,
        colluders=table.colluders,
        dropouts=table.dropouts,
        ring_bits=table.ring_bits,
        length=table.parameters,
        bound=((1 << (table.ring_bits - 1)) - 1) // max(1, len(cohort)),
    )


def contract_context(contract: Contract) -> bytes:
    """What names a run before its cohort is known: its contract's digest."""
    return bytes.fromhex(contract.digest.removeprefix("sha256:"))


def require_sums(contract: Contract) -> None:
    """Return if a run's sums can be taken over a network; raises `ContractError`."""
    names = sorted(contract.outlets)
    plan_of(contract, {name: at.to_bytes(KEY_BYTES) for at, name in enumerate(names)})


def _unfit(what: str, expected: str, got: object, advice: str = "") -> ContractError:
    return ContractError(what, where="[pooled]", expected=expected, got=got, advice=advice)
