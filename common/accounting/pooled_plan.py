"""A run under trust "pooled": who may collude or drop out, the noise of each share, what it costs.

Of a contract that says `trust = "pooled"` it is the run's own (`of_contract`); of any other it is
what that run would be (`pooled_run`). Auditors can compute it without torch.

σ is that of the privacy plan: the noise that is *left* for the union of all readers when d outlets
have dropped out and c have told the coordinator their shares. Each share has the variance
(σΔ)²/(K − c − d); more shares than that make the sum noisier, never less private.

Invariants:
    * Any K − c − d shares have the variance (σΔ)² together; Δ = S/γ, γ a power of two.
    * c + d < K, and t = ⌊(K + c)/2⌋ + 1 <= K − d: two survivor sets of one step that t outlets
      signed each would share an honest outlet, and d may be missing without stopping the run.
    * A reader's clipped gradient is cut off towards zero to steps of γ, so that Δ is S/γ and no
      more (docs/pooled-privacy.md, proposition 1).
    * ε is stated at the best of the ledger's orders, for adding and for removing a reader.

Example:
    >>> template = PrivacyPlan(unit="reader", noise_multiplier=1.0, clip={"all": 0.2}, steps=16,
    ...     sampling_rate=0.125, records_per_reader=2, delta=1e-5)
    >>> pool = PooledCohort(outlets=20, readers=6000, colluders=4, dropouts=2)
    >>> run = solve_pooled(template, epsilon=3.0, cohort=pool, parameters=13_824)
    >>> pool.honest, pool.threshold, run.ring_bits, run.plan.noise_multiplier
    (14, 13, 32, 1.278)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from presspool.common.accounting import events, pooled_cost
from presspool.common.accounting.lattice import convolution
from presspool.common.base.errors import ContractError
from presspool.common.contract.privacy_plan import (
    LARGEST_RELEASE,
    PrivacyPlan,
    grid_step,
    smallest_tick,
    useful_noise,
)

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract

GRID_BITS = 16
"""The usual grid: S is 2¹⁶ to 2¹⁷ steps of it, so that 16,000 readers' sums fit into 32 bits."""
_COARSEST, _FINEST = 8, 40
_GIVE = "give [privacy] epsilon a number, as 3: without noise there is nothing to share"


@dataclass(frozen=True, kw_only=True)
class PooledCohort:
    """Who adds up, and who of them is not counted on; four public numbers of a contract.

    Attributes:
        outlets: K, outlets in the cohort.
        readers: declared readers of all of them; decides about the ring alone.
        colluders: c, outlets that may work together with the coordinator, at most.
        dropouts: d, outlets that may be missing from a step's sum, at most.

    Raises:
        ContractError: nobody is left to hide anybody, or too few to go on without the dropouts.
    """

    outlets: int
    readers: int
    colluders: int
    dropouts: int

    def __post_init__(self) -> None:
        _require(self.outlets >= 1, "outlets", ">= 1", self.outlets)
        _require(self.readers >= 1, "readers", ">= 1", self.readers)
        _require(self.colluders >= 0, "colluders", ">= 0", self.colluders)
        _require(self.dropouts >= 0, "dropouts", ">= 0", self.dropouts)
        who = f"{self.colluders} colluders and {self.dropouts} dropouts of {self.outlets} outlets"
        fewer = "count on fewer colluders and dropouts, or bring more outlets"
        _require(self.honest >= 1, "colluders", "colluders + dropouts < outlets", who, advice=fewer)
        _require(
            self.threshold <= self.outlets - self.dropouts,
            "dropouts",
            f"at most {self.outlets - self.threshold}: {self.threshold} outlets have to sign who "
            "is left, so that no two answers of one step can both be unmasked",
            who,
            advice=fewer,
        )

    @property
    def honest(self) -> int:
        """K − c − d, or m: so many shares of every unmasked sum are known to nobody else."""
        return self.outlets - self.colluders - self.dropouts

    @property
    def threshold(self) -> int:
        """t: so many outlets sign a survivor set, and rebuild a secret."""
        return (self.outlets + self.colluders) // 2 + 1


