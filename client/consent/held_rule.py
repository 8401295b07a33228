"""One rule of a policy held against one contract, and the usual kinds of rule.

Example:
    >>> at_most("policy-rounds", "max_rounds", "[federation] rounds", 9, 5, "fewer rounds").holds
    False
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from presspool.common.ledger.entries import GuardReason


@dataclass(frozen=True)
class HeldRule:
    """One rule held against one contract.

    Attributes:
        code: what the coordinator is told if it does not hold.
        key: of the policy.
        field: of the contract.
        asked: by the contract.
        allowed: by the policy.
        holds: whether the contract keeps the rule.
        change: what the coordinator could offer instead.
    """

    code: GuardReason
    key: str
    field: str
    asked: object
    allowed: str
    holds: bool
    change: str


def one_of(
    code: GuardReason, key: str, field: str, asked: str, names: Sequence[str], change: str
) -> HeldRule:
    """The name that is asked for is among those allowed."""
    allowed, holds = f"one of {', '.join(names)}", asked in names
    return HeldRule(code, key, field, asked, allowed, holds, change)


def at_most(
    code: GuardReason, key: str, field: str, asked: float, bound: float, change: str
) -> HeldRule:
    """The number that is asked for is not above the bound."""
    return HeldRule(code, key, field, asked, f"at most {bound:g}", asked <= bound, change)


def at_least(
    code: GuardReason, key: str, field: str, asked: float, bound: float, change: str
) -> HeldRule:
    """The number that is asked for is not below the bound."""
    found = at_most(code, key, field, asked, bound, change)
    return replace(found, allowed=f"at least {bound:g}", holds=asked >= bound)
