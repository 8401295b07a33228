"""Trust model "pooled": the sum of all outlets carries the noise, and is all that anybody sees.

Each outlet counts its readers' clipped gradients of one step in whole numbers and adds a *share* of
noise; K − c − d shares hide a reader as the plan's σ does (`docs/pooled-privacy.md`). A round is
one step: whole numbers travel in a ring, the coordinator adds them up, and what moves the adapter
is the sum divided by the public b = q·Σ n_j over the outlets that are in it.

In a simulation sums are taken in the open: there everything lies on one machine anyway. Over a
network the same whole numbers are masked and opened as a sum (`presspool.common.secagg`).

Invariants:
    * An answer alone says nothing and is never looked into: only the sum is converted and checked.
    * Outlets count by their numbers of readers through the sum itself; no weight is put on one.
    * Fewer than K − d answers, or a sum that honest outlets' could not be, fail the round; tried
      again, it is trained anew with fresh noise, and every attempt counts for the figure *alone*.

Example:
    >>> added([{"w": np.array([2**31 - 1, 5], "int32")}, {"w": np.array([1, -7], "int32")}])
    {'w': array([-2147483648,          -2], dtype=int32)}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from presspool import __version__
from presspool.common.accounting import pooled_cost
from presspool.common.accounting.pooled_plan import PooledPlan, cohort_of, of_contract, solve_pooled
from presspool.common.base.errors import ContractError, PressPoolError
from presspool.common.contract.schedule import rate_factor
from presspool.common.models.adapters import State, group_of
from presspool.common.trust.trust_model import TRAIN, Event, Phases, TrustModel, TrustWords

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract
    from presspool.common.wire.update import AdapterUpdate

Whole = NDArray[np.signedinteger[Any]]
SUM = "the pool's sum"
_ALARM = 41 * math.log(2)  # two tails of 2⁻⁴¹ each


class Pooled(TrustModel):
    """See the module."""

    phases = Phases((TRAIN,))
    masked = Phases(("keys", "shares", TRAIN, "consent", "reveal"))
    stated_by = ("presspool Renyi", "presspool")
    adds_up = True
    words = TrustWords(
        claim="Trust model pooled: the outlets' noise hides a reader in their sum, so this figure "
        "holds if at most {c} of the {outlets} outlets work together with the coordinator.",
        how="Each outlet adds a share of the noise, with its own generator, and only the sum of "
        "all outlets is seen. Readers are protected if at most {c} of the {outlets} outlets work "
        "together with the coordinator.",
        assumption="Assumed: at most {c} of the {outlets} outlets work together with the "
        "coordinator, nobody sees an answer before it is added up, and the other outlets add their "
        "noise as the contract says.",
        adversary="an adversary who sees every sum and every adapter of the run, if at most {c} of "
        "the {outlets} outlets work together with the coordinator",
        curator="the outlet is the curator of its readers' records; it adds a share of the noise "
        "itself, and the shares of all outlets together are what the claim counts on.",
        actors="Outlets hold their readers' records. The coordinator and up to {c} of the "
        "{outlets} outlets may work together; the others are trusted to add their noise. Whoever "
        "gets the adapter is not trusted.",
        noise_added_by="Each outlet adds its share, to its own sums, before anything leaves it",
        collusion="the claim holds if at most {c} of the {outlets} outlets work together with the "
        "coordinator; against more, only the figure for an outlet alone.",
        dropout="up to {d} of the {outlets} outlets may be missing from a step's sum; with more "
        "the step is done again",
        composed_by="Rényi costs at whole orders, which hold for sums of whole numbers",
        several="A reader at several outlets is a group inside each sum, which costs more than "
        "their ε added up.",
    )

    @classmethod
    def words_of(cls, body: Mapping[str, Any]) -> TrustWords:
        """The words with the contract's numbers; with letters where it is not at hand."""
        table = body.get("pooled") or {"colluders": "c", "dropouts": "d"}
        numbers = {
            "c": table["colluders"],
            "d": table["dropouts"],
            "outlets": len(body.get("outlets", ())) or "K",
        }
        said = {name: text.format(**numbers) for name, text in asdict(cls.words).items()}
        return TrustWords(**said)

    def check(self, contract: Contract) -> None:
        """The table is there, its numbers can be, and nothing is asked for that sums cannot do."""
        table, p, spec = contract.pooled, contract.privacy, contract.optimizer
        if table is None:
            raise ContractError(
                "noise that the pool shares needs to know whom it can count on",
                where="[pooled]",
                expected="colluders and dropouts, as colluders = 1, dropouts = 0",
                got="[federation] trust = 'pooled' alone",
            )
        cohort_of(contract, colluders=table.colluders, dropouts=table.dropouts)
        if p.noise_multiplier == 0 or (p.epsilon is not None and math.isinf(p.epsilon)):
            raise ContractError(
                "noise that the pool shares",
                where="[privacy] epsilon",
                expected="a number, as 3",
                got="no noise",
            )
        if (spec.name, spec.momentum) != ("sgd", 0.0):
            raise ContractError(
                "with pooled noise no outlet takes a step of its own",
                where="[optimizer]",
                expected="name = 'sgd' without momentum",
                got=f"{spec.name!r}, momentum {spec.momentum:g}",
                advice="choose the coordinator's optimiser in [server]",
            )
        if table.ring_bits and table.parameters and p.noise_multiplier:
            of_contract(contract)

    def filled(self, contract: Contract) -> Mapping[str, Mapping[str, Any]]:
        """σ for the pool, and the smallest ring that has room for its sums."""
        table, p = contract.pooled, contract.privacy
        assert table is not None  # `check` saw to it
        if table.parameters is None:
            raise ContractError(
                "how many numbers are trained is known when the contract is frozen",
                where="[pooled] parameters",
                advice="freeze the run where its base model is",
            )
        numbers = {"parameters": table.parameters, "grid_bits": table.grid}
        cohort = cohort_of(contract, colluders=table.colluders, dropouts=table.dropouts)
        if p.noise_multiplier is None:
            assert p.epsilon is not None  # `Privacy` demands one of the two
            draft = contract.replace(
                privacy={"noise_multiplier": 1.0, "epsilon": None}, pooled={"ring_bits": None}
            )
            plan = solve_pooled(draft.plan, epsilon=p.epsilon, cohort=cohort, **numbers)
        else:
            plan = PooledPlan(plan=contract.plan, cohort=cohort, **numbers)
        return {
            "privacy": {"noise_multiplier": plan.plan.noise_multiplier},
            "pooled": {"ring_bits": table.ring_bits or plan.smallest_ring()},
        }

    def noise_share(self, contract: Contract) -> float:
        """One of K − c − d."""
        return of_contract(contract).share_multiplier / contract.plan.noise_multiplier

    def grid_bits(self, contract: Contract) -> int:
        """The contract's."""
        return of_contract(contract).grid_bits

    def event(self, contract: Contract) -> Event:
        """Sums of whole numbers that the outlets' shares hide together."""
        return of_contract(contract).event()

    def epsilon(self, contract: Contract, *, charged: Event | None = None) -> float:
        """ε at the best of the ledger's whole orders, which hold on the lattice."""
        event = charged or self.event(contract)
        return pooled_cost.best_of(event, delta=contract.plan.delta).epsilon

    def spent(self, contract: Contract, steps: int) -> float:
        """ε of so many sums, at the best of the ledger's orders."""
        if steps == 0:
            return 0.0
        return self.epsilon(contract, charged=of_contract(contract).event(steps))

    def alone(self, contract: Contract, steps: int) -> float | None:
        """ε of the outlet's own share, once for every attempt."""
        event = of_contract(contract).event(max(1, steps))
        return pooled_cost.epsilon_alone(event, delta=contract.plan.delta)

    def several(self, contract: Contract, outlets: int, steps: int) -> tuple[float, float]:
        """A group inside each sum."""
        stated = of_contract(contract).stated(at=outlets, steps=max(1, steps))
        return stated.epsilon, contract.plan.delta

    def accountant(self) -> str:
        """Our own: whole orders."""
        return f"PressPool Rényi at whole orders {__version__}"

    def reserve(self, contract: Contract, steps: int) -> str:
        """Nothing more in δ, and the other figures."""
        count = len(contract.outlets)
        alone, (every, _) = self.alone(contract, steps), self.several(contract, count, steps)
        assert alone is not None
        return (
            "which hold on the noise's grid itself; if everybody but the outlet works together, "
            f"ε = {_up(alone)} holds (its own share alone); for a reader at all {count} outlets, "
            f"a group inside one sum, ε = {_up(every)}"
        )

    def colluding(self, contract: Contract) -> int:
        """The contract's c."""
        return of_contract(contract).cohort.colluders

    def dropping(self, contract: Contract) -> int:
        """The contract's d."""
        return of_contract(contract).cohort.dropouts

    def dtype(self, contract: Contract) -> str:
        """The ring's signed integers."""
        return f"int{of_contract(contract).ring_bits}"

    def fewest(self, contract: Contract) -> int:
        """K − d, or the contract's quorum where that is more."""
        cohort = of_contract(contract).cohort
        return max(contract.federation.quorum, cohort.outlets - cohort.dropouts)

    def seal(self, contract: Contract, delta: State) -> State:
        """The outlet's whole numbers in the ring: what does not fit wraps around."""
        return {name: array.astype(self.dtype(contract)) for name, array in delta.items()}

    def open(
        self, contract: Contract, answers: Sequence[Mapping[str, AdapterUpdate]]
    ) -> tuple[Mapping[str, AdapterUpdate], Mapping[str, float]]:
        """The one change that the sum makes: against its gradient, divided by b.

        Raises:
            PressPoolError: the sum is longer than honest outlets' can be.
        """
        updates = answers[self.phases.index(TRAIN)]
        total = added([updates[outlet].delta for outlet in sorted(updates)])
        return self.opened(contract, total, updates)

    def opened(
        self, contract: Contract, total: Mapping[str, Whole], updates: Mapping[str, AdapterUpdate]
    ) -> tuple[Mapping[str, AdapterUpdate], Mapping[str, float]]:
        """As `open`, of the sum itself and the updates that are in it, whose arrays are not read.

        Raises:
            PressPoolError: the sum is longer than honest outlets' can be.
        """
        plan, readers = of_contract(contract), sum(contract.outlets[outlet] for outlet in updates)
        first = updates[min(updates)]
        check_sum(total, plan, readers=readers, outlets=len(updates), round=first.round)
        change = moved(total, contract, plan, readers=readers, step=first.round - 1)
        return {SUM: replace(first, outlet=SUM, delta=change)}, {SUM: 1.0}


