"""Classification of one text into one of the contract's labels.

The last hidden states are averaged over the real tokens and scaled to length one (the pooling that
sentence encoders are trained with), and a linear head gives one logit a label. A record keeps its
label as an index into the contract's labels.

Example:
    >>> task = Classification(ClassificationTable(labels=("news", "sport")))
    >>> task.made([1, 3]).to_pylist()
    [{'text': 'news', 'label': 0}, {'text': 'sport news news', 'label': 1}]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from presspool.common.base.errors import InputError
from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.task import Judged, MaxLength, Metric, Task, TaskTable, linear

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract

# A head from names starts this sure of itself: its logits lie within ± this.
NAME_SCALE = 5.0


class ClassificationTable(TaskTable):
    """The contract's [task].

    Attributes:
        labels: public label names, in order.
        max_length: tokens a record is truncated to.
        head: where the head starts: "zero", or "names": what the base model makes of the labels'
            names, which costs nothing because they are public.
        bias: whether the head has one. Without, a reader's whole clip norm is left to the weights,
            which are what says something; the key is written only then.
    """

    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000)]
    max_length: MaxLength = 48
    head: Literal["zero", "names"] = "zero"
    bias: Annotated[bool, Field(strict=True, exclude_if=lambda there: there)] = True

    @model_validator(mode="after")
    def _distinct(self) -> ClassificationTable:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        return self


def labels_of(contract: Contract) -> tuple[str, ...]:
    """The labels of a contract that classifies.

    Raises:
        InputError: its task is another.
    """
    if not isinstance(contract.task, ClassificationTable):
        raise InputError(
            "this works with labels",
            where="[task] kind",
            expected="classification",
            got=contract.task.kind,
        )
    return contract.task.labels


def labelled(texts: Sequence[str], labels: Sequence[int] | NDArray[np.int64]) -> pa.Table:
    """Records as `Classification.parse` leaves them, of texts and indices of labels."""
    import pyarrow as pa

    columns = {"text": pa.array(texts, pa.large_string()), "label": pa.array(labels, pa.int64())}
    return pa.table(columns)


class Classification(Task[ClassificationTable]):
    """A text, and which of the labels it has.

    Raises:
        InputError: labels that are empty or repeat themselves.
    """

    Table = ClassificationTable
    pooling = "mean of the real tokens' states, scaled to length one"
    columns = ("text", "label")
    metrics = (
        Metric(name="accuracy", title="Accuracy", higher_is_better=True, primary=True),
        Metric(name="macro_f1", title="Macro-F1", higher_is_better=True),
        Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats"),
    )

    def __init__(self, table: ClassificationTable, model: Model | None = None) -> None:
        labels = table.labels
        if not labels or len(set(labels)) < len(labels) or not all(labels):
            expected = "different, non-empty labels"
            raise InputError("labels", expected=expected, got=list(labels))
        super().__init__(table, model)

    @classmethod
    def guess(cls, distinct: Callable[[str], list[str]]) -> Classification:
        """With the labels that occur, be it a single one, which no contract could have."""
        return cls(ClassificationTable.model_construct(labels=tuple(distinct("label"))))

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """Labels become their index, int64."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pa.array(self.table.labels, pa.large_string())
        index = pc.index_in(rows["label"], value_set=known)
        return {"text": rows["text"], "label": index.cast(pa.int64())}

    def wanted(self, column: str, value: str) -> tuple[str, str]:
        """One of the labels; the nearest is suggested."""
        from presspool.common.data.table_refusals import quoted

        near = get_close_matches(value, self.table.labels, n=1)
        return f"one of {quoted(self.table.labels)}", near[0] if near else ""

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """Records of each label."""
        import numpy as np

        labels = self.table.labels
        found = np.bincount(records["label"].to_numpy(), minlength=len(labels)).tolist()
        return dict(zip(labels, found, strict=True))

    def made(self, words: Sequence[int]) -> pa.Table:
        """Texts that begin with the name of their label, the labels in turn."""
        number = [i % len(self.table.labels) for i in range(len(words))]
        texts = [
            self.table.labels[i] + " news" * (length - 1)
            for i, length in zip(number, words, strict=True)
        ]
        return labelled(texts, number)

    def head(self, encoder: Any) -> nn.Module:
        """`nn.Linear(hidden, labels)` at zero."""
        return linear(encoder, len(self.table.labels), bias=self.table.bias)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Mean states of length one, (records, hidden)."""
        from torch import nn

        real = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return nn.functional.normalize(pooled, dim=-1)

    def start(self, model: Any) -> None:
        """For "names": logits that say how near a text is to each label's name (cosine, scaled)."""
        import torch

        if self.table.head == "names":
            with torch.no_grad():
                names = self.encode(list(self.table.labels))
                model.head.weight.copy_(NAME_SCALE * model.features(**names))

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Cross-entropy of each record."""
        import torch

        labels = torch.from_numpy(records["label"].to_numpy().copy()).to(outputs.device)
        return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The (records, labels) logits."""
        return {"logits": outputs}

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """Share that is right, mean F1 over the labels, and mean cross-entropy in nats."""
        import numpy as np
        import torch
        from sklearn.metrics import accuracy_score, f1_score, log_loss

        logits, labels = judged["logits"], records["label"].to_numpy()
        classes, predicted = list(range(logits.shape[1])), logits.argmax(axis=1)
        finite = bool(np.isfinite(logits).all())
        chances = torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
        f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "macro_f1": float(f1),
            "loss": float(log_loss(labels, chances, labels=classes)) if finite else None,
        }

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """The likeliest label of each record."""
        return [self.table.labels[i] for i in outputs.argmax(dim=1).tolist()]

    @property
    def options(self) -> tuple[str, ...]:
        """The labels."""
        return self.table.labels

    def probabilities(self, outputs: Tensor) -> list[dict[str, float]]:
        """Softmax over the labels, in float64."""
        chances = outputs.double().softmax(dim=1).tolist()
        return [dict(zip(self.table.labels, row, strict=True)) for row in chances]
