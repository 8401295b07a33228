"""Accuracy of the pool's adapter on a public held-out file at the coordinator.

Only public data is ever evaluated: a metric on readers' data would be a release that nobody
charged. What the frozen layers make of the file's texts is computed once and used after every
round. A large file is read whole before the first round and after the last; the rounds between are
measured on `BETWEEN` of its records, always the same ones, spread evenly over it.

Example: `Evaluation(contract, HeldOut.read(path, text="text", label="label", labels=labels))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss

from presspool.common.contract.contract import Contract
from presspool.common.data.tables import read_labelled
from presspool.common.models.adapters import State, load
from presspool.common.models.frozen_trunk import BATCH, ActivationCache, FrozenTrunk
from presspool.common.models.models import build


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well an adapter does on the held-out file.

    Attributes:
        metrics: name to value; None, or no entry, where nothing was measured.
    """

    metrics: Mapping[str, float | None]


BETWEEN = 1000
NOT_MEASURED = Scores(metrics={})


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A public file of labelled texts.

    Attributes:
        texts: in the order of the file.
        labels: (records,) int64, index into the labels asked for.
    """

    texts: Sequence[str]
    labels: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path, *, text: str, label: str, labels: Sequence[str]) -> HeldOut:
        """Read a held-out file.

        Raises:
            DataError: missing or empty file, a column that is not there, an unknown label.
        """
        texts, numbers = read_labelled(path, text=text, label=label, labels=labels)
        return cls(texts=texts, labels=numbers)

    def between(self) -> HeldOut:
        """At most `BETWEEN` records, spread evenly."""
        count = min(BETWEEN, len(self.texts))
        chosen = np.arange(count) * len(self.texts) // max(1, count)
        return HeldOut(texts=[self.texts[i] for i in chosen.tolist()], labels=self.labels[chosen])


class Evaluation:
    """A contract's model, judged on a held-out file.

    Args:
        contract: says model and labels.
        held_out: the file.
        activations: kept from earlier evaluations, if any.
    """

    def __init__(
        self, contract: Contract, held_out: HeldOut, activations: ActivationCache | None = None
    ) -> None:
        self._model = build(contract)
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._trunk, self._held_out = FrozenTrunk(self._model, contract), held_out
        self._activations = ActivationCache() if activations is None else activations

    def scores(self, state: State, *, between: bool = False) -> Scores:
        """Accuracy, macro-F1 and mean loss of an adapter state.

        Args:
            state: the adapter.
            between: on some of the records only (`HeldOut.between`).
        """
        load(self._model, state)
        held_out = self._held_out.between() if between else self._held_out
        logits, labels = self._logits(held_out.texts), held_out.labels
        classes = list(range(logits.shape[1]))
        predicted = logits.argmax(axis=1)
        finite = bool(np.isfinite(logits).all())
        chances = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
        f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        return Scores(
            metrics={
                "accuracy": float(accuracy_score(labels, predicted)),
                "macro_f1": float(f1),
                "loss": float(log_loss(labels, chances, labels=classes)) if finite else None,
            }
        )

    def correct(self, state: State) -> NDArray[np.bool_]:
        """Whether each record is classified right, (records,) in the order of the file."""
        load(self._model, state)
        logits = self._logits(self._held_out.texts)
        right: NDArray[np.bool_] = logits.argmax(axis=1) == self._held_out.labels
        return right

    @torch.inference_mode()
    def _logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(records, labels) logits of the model as it stands, in the order of the texts."""
        # Similar lengths together: less padding, same scores.
        order = np.argsort([len(text) for text in texts], kind="stable")
        outputs = []
        for start in range(0, len(order), BATCH):
            part = [texts[i] for i in order[start : start + BATCH].tolist()]
            outputs.append(self._trunk.logits(self._activations.get(self._trunk, part)))
        result: NDArray[np.float32] = np.empty((len(order), outputs[0].shape[1]), np.float32)
        result[order] = torch.cat(outputs).cpu().numpy()
        return result
