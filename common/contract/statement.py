"""The one sentence that says what an adapter's privacy is, and what it is not.

Example: `statement(contract, adapter="sha256:…", reproducible=False)`.
"""

from __future__ import annotations

import math
from importlib import metadata

from presspool.common.base.numbers import bound
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import ACCOUNTANT


def accountant() -> str:
    """Name and version of the accountant that stated ε."""
    return f"{ACCOUNTANT} {metadata.version('dp-accounting')}"


def statement(
    contract: Contract,
    *,
    adapter: str,
    reproducible: bool,
    where: str = "any one outlet of the run",
    epsilon: float | None = None,
) -> str:
    """The ε statement of DESIGN §3 for one run.

    Args:
        contract: the frozen contract.
        adapter: the adapter's `sha256:…`.
        reproducible: whether the noise could be drawn again (`--deterministic`).
        where: whose readers, and of which days.
        epsilon: of all that was handed out, where that is more than the plan's.
    """
    plan = contract.plan
    if not plan.protected:
        return (
            f"Adapter {adapter} is NOT protected: it was trained without noise "
            '(epsilon = "inf") and may reveal any reader\'s records.'
        )
    spent = plan.epsilon() if epsilon is None else epsilon
    shown = math.ceil(spent * 1000) / 1000  # up: a claim must not shrink by rounding
    claim = (
        f"(ε = {shown:.3f}, δ = {bound(plan.delta)})-DP at {plan.unit} level, add/remove, "
        f"covering {all_of(plan.unit)} at {where}, against {contract.trust.words.adversary}; 1 run "
        f"composed; excludes the choice of hyper-parameters{_weaker(plan.unit)}, shared accounts "
        f"and rotated reader ids; computed by {accountant()}, and at most {bound(plan.grid_delta)} "
        "more in δ for the noise's grid"
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
