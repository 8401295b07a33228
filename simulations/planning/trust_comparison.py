"""A run file under both trust models, before anything is trained: noise, ε and bytes.

`local` is the run as it is: every outlet adds all of the noise that its readers need. `pooled` is
what the same run would be if the sum of all outlets carried that noise once, at the same ε
(`presspool.common.accounting.pooled_plan`).

Invariant: nothing here looks at data; the contract's public numbers decide.

Example: `compare_trust(contract, colluders=None, dropouts=None).to_json()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from presspool.common.accounting.pooled_plan import PooledPlan, pooled_run
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import GROUPS
from presspool.common.runs.recipe import ADAPTER_PAYS, noise_share

_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class TrustSide:
    """What a run would be under one trust model.

    Attributes:
        noise_multiplier: σ.
        epsilon: of a reader at one outlet, under the model's assumption.
        epsilon_loss: the same by a loss distribution of the real Gaussian.
        epsilon_alone: of that reader if everybody else works together.
        epsilon_two: of a reader at two outlets; None where there is one.
        epsilon_every: of a reader at every outlet.
        noise_share: group to noise by signal of the pool's mean gradient, over the run.
        adapter_pays: as `contract check` says; None where there is no choice.
        vector_bytes: of the vector that an outlet sends a round, without the protocol's own.
    """

    noise_multiplier: float
    epsilon: float
    epsilon_loss: float
    epsilon_alone: float
    epsilon_two: float | None
    epsilon_every: float
    noise_share: Mapping[str, float]
    adapter_pays: bool | None
    vector_bytes: int


@dataclass(frozen=True, kw_only=True)
class TrustComparison:
    """Both sides of one run.

    Attributes:
        name: the run's.
        pool: the pooled run.
        sides: trust model to what the run would be.
    """

    name: str
    pool: PooledPlan
    sides: Mapping[str, TrustSide]

    @property
    def quieter(self) -> float:
        """Local noise by pooled noise, on what the pool learns."""
        local, pooled = (next(iter(side.noise_share.values())) for side in self.sides.values())
        return local / pooled

    @property
    def verdict(self) -> str:
        """Which would pay, and what can be trained."""
        cohort = self.pool.cohort
        if self.quieter > 1:
            found = (
                f"Pooled noise would pay: it is {self.quieter:.1f} times smaller at the same ε, as "
                f"long as the coordinator has at most {cohort.colluders} of the {cohort.outlets} "
                "outlets on its side."
            )
        else:
            found = (
                "Pooled noise would not pay: with so few shares to count on it is "
                f"{1 / self.quieter:.1f} times as large as local noise at the same ε."
            )
        return f"{found} In this version it can be tried in simulations; pools train with local."

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        pool, plan = self.pool, self.pool.plan
        return {
            "schema": 1,
            "name": self.name,
            "outlets": pool.cohort.outlets,
            "readers": pool.cohort.readers,
            "colluders": pool.cohort.colluders,
            "dropouts": pool.cohort.dropouts,
            "threshold": pool.cohort.threshold,
            "steps": plan.steps,
            "sampling_rate": plan.sampling_rate,
            "delta": plan.delta,
            "ring_bits": pool.ring_bits,
            "grid_bits": pool.grid_bits,
            "order": pool.stated().order,
            "trust": {name: asdict(side) for name, side in self.sides.items()},
            "quieter": self.quieter,
            "pays": "pooled" if self.quieter > 1 else "local",
            "trainable": ["local"],
            "simulated": ["local", "pooled"],
            "verdict": self.verdict,
        }


def compare_trust(
    contract: Contract, *, colluders: int | None, dropouts: int | None
) -> TrustComparison:
    """Both trust models of a frozen contract.

    Args:
        contract: the run's.
        colluders: c; None for a fifth of the outlets.
        dropouts: d; None for a tenth of them.

    Raises:
        ContractError: a run that cannot be pooled; a model that does not fit.
        ModelError: the base model is missing or is not the pinned one.
    """
    from presspool.common.models.models import group_sizes

    outlets, table = len(contract.outlets), contract.pooled
    if table is not None:
        colluders = table.colluders if colluders is None else colluders
        dropouts = table.dropouts if dropouts is None else dropouts
        contract = _locally(contract)
    sizes = group_sizes(contract)
    pool = pooled_run(
        contract,
        parameters=sum(sizes.values()),
        colluders=_usual_colluders(outlets) if colluders is None else colluders,
        dropouts=(outlets + 5) // 10 if dropouts is None else dropouts,
    )
    sides = {"local": _local(contract, sizes), "pooled": _pooled(contract, pool, sizes)}
    return TrustComparison(name=contract.name, pool=pool, sides=sides)


def _locally(contract: Contract) -> Contract:
    """The same run with noise of its own at each outlet, at the same ε."""
    epsilon = contract.privacy.epsilon or contract.trust.epsilon(contract)
    return contract.replace(
        federation={"trust": "local"},
        pooled=None,
        privacy={"epsilon": epsilon, "noise_multiplier": None},
    ).with_noise()


def _usual_colluders(outlets: int) -> int:
    """A fifth to the nearest whole outlet, one at least: who remembers its own share is one."""
    return min(outlets - 1, max(1, (2 * outlets + 5) // 10))


def _local(contract: Contract, sizes: Mapping[str, int]) -> TrustSide:
    plan, outlets = contract.plan, len(contract.outlets)
    epsilon = plan.epsilon()
    share = {group: noise_share(plan, contract.outlets, sizes[group]) for group in sizes}
    return TrustSide(
        noise_multiplier=plan.noise_multiplier,
        epsilon=epsilon,
        epsilon_loss=epsilon,
        epsilon_alone=epsilon,
        epsilon_two=2 * epsilon if outlets > 1 else None,
        epsilon_every=outlets * epsilon,
        noise_share=share,
        adapter_pays=_pays(contract, share),
        vector_bytes=_FLOAT_BYTES * sum(sizes.values()),
    )


def _pooled(contract: Contract, pool: PooledPlan, sizes: Mapping[str, int]) -> TrustSide:
    """Its mean has the noise of K shares of σ²S²/m, where local's has K of σ²S²."""
    share = {
        group: noise_share(pool.plan, contract.outlets, sizes[group])
        / math.sqrt(pool.cohort.honest)
        for group in sizes
    }
    outlets = pool.cohort.outlets
    return TrustSide(
        noise_multiplier=pool.plan.noise_multiplier,
        epsilon=pool.stated().epsilon,
        epsilon_loss=pool.plan.epsilon(),
        epsilon_alone=pool.alone().epsilon,
        epsilon_two=pool.stated(at=2).epsilon if outlets > 1 else None,
        epsilon_every=pool.stated(at=outlets).epsilon,
        noise_share=share,
        adapter_pays=_pays(contract, share),
        vector_bytes=pool.ring_bits // 8 * pool.parameters,
    )


def _pays(contract: Contract, share: Mapping[str, float]) -> bool | None:
    return share["adapter"] <= ADAPTER_PAYS if contract.groups == GROUPS else None