@dataclass(frozen=True, kw_only=True)
class PooledPlan:
    """Everything that decides what a pooled run costs a reader.

    Attributes:
        plan: σ of what is left of the noise, clip norms, q, k, T and δ.
        cohort: who adds up.
        parameters: D, trained numbers.
        grid_bits: how many binary places the grid is finer than S.
        ring_bits: sums are taken modulo 2^ring_bits.

    Raises:
        ContractError: numbers that cannot be; it says which would.
    """

    plan: PrivacyPlan
    cohort: PooledCohort
    parameters: int
    grid_bits: int = GRID_BITS
    ring_bits: int = pooled_cost.RINGS[-1]

    def __post_init__(self) -> None:
        _require(self.plan.protected, "noise", "noise, as the pool shares it", "none", advice=_GIVE)
        _require(
            1 <= self.numbers <= LARGEST_RELEASE,
            "numbers of the run",
            f"1 to {LARGEST_RELEASE}, trained numbers times steps",
            self.numbers,
        )
        _require(
            _COARSEST <= self.grid_bits <= _FINEST,
            "grid",
            f"{_COARSEST} to {_FINEST} binary places below the sensitivity",
            self.grid_bits,
        )
        convolution(shares=self.cohort.honest, scale=self.scale)  # the range check
        fits = self.smallest_ring()
        _require(
            self.ring_bits in pooled_cost.RINGS and self.ring_bits >= fits,
            "ring_bits",
            f"{fits}, in which the sum of {self.cohort.readers:,} readers' gradients of up to "
            f"{self.moved:.4g} steps each and {self.cohort.outlets} outlets' noise does not wrap",
            self.ring_bits,
        )

    @property
    def numbers(self) -> int:
        """How many numbers the run releases."""
        return self.parameters * self.plan.steps

    @property
    def grid(self) -> float:
        """γ: the power of two that is `grid_bits` binary places below S."""
        return grid_step(self.plan.sensitivity, self.grid_bits)

    @property
    def moved(self) -> float:
        """Δ = S/γ: how far a reader moves the sum (L2), in steps of the grid."""
        return self.plan.sensitivity / self.grid

    @property
    def share_multiplier(self) -> float:
        """The standard deviation of one outlet's share in units of S: σ/√(K − c − d)."""
        return self.plan.noise_multiplier / math.sqrt(self.cohort.honest)

    @property
    def scale(self) -> float:
        """s, the parameter of one outlet's discrete Gaussian, in steps of the grid."""
        return self.share_multiplier * self.moved

    def smallest_ring(self) -> int:
        """Bits of the smallest ring that its sums do not wrap around in.

        Raises:
            ContractError: there is none.
        """
        fits = pooled_cost.ring(
            largest=self.cohort.readers * self.moved,
            scale=self.scale,
            shares=self.cohort.outlets,
            numbers=self.numbers,
        )
        if fits is None:
            raise ContractError(
                "the sum of all outlets",
                where="pooled noise",
                expected=f"room for it in {pooled_cost.RINGS[-1]} bits",
                got=f"{self.cohort.readers:,} readers of up to {self.moved:.4g} steps each",
                advice=f"take a grid of fewer than {self.grid_bits} binary places",
            )
        return fits

    def cost(self, order: int, *, at: int = 1, steps: int | None = None) -> float:
        """ε(α) in nats of so many steps, T unless said, for a reader at so many outlets."""
        return pooled_cost.group_renyi(self.event(steps), outlets=at, order=order)

    def event(self, steps: int | None = None) -> events.SelfComposed:
        """What a ledger charges for so many steps, T where nothing is said: each sum, once.

        Raises:
            LedgerError: a run that no ledger can price.
        """
        step = events.build(
            events.PooledSum,
            rate=float(self.plan.sampling_rate),
            noise_multiplier=float(self.plan.noise_multiplier),
            shares=self.cohort.honest,
            scale=self.scale,
            parameters=self.parameters,
        )
        return events.build(events.SelfComposed, event=step, count=steps or self.plan.steps)

    def stated(self, *, at: int = 1, steps: int | None = None) -> pooled_cost.EpsilonByOrder:
        """ε if at most c outlets work with the coordinator, for a reader at so many outlets.

        Several are a group inside each of the sums, and no composition of several runs.

        Raises:
            ContractError: no outlet, or more than there are.
        """
        _require(1 <= at <= self.cohort.outlets, "outlets", f"1 to {self.cohort.outlets}", at)
        return pooled_cost.best(
            lambda order: self.cost(order, at=at, steps=steps), delta=self.plan.delta
        )

    def alone(self) -> pooled_cost.EpsilonByOrder:
        """ε if everybody else works together: the outlet's own share is all that hides a reader.

        Of T steps that succeed at once: against all others each further attempt is a release.
        """
        event = events.alone(self.event())
        assert event is not None  # its sums are pooled
        return pooled_cost.best_of(event, delta=self.plan.delta)


