"""The steps of one begun round, counted one by one, and the bytes that it ends in.

Invariant: a step that was not reserved, or is out of order, raises before its noise is drawn.

Example:
    >>> meter = Meter(taken=0, last=1, _bind=lambda data: "sha256:…")
    >>> meter.step(1)
    >>> meter.bind(b"the exact bytes")
    'sha256:…'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from presspool.common.base.errors import PlanError


@dataclass(kw_only=True)
class Meter:
    """One begun round: how many steps it may take, and the bytes it ends in.

    Attributes:
        taken: steps of the run when the round's newest step is done, as Opacus counts them.
        last: step of the run with which the round ends.
    """

    taken: int
    last: int
    _bind: Callable[[bytes], str]

    def step(self, count: int) -> None:
        """Say that step `count` of the run (from 1) is about to be taken.

        Raises:
            PlanError: it was not reserved for this round, or is out of order.
        """
        if count != self.taken + 1 or count > self.last:
            raise PlanError(
                "private steps",
                where="budget",
                expected=f"step {self.taken + 1} of the run, "
                f"with {self.last} reserved up to this round",
                got=f"step {count}",
                advice="the run is over here; report this, the program is at fault",
            )
        self.taken = count

    def bind(self, data: bytes) -> str:
        """Write down the digest of the round's bytes; only after this may they be handed out.

        Returns:
            `sha256:` and the digest.

        Raises:
            PlanError: the round did not take exactly its steps.
            GuardError: another process has bound other bytes to this round.
            StorageError: the disk refuses; the bytes may not be handed out.
        """
        if self.taken != self.last:
            raise PlanError(
                "private steps of the round",
                where="budget",
                expected=f"up to step {self.last}",
                got=self.taken,
            )
        return self._bind(data)
