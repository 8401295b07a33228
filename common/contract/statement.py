"""The one sentence that says what an adapter's privacy is, and what it is not.

Example: `statement(contract, adapter="sha256:…", reproducible=False)`.
"""

from __future__ import annotations

import math

from presspool.common.base.numbers import bound
from presspool.common.contract.contract import Contract


def statement(
    contract: Contract,
    *,
    adapter: str,
    reproducible: bool,
    where: str = "any one outlet of the run",
    steps: int | None = None,
) -> str:
    """The ε statement of DESIGN §3 for one run.

    Args:
        contract: the frozen contract.
        adapter: the adapter's `sha256:…`.
        reproducible: whether the noise could be drawn again (`--deterministic`).
        where: whose readers, and of which days.
        steps: that were handed out, where those may be more than the plan's.
    """
    plan = contract.plan
    if not plan.protected:
        return (
            f"Adapter {adapter} is NOT protected: it was trained without noise "
            '(epsilon = "inf") and may reveal any reader\'s records.'
        )
    trust, count = contract.trust, plan.steps if steps is None else steps
    spent = trust.epsilon(contract) if steps is None else trust.spent(contract, count)
    against = trust.words_of(contract.body()).adversary
    shown = math.ceil(spent * 1000) / 1000  # up: a claim must not shrink by rounding
    claim = (
        f"(ε = {shown:.3f}, δ = {bound(plan.delta)})-DP at {plan.unit} level, add/remove, "
        f"covering {all_of(plan.unit)} at {where}, against {against}; 1 run composed; "
        f"excludes the choice of hyper-parameters{_weaker(plan.unit)}, shared accounts "
        f"and rotated reader ids; computed by {trust.accountant()}, "
        f"{trust.reserve(contract, count)}"
    )
    if reproducible:
        return (
            f"Adapter {adapter} is NOT private: its noise was reproducible (a simulation). "
            f"The same run with secret noise would be {claim}."
        )
    return f"Adapter {adapter} is {claim}."


def all_of(unit: str) -> str:
    """What one unit of protection is, in words."""
    return "all records of one reader" if unit == "reader" else "one record"


def _weaker(unit: str) -> str:
    return "" if unit == "reader" else " and all but one of a reader's records (weaker)"
