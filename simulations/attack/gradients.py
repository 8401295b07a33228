"""What a reader with given records would add to a step: their clipped gradient, as a flat vector.

The attacker knows the contract, the adapter that was sent out and the canaries, so they compute
what the outlet computes, with the outlet's own engine.

Example: `clipped(model, contract, state, records)` is (records, coordinates) float32.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from peft import PeftModel

from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.training import record_losses
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, group_of, load, trainable
from presspool.common.models.frozen_trunk import ActivationCache, FrozenTrunk

BATCH = 64
Vectors = NDArray[np.float32]


def clipped(
    model: PeftModel,
    contract: Contract,
    state: State,
    records: pa.Table,
    cache: ActivationCache | None = None,
) -> Vectors:
    """Each record's clipped gradient at `state`, as if it were one reader's only record.

    Args:
        model: the contract's model; holds `state` afterwards.
        contract: the contract.
        state: the adapter.
        records: as the contract's task parses them.
        cache: activations of the frozen layers.

    Returns:
        (records, coordinates) float32, coordinates in the order of `flat`.
    """
    load(model.eval(), state)
    trunk, cache = FrozenTrunk(model, contract), cache or ActivationCache()
    rows = []
    with ReaderGradients(model) as engine:
        for part in _parts(records):
            texts = trunk.task.texts(part).to_pylist()
            losses = record_losses(trunk, cache.get(trunk, texts), part)
            engine.backward(losses, torch.arange(len(part)), len(part))
            gradients = {n: p.grad_sample.flatten(1) for n, p in trainable(model).items()}  # type: ignore[attr-defined]
            rows.append(_clip(gradients, contract))
    return np.concatenate(rows)


def losses(
    model: PeftModel,
    contract: Contract,
    state: State,
    records: pa.Table,
    cache: ActivationCache | None = None,
) -> Vectors:
    """Each record's loss at `state`: (records,) float32; arguments as for `clipped`."""
    load(model.eval(), state)
    trunk, cache = FrozenTrunk(model, contract), cache or ActivationCache()
    found = []
    with torch.no_grad():
        for part in _parts(records):
            texts = trunk.task.texts(part).to_pylist()
            found.append(record_losses(trunk, cache.get(trunk, texts), part).numpy())
    return np.concatenate(found)


def _parts(records: pa.Table) -> list[pa.Table]:
    return [records.slice(start, BATCH) for start in range(0, len(records), BATCH)]


def flat(state: State, factors: dict[str, float]) -> Vectors:
    """An update's arrays times each group's factor, as one vector in `clipped`'s order.

    Args:
        state: name to array.
        factors: factor of each parameter group, "all" or "adapter" and "head".
    """
    return np.concatenate(
        [state[n].ravel() * np.float32(of_group(factors, n)) for n in sorted(state)]
    )


def of_group(values: dict[str, float], name: str) -> float:
    """The value of a parameter's group."""
    return values["all"] if "all" in values else values[group_of(name)]


def _clip(gradients: dict[str, torch.Tensor], contract: Contract) -> Vectors:
    factors: dict[str, torch.Tensor] = {}
    for group, bound in contract.plan.clip.items():
        members = [g for n, g in gradients.items() if group in ("all", group_of(n))]
        norms = torch.cat(members, 1).norm(dim=1)
        factors[group] = (bound / norms.clamp(min=1e-12)).clamp(max=1.0)
    scaled = [
        g * factors["all" if "all" in factors else group_of(n)][:, None]
        for n, g in gradients.items()
    ]
    return torch.cat(scaled, 1).numpy()
