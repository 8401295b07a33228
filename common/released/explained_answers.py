"""Which words of a text move an adapter's answer: integrated gradients on the words' vectors.

Between a text without its words and the text itself lies a straight line of embeddings; each word's
share is the gradient of a label's probability along it (Sundararajan, Taly & Yan 2017, section 3).
The text without words has padding in every place but those of the tokenizer's own tokens.

Invariants:
    * The shares of a label add up to its probability minus that of the text without words, but for
      `gap`, which is measured and never assumed (completeness: section 3, proposition 1).
    * Only the labels' probabilities are explained, not why a word does what it does.

Example: `explain(presspool.load("runs/demo/run"), "Cup final")[0].words`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from presspool.common.base.errors import InputError
from presspool.common.base.extras import from_extra
from presspool.common.contract.contract import Contract
from presspool.common.models.models import headed_of
from presspool.common.tasks.classification import Classification
from presspool.common.tasks.records.label_modes import mode_of
from presspool.common.tasks.task import Task

STEPS = 64
"""Points of the line, by the rule of Gauss and Legendre."""
AT_ONCE = 8
"""Points that are in memory together."""


class Explained(Protocol):
    """An adapter at work, wherever: `AdapterModel` is one."""

    @property
    def network(self) -> nn.Module:
        """Its model, from token ids to outputs."""

    @property
    def task(self) -> Task[Any]:
        """What it does."""

    @property
    def contract(self) -> Contract:
        """Of its run."""


@dataclass(frozen=True, kw_only=True)
class ExplainedLabel:
    """One label of one text.

    Attributes:
        label: of the contract's.
        probability: of the label for the text.
        without: the same for the text without its words.
        words: the text's, in order, as far as the model reads it, each with what it adds.
        gap: |sum of what words add - (probability - without)|.
    """

    label: str
    probability: float
    without: float
    words: tuple[tuple[str, float], ...]
    gap: float


def explain(
    model: Explained,
    text: str,
    labels: Sequence[str] | None = None,
    *,
    steps: int = STEPS,
    spelling: AbstractContextManager[object] | None = None,
) -> list[ExplainedLabel]:
    """What each word of a text adds to labels' probabilities.

    Args:
        model: of a task whose answers are labels.
        text: what is read.
        labels: those that are explained; None for all.
        steps: points of the line; more are slower and closer.
        spelling: entered while the text becomes tokens.

    Raises:
        InputError: an adapter that gives no labels, or Captum is not installed.
    """
    if not explains(model):
        raise InputError(
            "only labels can be explained",
            expected="an adapter of the task 'classification'",
            got=model.contract.task.kind,
        )
    known = model.task.options
    with spelling or nullcontext():
        found = _Line(model, text, steps)
    return [found.label(known.index(name), name) for name in (known if labels is None else labels)]


def explains(model: Explained) -> bool:
    """Whether `explain` takes it."""
    return isinstance(model.task, Classification)


class _Line:
    """From a text without its words to the text."""

    def __init__(self, model: Explained, text: str, steps: int) -> None:
        self._network, self._steps, task = model.network, steps, model.task
        self._mode, self._text = mode_of(task.table), text
        encoded = task.tokenizer(
            text, truncation=True, max_length=task.table.max_length, return_tensors="pt"
        )
        self._encoded, device = encoded, next(self._network.parameters()).device
        own = torch.tensor([[word is None for word in encoded.word_ids()]], device=device)
        self._ids = encoded["input_ids"].to(device)
        self._mask = encoded["attention_mask"].to(device)
        self._bare = self._ids.where(own, task.tokenizer.pad_token_id)

    def _chances(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(rows, labels) float64."""
        outputs: Tensor = self._network(input_ids=ids, attention_mask=mask)
        return self._mode.chances(outputs.double())

    def label(self, place: int, name: str) -> ExplainedLabel:
        """Of the label at a place among the contract's."""
        embeddings = headed_of(self._network).encoder.get_input_embeddings()
        found = _gradients()(self._chances, embeddings).attribute(
            self._ids,
            baselines=self._bare,
            additional_forward_args=(self._mask,),
            target=place,
            n_steps=self._steps,
            internal_batch_size=AT_ONCE,
        )
        shares = found.detach().double().sum(-1)[0]
        with torch.no_grad():
            there, without = (
                float(self._chances(ids, self._mask)[0, place]) for ids in (self._ids, self._bare)
            )
        gap = abs(float(shares.sum()) - (there - without))
        return ExplainedLabel(
            label=name, probability=there, without=without, words=self._words(shares), gap=gap
        )

    def _words(self, shares: Tensor) -> tuple[tuple[str, float], ...]:
        """Each word, whose pieces' shares are added up."""
        added = defaultdict[int, float](float)
        for word, share in zip(self._encoded.word_ids(), shares.tolist(), strict=True):
            if word is not None:
                added[word] += share
        spans = {word: self._encoded.word_to_chars(word) for word in added}
        return tuple((self._text[slice(*spans[word])], share) for word, share in added.items())


def _gradients() -> Any:
    with from_extra("gate", "words cannot be weighed without Captum"):
        from captum.attr import LayerIntegratedGradients
    return LayerIntegratedGradients
