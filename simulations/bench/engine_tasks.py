"""What the contestants of `presspool bench engine` train on: a row's model, batch and losses.

Invariants:
    * LoRA trains and a classifier's head; the base is frozen. Dropout is at 0: Opacus needs
      training mode, in which dropout would draw.
    * A language model's loss is the mean over a record's next tokens. Ours makes the logits in
      blocks, as an outlet does; the others make them whole, as one usually does.

Example: `make_task(ROWS["minilm-qv"], "cpu").forward` gives (records,) losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from presspool.common.models import batch_shapes
from presspool.common.models.batch_shapes import BatchShapes
from presspool.common.models.models import HeadedModel
from presspool.common.models.token_losses import UNCOUNTED, token_losses
from presspool.common.tasks.classification import Classification, ClassificationTable
from presspool.simulations.bench.engine_rows import ENCODERS, Row

LABELS, RANK = 8, 8
Losses = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class BenchTask:
    """A model and a batch that a contestant trains on.

    Attributes:
        model: the PEFT model, in training mode.
        forward: from ids, mask and labels to (records,) float32 losses, as an outlet does it.
        usual: the same, as one usually does it.
        whole: ids, mask and labels of all records, padded to the longest, as one usually does.
        batches: of each batch in public shapes, as an outlet does it: its records, and the same.
        parameters: what trains.
        records: records a step.
    """

    model: Any
    forward: Losses
    usual: Losses
    whole: tuple[Tensor, Tensor, Tensor]
    batches: list[tuple[list[int], tuple[Tensor, Tensor, Tensor]]]
    parameters: list[nn.Parameter]
    records: int


def make_task(row: Row, device: str) -> BenchTask:
    """The row's model and batch on a device; on CUDA the base in bf16, under bf16 autocast."""
    torch.manual_seed(0)
    loaded = ENCODERS[row.model]()
    writes = loaded.get_output_embeddings() is not None
    model, forward, usual = (_language_model if writes else _classifier)(loaded, row)
    on_cuda = device == "cuda"
    for parameter in model.parameters():
        if on_cuda and not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    model.to(device).train()

    def cast(losses: Losses) -> Losses:
        def inside(*batch: Tensor) -> Tensor:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=on_cuda):
                return losses(*batch)

        return inside

    longest, lengths = max(row.lengths), torch.tensor(row.lengths, device=device)
    ids = torch.randint(0, model.config.vocab_size, (row.records, longest), device=device)
    mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
    whole = ids * mask, mask, torch.arange(row.records, device=device) % LABELS
    return BenchTask(
        model=model,
        forward=cast(forward),
        usual=cast(usual),
        whole=whole,
        batches=list(_batches(whole, shapes_for(row, device))),
        parameters=[p for p in model.parameters() if p.requires_grad],
        records=row.records,
    )


def _classifier(encoder: Any, row: Row) -> tuple[Any, Losses, Losses]:
    """With the head of a classification, which trains as well; one way to the losses."""
    task = Classification(ClassificationTable(labels=tuple(map(str, range(LABELS)))))
    heads = {"modules_to_save": ["head"], "exclude_modules": ["head"]}
    model = get_peft_model(HeadedModel(encoder, task), _lora(row, **heads))

    def losses(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        logits = model(input_ids=ids, attention_mask=mask)
        return nn.functional.cross_entropy(logits.float(), labels, reduction="none")

    return model, losses, losses


def _language_model(loaded: Any, row: Row) -> tuple[Any, Losses, Losses]:
    """As it is, with frozen words; ours never has the logits of more than a block."""
    encoder, words = loaded.base_model, loaded.get_output_embeddings()
    model = get_peft_model(loaded, _lora(row))

    def mean(of_tokens: Tensor, targets: Tensor) -> Tensor:
        counted = (targets != UNCOUNTED).reshape(of_tokens.shape)
        return of_tokens.sum(1) / counted.sum(1).clamp(min=1)

    def ours(ids: Tensor, mask: Tensor, _: Tensor) -> Tensor:
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        targets = _next_tokens(ids, mask)
        losses = token_losses(states.flatten(0, 1), words.weight, targets.flatten())
        return mean(losses.view_as(targets), targets)

    def usual(ids: Tensor, mask: Tensor, _: Tensor) -> Tensor:
        logits, targets = model(input_ids=ids, attention_mask=mask).logits, _next_tokens(ids, mask)
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            reduction="none",
            ignore_index=UNCOUNTED,
        )
        return mean(losses.view_as(targets), targets)

    return model, ours, usual


def _next_tokens(ids: Tensor, mask: Tensor) -> Tensor:
    """What each token should say, (records, tokens); the last of a record says nothing."""
    following = nn.functional.pad(ids[:, 1:], (0, 1))
    there = nn.functional.pad(mask[:, 1:], (0, 1)).bool()
    return following.masked_fill(~there, UNCOUNTED)


def _lora(row: Row, **more: Any) -> LoraConfig:
    targets = row.targets if isinstance(row.targets, str) else list(row.targets)
    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, **more)


def shapes_for(row: Row, device: str) -> BatchShapes:
    """What an outlet computes a row in."""
    return BatchShapes(
        max_length=row.tokens,
        tokens=batch_shapes.TOKENS[device],
        most_rows=batch_shapes.ROWS[device],
    )


def _batches(
    whole: tuple[Tensor, Tensor, Tensor], shapes: BatchShapes
) -> Iterator[tuple[list[int], tuple[Tensor, Tensor, Tensor]]]:
    """What `FrozenTrunk` makes of the same records."""
    ids, mask, labels = whole
    lengths: list[int] = mask.sum(1).tolist()
    for places in shapes.batches(lengths):
        longest = max(lengths[place] for place in places)
        width = shapes.width(longest)
        batch = ids.new_zeros((2, shapes.rows(width), width))
        batch[1, :, : width if longest == width else 1] = 1
        for row, place in enumerate(places):
            batch[:, row] = 0
            batch[0, row, : lengths[place]] = ids[place, : lengths[place]]
            batch[1, row, : lengths[place]] = 1
        said = labels.new_zeros(batch.shape[1])
        said[: len(places)] = labels[places]
        yield places, (batch[0], batch[1], said)
