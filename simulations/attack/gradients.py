"""What a reader with given records would add to a step: their clipped gradient, as a flat vector.

The attacker knows the contract, the adapter that was sent out and the canaries, so they compute
what the outlet computes, with the outlet's own engine.

Example: `Probe(model=model, …).clipped(records)` is (records, coordinates) float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import record_losses
from presspool.common.contract.contract import Contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapters import State, group_of, load, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk

Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A model at one state of its adapter; it holds that state after each question.

    Attributes:
        model: the contract's model.
        state: the adapter.
        cache: activations of the frozen layers.
    """

    model: nn.Module
    contract: Contract
    state: State
    cache: ActivationCache

    def clipped(self, records: pa.Table) -> Vectors:
        """Each record's clipped gradient, as if it were one reader's only record.

        Args:
            records: as the contract's task parses them.

        Returns:
            (records, coordinates) float32, coordinates in the order of `flat`.
        """
        rows = dict[int, Vectors]()
        with ReaderGradients(self.model) as engine:
            for places, losses in self._losses(self._trunk(), records):
                engine.backward(losses, torch.arange(len(losses)), len(losses))
                gradients = {
                    n: p.grad_sample.flatten(1)  # type: ignore[attr-defined]
                    for n, p in trainable(self.model).items()
                }
                rows |= zip(places, _clip(gradients, self.contract), strict=False)
        return np.stack([rows[place] for place in range(len(records))])

    def losses(self, records: pa.Table) -> Vectors:
        """Each record's loss: (records,) float32; arguments as for `clipped`."""
        found = np.empty(len(records), np.float32)
        with torch.no_grad():
            for places, losses in self._losses(self._trunk(), records):
                found[places] = losses[: len(places)].numpy()
        return found

    def _trunk(self) -> FrozenTrunk:
        load(self.model.eval(), self.state)
        return FrozenTrunk(self.model, self.contract)

    def _losses(
        self, trunk: FrozenTrunk, records: pa.Table
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Of each batch the places of its records, and their losses, with those of the filling."""
        texts = trunk.task.texts(records).to_pylist()
        for places in trunk.shapes.batches([self.cache.length(trunk, text) for text in texts]):
            activations = self.cache.get(trunk, [texts[place] for place in places])
            yield places, record_losses(trunk, activations, records.take(places))


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