def added(deltas: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Whole]:
    """The sum of outlets' whole numbers, each array in its own ring."""
    total: dict[str, Whole] = {name: array.copy() for name, array in deltas[0].items()}
    for delta in deltas[1:]:
        for name, array in delta.items():
            total[name] += array  # numpy's integers wrap around
    return total


def moved(
    total: Mapping[str, Whole], contract: Contract, plan: PooledPlan, *, readers: int, step: int
) -> dict[str, NDArray[np.float32]]:
    """−rate · γ · sum / b, what one step of the contract's [optimizer] on all readers would be.

    Args:
        total: the sum, in steps of γ.
        contract: the run's.
        plan: of the contract.
        readers: declared readers of the outlets in the sum; b is q times as many.
        step: from 0.
    """
    rates = contract.optimizer.learning_rate
    factor = rate_factor(contract.optimizer, step, contract.steps)
    unit = -factor * plan.grid / plan.plan.expected_batch(readers)
    return {
        name: (rates["all" if "all" in rates else group_of(name)] * unit * whole).astype(np.float32)
        for name, whole in total.items()
    }


def honest_norm(plan: PooledPlan, *, readers: int, outlets: int) -> float:
    """What a sum of honest outlets exceeds with a chance of 2⁻⁴⁰ at most, L2, in steps of γ.

    Of n declared readers more than b + t are drawn with chance e^−L, t = L/3 + √(L²/9 + 2bL)
    (Bernstein), each moves the sum by Δ; and K shares, sub-Gaussian with Ks² on D coordinates,
    exceed s√(K·(D + 2√(DL) + 2L)) with chance e^−L. Outlets that have more readers than they
    declared are not covered: a factor of two among them is far below what noise leaves free.

    Args:
        plan: the run's.
        readers: declared, of the outlets in the sum.
        outlets: how many those are.

    Source: Hsu, Kakade & Zhang 2012 (Electron. Commun. Probab. 17), theorem 1, for the noise;
    Canonne, Kamath & Steinke 2020, section 2 (a discrete Gaussian is sub-Gaussian with s²).
    """
    b, size = plan.plan.expected_batch(readers), plan.parameters
    extra = _ALARM / 3 + math.sqrt(_ALARM**2 / 9 + 2 * b * _ALARM)
    drawn = min(float(readers), b + extra)
    noise = plan.scale * math.sqrt(outlets * (size + 2 * math.sqrt(size * _ALARM) + 2 * _ALARM))
    return drawn * plan.moved + noise


def check_sum(
    total: Mapping[str, Whole], plan: PooledPlan, *, readers: int, outlets: int, round: int
) -> None:
    """Return unless a sum is longer than honest outlets' can be.

    Raises:
        PressPoolError: it is; names the round. Whose part spoilt it cannot be known.
    """
    length = math.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in total.values()))
    largest = honest_norm(plan, readers=readers, outlets=outlets)
    if length > largest:
        raise PressPoolError(
            f"round {round}: the sum of {outlets} outlets is longer than honest outlets' can be",
            where="coordinator",
            expected=f"an L2 norm of at most {largest:.4g} steps of the grid",
            got=f"{length:.4g}",
            advice="an outlet spoils the sum, and none can be looked at alone: leave some out, or "
            "run with trust = 'local'",
        )


def _up(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"  # a claim must not shrink by rounding