def solve_pooled(
    template: PrivacyPlan,
    *,
    epsilon: float,
    cohort: PooledCohort,
    parameters: int,
    grid_bits: int = GRID_BITS,
) -> PooledPlan:
    """The least σ of an ε, in the smallest ring that has room for the sums.

    Args:
        template: the plan but for its σ, which is replaced.
        epsilon: target for the whole run, under the assumption.
        cohort: who adds up.
        parameters: D, trained numbers.
        grid_bits: how many binary places the grid is finer than S.

    Raises:
        ContractError: an ε that is none or protects nobody, or sums that no ring has room for.
    """
    _require(0 < epsilon < math.inf, "epsilon", "a number > 0", epsilon, advice=_GIVE)

    def made(sigma: float, ring_bits: int = pooled_cost.RINGS[-1]) -> PooledPlan:
        plan = replace(template, noise_multiplier=sigma)
        return PooledPlan(
            plan=plan,
            cohort=cohort,
            parameters=parameters,
            grid_bits=grid_bits,
            ring_bits=ring_bits,
        )

    sigma = smallest_tick(lambda sigma: made(sigma).stated().epsilon / epsilon, start=1.0)
    return made(useful_noise(sigma, epsilon=epsilon), made(sigma).smallest_ring())


def cohort_of(contract: Contract, *, colluders: int, dropouts: int) -> PooledCohort:
    """The outlets of a contract, so many of which are not counted on.

    Raises:
        ContractError: several steps a round, or numbers that cannot be.
    """
    steps, rounds = contract.federation.local_steps, contract.federation.rounds
    if steps > 1:
        raise ContractError(
            "pooled noise is for one step a round: after a step outlets have to add up",
            where="[federation] local_steps",
            expected=1,
            got=steps,
            advice=f"local_steps = 1 and rounds = {rounds * steps} take as many steps",
        )
    return PooledCohort(
        outlets=len(contract.outlets),
        readers=sum(contract.outlets.values()),
        colluders=colluders,
        dropouts=dropouts,
    )


def of_contract(contract: Contract) -> PooledPlan:
    """The plan of a frozen contract whose trust model is "pooled".

    Raises:
        ContractError: it is of another one, not frozen, or its numbers cannot be.
    """
    table = contract.pooled
    if table is None or table.parameters is None or table.ring_bits is None:
        raise ContractError(
            "not a frozen contract with pooled noise", where="[pooled]", got=contract.name
        )
    return PooledPlan(
        plan=contract.plan,
        cohort=cohort_of(contract, colluders=table.colluders, dropouts=table.dropouts),
        parameters=table.parameters,
        grid_bits=table.grid,
        ring_bits=table.ring_bits,
    )


def pooled_run(contract: Contract, *, parameters: int, colluders: int, dropouts: int) -> PooledPlan:
    """What a frozen contract's run would be under trust "pooled", at the same ε.

    Args:
        contract: the run's; its ε, or what its σ costs.
        parameters: D, trained numbers.
        colluders: c.
        dropouts: d.

    Raises:
        ContractError: several steps a round, or numbers that cannot be.
    """
    cohort = cohort_of(contract, colluders=colluders, dropouts=dropouts)
    plan = contract.plan
    epsilon = contract.privacy.epsilon or plan.epsilon()
    return solve_pooled(plan, epsilon=epsilon, cohort=cohort, parameters=parameters)


def _require(holds: bool, key: str, expected: str, got: object, *, advice: str = "") -> None:
    if not holds:
        raise ContractError(key, where="pooled noise", expected=expected, got=got, advice=advice)
