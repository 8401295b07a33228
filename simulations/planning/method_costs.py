"""What a run would be with each method, before anything is trained: numbers, bytes, and noise.

Noise is measured, not derived: every number of the adapter is moved by a normal draw of the
standard deviation that the pool's mean update has after the whole run at a rate of 1, from where
the method starts. What that makes of the products beside frozen layers, and of what the head reads
of made texts, is averaged over draws. No rate is taken into account, and nothing is learnt: it says
how loud a method's noise is at one σ, not how well it trains.

Invariant: nothing here looks at data; contract and base model decide, and draws are the same on
each machine.

Example: `compare_methods(contract)[0].parameters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.models.adapters import State

_FLOAT_BYTES = 4
_DRAWS, _TEXTS = 4, (3, 6, 9, 12)


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """What a run would be with one method, or why it cannot be.

    Attributes:
        name: of the method.
        refused: why this version, or this task with this base model, does not have it; else "".
        parameters: numbers that train, by group.
        bytes: of the adapter, which goes down to an outlet and comes back once a round.
        product_noise: mean ‖ΔW‖², summed over the branches, of the noise alone; None where what is
            added is no product.
        feature_noise: mean square of what the noise moves in the features that the head reads, by
            that of the features.
    """

    name: str
    refused: str = ""
    parameters: Mapping[str, int] | None = None
    bytes: int | None = None
    product_noise: float | None = None
    feature_noise: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def compare_methods(contract: Contract) -> list[MethodCost]:
    """Every method that is known by name, those that train first.

    Args:
        contract: a frozen one; its other tables stay as they are, but numbers by group where only
            one group trains.
    """
    trained = [_cost(contract, name) for name in METHODS.names]
    return trained + [MethodCost(name=n, refused=why) for n, why in METHODS.refused.items()]


def noise_of(contract: Contract) -> float:
    """τ: standard deviation of a number's noise in the sum of the pool's mean updates."""
    plan = contract.plan
    batch = sum(plan.expected_batch(population) for population in contract.outlets.values())
    share = plan.noise_std * contract.trust.noise_share(contract)
    return share * math.sqrt(len(contract.outlets) * plan.steps) / batch


def _cost(contract: Contract, name: str) -> MethodCost:
    from presspool.common.models.adapters import group_of, trainable
    from presspool.common.models.models import build

    try:
        chosen = _with(contract, name)
        model = build(chosen).eval()
    except ContractError as error:
        return MethodCost(name=name, refused=f"{error.what} ({error.where})")
    sizes = dict.fromkeys(chosen.groups, 0)
    for parameter, values in trainable(model).items():
        sizes[group_of(parameter)] += values.numel()
    product, feature = _noise(model, chosen)
    return MethodCost(
        name=name,
        parameters=sizes,
        bytes=_FLOAT_BYTES * sum(sizes.values()),
        product_noise=product,
        feature_noise=feature,
    )


def _with(contract: Contract, name: str) -> Contract:
    """The contract with another method; where one group trains, numbers are that group's."""
    changes: dict[str, Any] = {"adapter": {"method": name}}
    if METHODS[name].groups == ("head",):
        for key, what in (
            ("privacy", "clip"),
            ("optimizer", "learning_rate"),
            ("server", "learning_rate"),
        ):
            given = getattr(getattr(contract, key), what)
            changes[key] = {what: given.get("all", given.get("head"))}
    return contract.replace(**changes)


def _noise(model: nn.Module, contract: Contract) -> tuple[float | None, float | None]:
    """Both measures, of the adapter's noise alone: heads are alike in all methods."""
    import numpy as np

    from presspool.common.models.adapters import group_of, load, read

    start, turns = read(model), _turns(contract, read(model))
    deviation = {name: noise_of(contract) * math.sqrt(share) for name, share in turns.items()}
    plain, random = _features(model), np.random.default_rng(0)
    products, moved = list[float](), list[float]()
    for _ in range(_DRAWS if "adapter" in contract.groups else 0):
        state = {
            name: array + (deviation[name] * random.standard_normal(array.shape)).astype(np.float32)
            if group_of(name) == "adapter"
            else array
            for name, array in start.items()
        }
        products.append(_products(model, contract, state))
        load(model, state)
        change = _features(model) - plain
        moved.append(float(change.square().sum() / plain.square().sum()))
        load(model, start)
    product = float(np.mean(products)) if products and products[0] else None
    return product, float(np.mean(moved)) if moved else None


def _turns(contract: Contract, state: State) -> dict[str, float]:
    """Share of the rounds in which each parameter trains."""
    rounds = range(1, contract.federation.rounds + 1)
    resting = [contract.method.resting(state.keys(), number) for number in rounds]
    return {name: sum(name not in r for r in resting) / len(resting) for name in state}


def _products(model: nn.Module, contract: Contract, state: State) -> float:
    """Σ ‖s·B A‖² of an adapter whose products are zero at the start; 0 where it has none."""
    total = 0.0
    for one in contract.method.branches(model, state):
        if one.frozen.numel() > 1 and one.down.numel() > 1:
            change = one.scale * (one.up.double() @ one.down.double())
            total += float(change.square().sum())
    return total


def _features(model: nn.Module) -> Tensor:
    """What the head reads of made texts."""
    import torch

    from presspool.common.models.models import headed_of

    headed = headed_of(model)
    encoded = headed.task.encode(headed.task.texts(headed.task.made(list(_TEXTS))).to_pylist())
    with torch.no_grad():
        return headed.features(**encoded)
