"""One pass of the base model over rows of different adapters.

Where an adapter is low-rank branches beside frozen layers, a batch may hold rows of several: each
frozen product runs once over all rows, and to each adapter's own rows its branches are added, so
s·B A x of a row is of its adapter alone. Rows of adapters that train a head only share everything;
equal ones among them are one row.

Invariants:
    * A row's states are those that its adapter's own model gives, up to the order of float
      additions. `fits` proves it for each adapter with made records before it is served here;
      whatever does not (a method that trains something else) is served by its own model.
    * Rows do not see each other.

Example: `trunk.states([TrunkRow(ids=ids, parts=parts, branches=branches)], parted=False)[0]`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from presspool.common.methods.method import Branch
from presspool.common.models.models import HeadedModel
from presspool.common.models.rows import parts

SLACK = 4  # tokens, and a fourth, by which rows of a pass may differ
TOKENS_A_PASS = {"cpu": 2048, "cuda": 16_384}
_WRAPPED = "base_model.model."


@dataclass(frozen=True, eq=False)
class Branches:
    """What an adapter adds to the base's layers, by their names.

    Attributes:
        factors: (rank, inputs) transposed, and (outputs, rank) transposed and scaled, by layer.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, found: Sequence[Branch]) -> Branches | None:
        """None of no branches: all of the trunk is the base's."""
        factors = {
            one.layer.removeprefix(_WRAPPED): (
                one.down.detach().float().T.contiguous(),
                (one.up.detach().float() * one.scale).T.contiguous(),
            )
            for one in found
        }
        return cls(factors) if factors else None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrunkRow:
    """A record.

    Attributes:
        ids: (tokens,) int64.
        parts: (tokens,) int64, `Task.parts`.
        branches: of its adapter, if any.
    """

    ids: Tensor
    parts: Tensor
    branches: Branches | None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for rows that have equal states."""
        return id(self.branches), tuple(self.ids.tolist()), tuple(self.parts.tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What a pass gave.

    Attributes:
        places: of its records among those that were asked for.
        states: the last hidden ones, (places, width, hidden).
        mask: (places, width) int64: `parts`, and 0 for padding.
    """

    places: list[int]
    states: Tensor
    mask: Tensor


class MixedTrunk:
    """A base model's encoder, with places for branches.

    Args:
        model: of `SharedBase.headed`, which is used up.
    """

    def __init__(self, model: HeadedModel) -> None:
        self._encoder, self._config = model.encoder, model.config
        self._layers = {
            name: layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"
        }
        self._hooked, self._lock = set[str](), threading.Lock()
        self._spans: list[tuple[slice, Branches]] = []

    def admits(self, branches: Branches | None) -> bool:
        """Whether all branches stand beside layers that can have them; readies those."""
        factors = branches.factors if branches else {}
        if not all(self._has_place(name, *pair) for name, pair in factors.items()):
            return False
        for name in sorted(factors.keys() - self._hooked):
            self._layers[name].register_forward_hook(self._adding(name))
            self._hooked.add(name)
        return True

    def _has_place(self, name: str, down: Tensor, up: Tensor) -> bool:
        layer = self._layers.get(name)
        if layer is None:
            return False
        weight = layer.weight if isinstance(layer, nn.Linear) else layer.weight.T
        return tuple(weight.shape) == (up.shape[1], down.shape[0])

    @torch.inference_mode()
    def passes(self, rows: Sequence[TrunkRow], *, parted: bool) -> Iterator[Pass]:
        """Passes over all rows, of similar lengths each.

        Args:
            rows: any number.
            parted: whether their parts do not see each other.
        """
        most = TOKENS_A_PASS[self._device.type]
        for some in _alike([len(row.ids) for row in rows], most):
            some.sort(key=lambda place: id(rows[place].branches))
            yield self._pass([rows[i] for i in some], some, parted=parted)

    def _pass(self, rows: Sequence[TrunkRow], places: list[int], *, parted: bool) -> Pass:
        different = list({row.key: row for row in rows}.values())  # still in order of branches
        number = {row.key: i for i, row in enumerate(different)}
        ids, mask = _padded([row.ids for row in different]), _padded([r.parts for r in different])
        ids, mask = ids.to(self._device), mask.to(self._device)
        seen = parts.told(mask, self._config) if parted else {"attention_mask": mask}
        with self._spread(different):
            states = self._encoder(input_ids=ids, **seen).last_hidden_state
        back = torch.tensor([number[row.key] for row in rows], device=self._device)
        return Pass(places=places, states=states[back], mask=mask[back])

    @contextmanager
    def _spread(self, rows: Sequence[TrunkRow]) -> Iterator[None]:
        """Which rows have which branches, for one pass; rows of equal ones stand together."""
        with self._lock:
            start = 0
            for at in range(1, len(rows) + 1):
                own = rows[start].branches
                if at == len(rows) or rows[at].branches is not own:
                    if own is not None:
                        self._spans.append((slice(start, at), own))
                    start = at
            try:
                yield
            finally:
                self._spans = []

    def _adding(self, name: str) -> Any:
        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for place, branches in self._spans:
                if (factors := branches.factors.get(name)) is not None:
                    down, up = factors
                    output[place] += inputs[0][place] @ down @ up
            return output

        return add

    @property
    def _device(self) -> torch.device:
        found: torch.device = next(self._encoder.parameters()).device
        return found


def _padded(rows: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _alike(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of each pass's rows: of similar lengths, padding is a small part of the work.

    Args:
        lengths: tokens of each row.
        most: tokens of a pass, padding included; a longer row has its pass alone.
    """
    some = list[int]()
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        shortest, longest = lengths[some[0] if some else place], lengths[place]
        wide = longest > shortest + max(SLACK, shortest // SLACK)
        if some and (wide or longest * (len(some) + 1) > most):
            yield some
            some = []
        some.append(place)
    if some:
        yield some
