"""Accuracy of the pool's adapter on a public held-out file at the coordinator.

Only public data is ever evaluated: a metric on readers' data would be a release that nobody
charged. The file's texts are encoded once and used after every round.

Example: `Evaluation.load(contract, Path("held_out.parquet"), text="text", label="label")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor

from presspool.common.adapters import State, load
from presspool.common.contract import Contract
from presspool.common.models import build, encode
from presspool.common.tables import read_labelled

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well an adapter does on the held-out file; None where nothing was measured.

    Attributes:
        accuracy: share of records that are right.
        macro_f1: mean F1 over the contract's labels.
        loss: mean cross-entropy in nats.
    """

    accuracy: float | None
    macro_f1: float | None
    loss: float | None


NOT_MEASURED = Scores(accuracy=None, macro_f1=None, loss=None)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An encoded held-out file and the model that is judged on it.

    Attributes:
        model: the contract's model.
        batches: encoded texts, similar lengths together.
        order: (records,) int64, the file's record at each place of the batches.
        labels: (records,) int64, in the order of the batches.
    """

    model: PeftModel
    batches: tuple[dict[str, Tensor], ...]
    order: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def load(cls, contract: Contract, path: Path, *, text: str, label: str) -> Evaluation:
        """Read and encode a held-out file.

        Raises:
            DataError: missing or empty file, a column that is not there, an unknown label.
        """
        texts, labels = read_labelled(path, text=text, label=label, labels=contract.task.labels)
        # Similar lengths together: less padding, same scores.
        order = np.argsort([len(t) for t in texts], kind="stable")
        parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        batches = tuple(encode(contract, [texts[i] for i in part]) for part in parts)
        return cls(model=build(contract), batches=batches, order=order, labels=labels[order])

    def scores(self, state: State) -> Scores:
        """Accuracy, macro-F1 and mean loss of an adapter state."""
        load(self.model, state)
        logits = self.logits()
        classes = range(logits.shape[1])
        predicted = logits.argmax(axis=1)
        finite = bool(np.isfinite(logits).all())
        chances = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
        return Scores(
            accuracy=float(accuracy_score(self.labels, predicted)),
            macro_f1=float(f1_score(self.labels, predicted, labels=list(classes), average="macro",
                                    zero_division=0)),
            loss=float(log_loss(self.labels, chances, labels=list(classes))) if finite else None,
        )  # fmt: skip

    def correct(self, state: State) -> NDArray[np.bool_]:
        """Whether each record is classified right, (records,) in the order of the file."""
        load(self.model, state)
        right = np.empty(len(self.labels), np.bool_)
        right[self.order] = self.logits().argmax(axis=1) == self.labels
        return right

    @torch.inference_mode()
    def logits(self) -> NDArray[np.float32]:
        """(records, labels) logits of the model as it stands."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device).eval()
        outputs = [self.model(**{k: v.to(device) for k, v in b.items()}) for b in self.batches]
        result: NDArray[np.float32] = torch.cat(outputs).cpu().numpy()
        return result
