"""What a benchmark should reach, beside what was measured.

Example:
    >>> Claim(text="seconds", value=0.2, bound=0.25).met
    True
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One target, and what was measured.

    Attributes:
        text: the claim.
        value: measured.
        bound: of values that meet the claim, the last.
        at_least: whether larger values are the better ones.
    """

    text: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the measurement meets the claim."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound
