"""What the other contestants train: the model of `presspool bench engine`, one client at a time.

Invariants:
    * A client's step is one forward and one backward pass over all its records, clipped as a whole
      and noised, as the client of a locally private run does it.
    * Model, records and number of trained numbers are every contestant's.

Example: ``task = ClientTask(RoundSizes(clients=2)); change = task.update(client=1)``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from presspool.simulations.bench.engine_rows import Row
from presspool.simulations.bench.engine_tasks import make_task
from presspool.simulations.bench.simulators.simulator_turns import (
    CLIP,
    LEARNING_RATE,
    NOISE,
    RoundDone,
    RoundSizes,
)

Arrays = Mapping[str, NDArray[np.float32]]


class ClientTask:
    """The model, and every client's records.

    Attributes:
        model: the PEFT model.
        parameters: what trains, by name.
        losses: from ids, mask and labels to (records,) losses.
    """

    def __init__(self, sizes: RoundSizes) -> None:
        torch.set_num_threads(1)
        row = Row(
            title="a round",
            model="minilm",
            targets=("query", "value"),
            records=sizes.clients * sizes.records,
            tokens=sizes.tokens,
        )
        made = make_task(row, "cpu")
        torch.seed()  # it was seeded for the model; noise is new in each process
        self.model: nn.Module = made.model
        self.losses, self._whole, self._sizes = made.usual, made.whole, sizes
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    @property
    def trained(self) -> int:
        """Numbers that train."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def records_of(self, client: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, mask and labels, (records, tokens) and (records,), of a client."""
        first = client * self._sizes.records
        ids, mask, labels = (part[first : first + self._sizes.records] for part in self._whole)
        return ids, mask, labels

    def update(self, client: int) -> dict[str, Tensor]:
        """A client's step from the model as it is: what it would add, clipped and noised."""
        trained = list(self.parameters.values())
        loss = self.losses(*self.records_of(client)).mean()
        gradients = torch.autograd.grad(loss, trained)
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        factor = min(1.0, CLIP / max(float(norm), 1e-12))
        return {
            name: -LEARNING_RATE * (g * factor + NOISE * CLIP * torch.randn_like(g))
            for name, g in zip(self.parameters, gradients, strict=True)
        }

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What trains, as it is now."""
        return {name: p.detach().numpy().copy() for name, p in self.parameters.items()}

    def load(self, arrays: Arrays) -> None:
        """Take what trains from elsewhere."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(torch.tensor(arrays[name]))

    def trained_by(self, client: int, arrays: Arrays) -> dict[str, NDArray[np.float32]]:
        """A client's whole work where arrays travel: load, step, and what trains afterwards."""
        self.load(arrays)
        change = self.update(client)
        return {name: array + change[name].numpy() for name, array in arrays.items()}


def done_between(before: Arrays, after: Arrays, *, clients: int, records: int) -> RoundDone:
    """What a round did, from what trained before and after it."""
    squares = (float(np.square(after[name] - before[name]).sum()) for name in before)
    return RoundDone(
        clients=clients,
        records=records,
        trained=sum(array.size for array in after.values()),
        moved=float(np.sqrt(sum(squares))),
    )
