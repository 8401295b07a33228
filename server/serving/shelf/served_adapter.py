"""One adapter that is served: what it reads, what it adds to the trunk, and its head.

Invariants:
    * An adapter is made whole or not at all; a served one never changes.
    * What was loaded is what was checked: the weights are hashed before and after.
    * What it answers is what `presspool predict` answers, up to the order of float additions.

Example: `ServedAdapter.load("cup", read_adapter(path), base, trunk).provenance.headers`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapted_outputs import AdaptedOutputs, Prediction, given
from presspool.common.models.models import HeadedModel, headed_of
from presspool.common.released.adapter_folder import AdapterFolder, read_adapter
from presspool.common.tasks.task import Task
from presspool.server.serving.shelf.mixed_trunk import Branches, MixedTrunk, TrunkRow
from presspool.server.serving.shelf.provenance import Provenance
from presspool.server.serving.shelf.shared_base import SharedBase

WRITING = "generation"
_MADE = (3, 9)  # words of the records by which an adapter is proved
_LOOSEST = 1e-3  # of the largest output; float32 gives 1e-6

TOKENISING = threading.Lock()
"""Held while texts become tokens: adapters share a tokenizer, whose length is set before each call
and is its own state. One that loads would else change the length under one that answers."""


class _UnlikeError(Exception):
    """The trunk with branches is not this adapter's model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedAdapter:
    """An adapter in place.

    Attributes:
        name: by which it is asked for.
        contract: its run's.
        provenance: where it comes from.
        task: reads records, and outputs; of one that writes it writes.
        network: its own model around the base's tensors, for who asks why it answers what it does.
        before: of one that writes, the task on the base model without it; None else.
        head: reads the trunk's states; None of one that has a model of its own.
        branches: what it adds to the trunk, if anything.
        alone: its own model, where the trunk cannot be shared; None else.
        unsure_up_to: answers that are no surer are not given, if any.
        created: when it was loaded, in seconds since 1970.
        positions: tokens that the base model can read and write together, where it is bounded.
    """

    name: str
    contract: Contract
    provenance: Provenance
    task: Task[Any]
    network: nn.Module
    before: Task[Any] | None
    head: nn.Module | None
    branches: Branches | None
    alone: AdaptedOutputs | None
    unsure_up_to: float | None
    created: int
    positions: int | None

    @classmethod
    def load(
        cls, name: str, folder: AdapterFolder, base: SharedBase, trunk: MixedTrunk
    ) -> ServedAdapter:
        """An adapter's folder, in place beside the others.

        Raises:
            InputError: another base model's.
            CardError: a card that is another adapter's.
            FolderError: weights that do not fit, or that changed while they were read.
        """
        provenance = Provenance.read(folder)
        model = base.restored(folder)
        read_adapter(folder.path)
        contract, headed = folder.contract, headed_of(model)
        branches, shared = None, contract.task.kind != WRITING
        if shared:
            try:
                branches = _proved(model, contract, trunk)
            except _UnlikeError:
                shared = False
        model.requires_grad_(False)
        alone = AdaptedOutputs(
            model, contract, ActivationCache(capacity=0), unsure_up_to=folder.unsure_up_to
        )
        return cls(
            name=name,
            contract=contract,
            provenance=provenance,
            task=headed.task,
            network=model,
            before=base.headed(contract).eval().task if contract.task.kind == WRITING else None,
            head=headed.head if shared else None,
            branches=branches,
            alone=None if shared else alone,
            unsure_up_to=folder.unsure_up_to,
            created=int(time.time()),
            positions=getattr(headed.config, "max_position_embeddings", None),
        )

    @cached_property
    def spelling(self) -> tuple[object, ...]:
        """Equal for adapters whose texts become equal rows, but for branches."""
        table = self.contract.task.model_dump(exclude={"labels"})
        return self.contract.model, repr(sorted(table.items()))

    @torch.inference_mode()
    def answers(self, states: Tensor, mask: Tensor, records: pa.Table) -> list[Prediction]:
        """What the head says of the trunk's states.

        Args:
            states: (records, width, hidden).
            mask: (records, width) int64.
            records: as many.
        """
        assert self.head is not None
        outputs = self.head(self.task.pool(states, mask)).float()
        with TOKENISING:  # tags find their words' tokens again
            return given(self.task, records, outputs, self.unsure_up_to)


def spelt(task: Task[Any], texts: Sequence[str]) -> list[TrunkRow]:
    """Rows of texts, truncated as the contract says; each has one token at least."""
    with TOKENISING:
        batch = task.encode(list(texts))
    rows = []
    for ids, parts in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        length = max(1, int((parts > 0).sum()))
        own = parts[:length].clamp(min=1)  # of a text without a token one of padding is read
        rows.append(TrunkRow(ids=ids[:length], parts=own, branches=None))
    return rows


@torch.inference_mode()
def _proved(model: nn.Module, contract: Contract, trunk: MixedTrunk) -> Branches | None:
    """The adapter's branches, after the trunk gave with them what its own model gives.

    Raises:
        _UnlikeError: it trains something else than branches.
    """
    headed: HeadedModel = headed_of(model)
    state = adapters.read(model)
    branches = Branches.of(list(contract.method.branches(model, state)))
    if not trunk.admits(branches):
        raise _UnlikeError
    task = headed.task
    texts = task.texts(task.made(_MADE)).to_pylist()
    rows = [TrunkRow(ids=row.ids, parts=row.parts, branches=branches) for row in spelt(task, texts)]
    for found in trunk.passes(rows, parted=task.parted):
        for place, states, mask in zip(found.places, found.states, found.mask, strict=True):
            here = headed.head(task.pool(states[None], mask[None]))
            ids, parts = rows[place].ids, rows[place].parts
            length = len(ids)
            there = model(ids[None].to(states.device), parts[None].to(states.device))
            if here.dim() > 2:  # a head of every token
                here = here[:, :length]
            if (here - there).abs().max() > _LOOSEST * max(1.0, float(there.abs().max())):
                raise _UnlikeError
    return branches
