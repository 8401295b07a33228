"""The frozen lower part of a model, run once for each record instead of once for each step.

Below the first layer that trains, a record's activations never change. `FrozenTrunk` cuts the model
there: `run` gives what the frozen part makes of a text, `outputs` goes on from that to what the
task's head says, differentiably.
With LoRA on the last two of six layers two thirds of the work are done once; where only the head
trains, everything but a matrix product is. `presspool.common.models.activation_cache` keeps what
`run` gave.

Invariants:
    * `outputs(run(texts))` are the whole model's outputs, up to the order of float additions.
    * Every pass has one of the public shapes of `presspool.common.models.batch_shapes`, free rows
      filled with a made record; each text is tokenised on its own. So what a record becomes does
      not depend on the records that it was run with, to the last bit where the machine's kernels
      treat all rows alike (`presspool.client.engine.alike` proves that before training).

Example: `trunk.outputs(trunk.run(["Cup final"]))[:1]` are a classifier's (1, labels) logits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.models.batch_shapes import ROWS, TOKENS, BatchShapes
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


class FrozenTrunk:
    """A contract's model, cut below the first layer that trains.

    Args:
        model: the contract's model; what is trainable must not change afterwards.
        contract: the contract.
        shapes: of every pass; those of the model's device, if not given.

    Attributes:
        task: the one that took the model.
        shapes: as given.
        depth: frozen layers below the cut; None where only the head trains.
    """

    def __init__(
        self, model: nn.Module, contract: Contract, shapes: BatchShapes | None = None
    ) -> None:
        self._model, self._contract, self._headed = model, contract, headed_of(model)
        self._any = next(self._headed.parameters())  # is where the model is
        self.task = self._headed.task
        encoder = self._headed.encoder
        path = _LAYERS.get(encoder.config.model_type, "")
        parent, _, self._name = path.rpartition(".")
        self._owner = encoder.get_submodule(parent)
        self._layers: Sequence[nn.Module] = getattr(self._owner, self._name) if path else []
        self.depth = _frozen_layers(encoder, self._layers)
        device = self._device.type
        self.shapes = shapes or BatchShapes(
            max_length=contract.task.max_length, tokens=TOKENS[device], most_rows=ROWS[device]
        )

    @property
    def key(self) -> Hashable:
        """Equal for trunks that give equal activations."""
        return self._frozen, torch.is_autocast_enabled(self._device.type)

    @cached_property
    def _frozen(self) -> Hashable:
        rows = tuple((width, self.shapes.rows(width)) for width in self.shapes.widths)
        return self._contract.model, self._contract.task, rows, self.depth

    @property
    def vocabulary(self) -> int:
        """Token ids that the encoder knows, from 0."""
        return int(self._headed.config.vocab_size)

    @cached_property
    def pools(self) -> bool:
        """Whether a record's activation is a single vector, found out with a made record."""
        return (
            self.depth is None
            and self.run_tokens([torch.zeros(1, dtype=torch.int64)])[0].dim() == 1
        )

    def tokens(self, text: str) -> Tensor:
        """A text's (tokens,) int64 ids, truncated to the contract's `max_length`; at least one.

        Raises:
            ValueError: the model has no state for an id. On a graphics processor the look-up would
                end every later computation of the process, of whomever.
            RuntimeError: the tokenizer panicked; also what `Task.encode` raises.
        """
        try:
            ids: Tensor = self.task.encode([text])["input_ids"][0]
        except BaseException as error:
            # A panic of the Rust below is no Exception, and would end a round over one record.
            if type(error).__name__ != "PanicException":
                raise
            raise RuntimeError("the tokenizer panicked") from None
        if (ids >= self.vocabulary).any():
            raise ValueError(f"the tokenizer knows more ids than the model's {self.vocabulary}")
        return ids if len(ids) else torch.tensor([self.task.tokenizer.pad_token_id])

    def run(self, texts: Sequence[str]) -> list[Tensor]:
        """What the frozen part makes of each text; see `run_tokens`."""
        return self.run_tokens([self.tokens(text) for text in texts])

    @torch.no_grad()
    def run_tokens(self, ids: Sequence[Tensor]) -> list[Tensor]:
        """What the frozen part makes of each record.

        Args:
            ids: (tokens,) int64 each.

        Returns:
            For each record its features where only the head trains, its ids where nothing is
            frozen, else (tokens, hidden) states; padding left out. Where records have parts, a
            last column of the states has their numbers.
        """
        if self.depth == 0:
            return list(ids)
        found: dict[int, Tensor] = {}
        for places in self.shapes.batches([len(one) for one in ids]):
            found |= zip(places, self._run_batch([ids[i] for i in places]), strict=True)
        return [found[i] for i in range(len(ids))]

    def _run_batch(self, ids: Sequence[Tensor]) -> list[Tensor]:
        batch, mask = self._filled(ids)
        if self.depth is None:
            found = self._headed.features(batch, mask)
        else:
            seen = _Passing()
            with self._layers_replaced([*self._layers[: self.depth], seen]):
                self._headed.features(batch, mask)
            found = seen.states
        pooled = self.depth is None and found.dim() == 2  # there are no tokens any more
        if self._keeps_parts:
            found = torch.cat([found, mask.unsqueeze(-1).to(found.dtype)], -1)
        return [
            (row if pooled else row[: len(one)]).clone()
            for row, one in zip(found, ids, strict=False)
        ]

    @property
    def _keeps_parts(self) -> bool:
        """Whether states carry the numbers of their parts, which ids alone tell, as a column."""
        return self.task.parted and bool(self.depth)

    def length(self, activation: Tensor) -> int:
        """Tokens of a record; of one that was pooled nothing but a single vector is left: 1."""
        return 1 if self.depth is None and activation.dim() == 1 else len(activation)

    def batches(self, activations: Sequence[Tensor]) -> list[list[int]]:
        """Places of the records that `outputs` takes together, as `BatchShapes.batches`."""
        return self.shapes.batches([self.length(activation) for activation in activations])

    def rows(self, activations: Sequence[Tensor]) -> int:
        """Rows, filling included, of what `outputs` makes of one of the `batches`."""
        longest = max(self.length(activation) for activation in activations)
        return self.shapes.rows(self.shapes.width(longest))

    def outputs(self, activations: Sequence[Tensor]) -> Tensor:
        """What the head says, float32, differentiable in what trains.

        Args:
            activations: of one of the `batches`.

        Returns:
            (rows, ...), of a per-token head (rows, width, ...) padded on the right; the rows after
            those of `activations` are filling.
        """
        if self.depth is None and activations[0].dim() == 1:
            rows = self.shapes.rows(self.shapes.width(1))
            features = torch.stack([row.to(self._device) for row in activations])
            free = features.new_zeros((rows - len(features), *features.shape[1:]))
            return self._headed.head(torch.cat([features, free])).float()  # type: ignore[no-any-return]
        states, mask = self._filled(activations)
        if self.depth is None:
            return self._headed.head(states).float()  # type: ignore[no-any-return]
        if self.depth == 0:
            return self._model(input_ids=states, attention_mask=mask)  # type: ignore[no-any-return]
        # The ids only give the embeddings their shape; `states` come in their place.
        # As many as they stand for: some models choose a layer's mask by its number.
        below = [_Passing(states) for _ in range(self.depth)]
        with self._layers_replaced([*below, *self._layers[self.depth :]]):
            return self._model(input_ids=mask, attention_mask=mask)  # type: ignore[no-any-return]

    def _filled(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Records of one batch, (rows, width, ...), and their mask, (rows, width) int64.

        The mask has the numbers of `Task.parts`, 1 where a record is one text, and 0 for padding.
        A free row is a record of zeros: one token where the batch is padded, else `max_length`.
        """
        longest = max(len(row) for row in rows)
        width = self.shapes.width(longest)
        parts, rows = self._parts(rows)
        states = rows[0].new_zeros((self.shapes.rows(width), width, *rows[0].shape[1:]))
        mask = torch.zeros(states.shape[:2], dtype=torch.int64)
        free = torch.zeros(width if longest == width else 1, dtype=torch.int64)
        mask[:, : len(free)] = self.task.parts(free)
        for place, (row, own) in enumerate(zip(rows, parts, strict=True)):
            states[place, : len(row)] = row
            mask[place, : len(row)] = own
        return states.to(self._device), mask.to(self._device)

    def _parts(self, rows: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The number of each token's part, (tokens,) int64 of each record, and what is left."""
        if rows[0].dim() == 1:
            return [self.task.parts(ids) for ids in rows], list(rows)
        if self._keeps_parts:
            return [row[:, -1].long() for row in rows], [row[:, :-1] for row in rows]
        return [torch.ones(len(row), dtype=torch.int64) for row in rows], list(rows)

    @property
    def _device(self) -> torch.device:
        return self._any.device

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


def _frozen_layers(encoder: nn.Module, layers: Sequence[nn.Module]) -> int | None:
    """How many of the first layers are frozen, and everything below them; None for all of it."""
    if not any(p.requires_grad for p in encoder.parameters()):
        return None
    inside = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    within_layers = {id(p) for layer in layers for p in layer.parameters()}
    outside = any(p.requires_grad and id(p) not in within_layers for p in encoder.parameters())
    return 0 if outside or True not in inside else inside.index(True)
