"""The frozen lower part of a model, run once for each record instead of once for each step.

Below the first layer that trains, a record's activations never change. `FrozenTrunk` cuts the model
there: `run` gives what the frozen part makes of a text, `outputs` goes on from that to what the
task's head says, differentiably.
With LoRA on the last two of six layers two thirds of the work are done once; where only the head
trains, everything but a matrix product is. `ActivationCache` keeps what `run` gave.

Invariants:
    * `outputs(run(texts))` are the whole model's outputs, up to the order of float additions.
    * A record's activations do not depend on the records that it was run with.
    * Activations are readers' data: they stay in memory, bounded in bytes, and are never written.

Example: `trunk.outputs(cache.get(trunk, ["Cup final", "Vote"]))` are a classifier's (2, labels)
logits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.models import headed_of

# Encoders whose layers take and return hidden states and know nothing of each other. T5's do: its
# first layer makes the position bias of all.
_LAYERS = {
    "bert": "encoder.layer",
    "roberta": "encoder.layer",
    "xlm-roberta": "encoder.layer",
    "gpt2": "h",
    "llama": "layers",
    "mistral": "layers",
    "qwen2": "layers",
    "qwen3": "layers",
}
BATCH = 64


class FrozenTrunk:
    """A contract's model, cut below the first layer that trains.

    Args:
        model: the contract's model; what is trainable must not change afterwards.
        contract: the contract.

    Attributes:
        task: the contract's.
        depth: frozen layers below the cut; None where only the head trains.
    """

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        self._model, self._contract, self.task = model, contract, task_of(contract)
        self._headed = headed_of(model)
        encoder = self._headed.encoder
        path = _LAYERS.get(encoder.config.model_type, "")
        parent, _, self._name = path.rpartition(".")
        self._owner = encoder.get_submodule(parent)
        self._layers: Sequence[nn.Module] = getattr(self._owner, self._name) if path else []
        self.depth = _frozen_layers(encoder, self._layers)

    @property
    def key(self) -> Hashable:
        """Equal for trunks that give equal activations."""
        task = self._contract.task
        return self._contract.model, task.kind, task.max_length, self.depth, self._half

    @torch.no_grad()
    def run(self, texts: list[str]) -> list[Tensor]:
        """What the frozen part makes of each text.

        Returns:
            For each text its features where only the head trains, (tokens,) int64 ids where
            nothing is frozen, else (tokens, hidden) states; padding left out.
        """
        batch = self.task.encode(texts, same_width=self._half)
        ids, mask = batch["input_ids"].to(self._device), batch["attention_mask"].to(self._device)
        if self.depth is None:
            found = self._headed.features(ids, mask)
        elif self.depth == 0:
            found = ids
        else:
            seen = _Passing()
            with self._layers_replaced([*self._layers[: self.depth], seen]):
                self._headed.features(ids, mask)
            found = seen.states
        if self.depth is None and found.dim() == 2:  # pooled: there are no tokens any more
            return [row.clone() for row in found]
        return [row[real.bool()].clone() for row, real in zip(found, mask, strict=True)]

    def outputs(self, activations: Sequence[Tensor]) -> Tensor:
        """What the head says, float32, differentiable in what trains.

        Returns:
            (records, ...); of a per-token head (records, tokens, ...), padded on the right.
        """
        rows = [row.to(self._device) for row in activations]
        if self.depth is None and rows[0].dim() == 1:
            return self._headed.head(torch.stack(rows)).float()  # type: ignore[no-any-return]
        lengths = [len(row) for row in rows]
        width = self._contract.task.max_length if self._half else max(lengths)
        states = torch.stack([_padded(row, width) for row in rows])
        if self.depth is None:
            return self._headed.head(states).float()  # type: ignore[no-any-return]
        places = torch.arange(width, device=self._device)
        mask = (places < torch.tensor(lengths, device=self._device)[:, None]).long()
        if self.depth == 0:
            return self._model(input_ids=states, attention_mask=mask)  # type: ignore[no-any-return]
        # The ids only give the embeddings their shape; `states` come in their place.
        with self._layers_replaced([_Passing(states), *self._layers[self.depth :]]):
            return self._model(input_ids=mask, attention_mask=mask)  # type: ignore[no-any-return]

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._headed.parameters()).device
        return device

    @property
    def _half(self) -> bool:
        """Half precision, in which a batch's width moves every record's values by rounding.

        One reader's long text moved the others' clipped sum by 0.022 C. So the width is the
        contract's there.
        """
        return torch.is_autocast_enabled(self._device.type)

    @contextmanager
    def _layers_replaced(self, layers: list[nn.Module]) -> Iterator[None]:
        setattr(self._owner, self._name, nn.ModuleList(layers))
        try:
            yield
        finally:
            setattr(self._owner, self._name, self._layers)


class _Passing(nn.Module):
    """Stands among the layers: lets hidden states pass and remembers them, or gives its own."""

    def __init__(self, states: Tensor | None = None) -> None:
        super().__init__()
        self._own, self.states = states, torch.empty(0)

    def forward(self, states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        self.states = states if self._own is None else self._own
        return self.states


class ActivationCache:
    """What a trunk made of texts, kept in memory.

    Args:
        capacity: bytes; when they are used up, further texts are run anew each time. Samples are
            drawn at random, so there is nothing to gain from throwing out old texts for new ones.
    """

    def __init__(self, capacity: int = 1 << 30) -> None:
        self._capacity, self._used = capacity, 0
        self._key: Hashable = None
        self._kept: dict[str, Tensor] = {}

    @property
    def texts(self) -> list[str]:
        """The texts that are kept."""
        return list(self._kept)

    def forget(self, texts: Iterable[str]) -> None:
        """Keep these texts no longer."""
        for text in texts:
            self._used -= self._kept.pop(text).nbytes

    def get(self, trunk: FrozenTrunk, texts: list[str]) -> list[Tensor]:
        """The activations of the texts, run now where they are not kept.

        Args:
            trunk: of a model whose frozen part has not changed since the last call; one with
                another frozen part empties the cache.
            texts: in any order, also more than once.
        """
        if trunk.key != self._key:
            self._key, self._kept, self._used = trunk.key, {}, 0
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        fresh: dict[str, Tensor] = {}
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            fresh.update(zip(part, trunk.run(part), strict=True))
        for text, activation in fresh.items():
            if self._used + activation.nbytes <= self._capacity:
                self._kept[text] = activation.cpu()
                self._used += activation.nbytes
        return [self._kept[text] if text in self._kept else fresh[text] for text in texts]


def _padded(row: Tensor, width: int) -> Tensor:
    """A record's (tokens, ...) values with zeros up to `width` tokens."""
    padding = row.new_zeros((width - len(row), *row.shape[1:]))
    return torch.cat([row, padding])


def _frozen_layers(encoder: nn.Module, layers: Sequence[nn.Module]) -> int | None:
    """How many of the first layers are frozen, and everything below them; None for all of it."""
    if not any(p.requires_grad for p in encoder.parameters()):
        return None
    inside = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    within_layers = {id(p) for layer in layers for p in layer.parameters()}
    outside = any(p.requires_grad and id(p) not in within_layers for p in encoder.parameters())
    return 0 if outside or True not in inside else inside.index(True)
