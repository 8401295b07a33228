"""An outlet's rules for runs whose noise the pool shares.

Invariant: pure decisions on contract and policy, as in `presspool.client.consent.decision`.

Example: `check_carried(contract, simulated=False)` refuses a pooled run on a network.
"""

from __future__ import annotations

from presspool.common.base.errors import GuardError
from presspool.common.contract.contract import Contract


def check_carried(contract: Contract, *, simulated: bool) -> None:
    """Return unless an answer that means something in a sum alone would be seen alone.

    Args:
        contract: the run's.
        simulated: whoever carries the answer is a simulation on this machine.

    Raises:
        GuardError: so it is.
    """
    if contract.trust.simulated_only and not simulated:
        raise GuardError(
            "policy-trust",
            f"this version adds up {contract.federation.trust} noise in simulations only",
            where="contract [federation] trust",
            expected="local",
            got=contract.federation.trust,
            advice="ask the coordinator for another trust model",
        )
