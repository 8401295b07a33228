"""Classification of a text by the contract's labels: topics, sentiments, what moderators look for.

The last hidden states are averaged over the real tokens and scaled to length one (the pooling that
sentence encoders are trained with), and a linear head reads them. How many labels a record has and
what outputs say of them is the table's `mode` (`label_modes`); `label_scores` is how it is judged.

Example:
    >>> task = Classification(ClassificationTable(labels=("news", "sport")))
    >>> task.made([1, 3]).to_pylist()
    [{'text': 'news', 'label': 0}, {'text': 'sport news news', 'label': 1}]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import InputError
from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.records.label_modes import mode_of
from presspool.common.tasks.records.label_table import BETWEEN, NONE, ClassificationTable, labels_of
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.scores.label_scores import METRICS, LabelScores, metrics_of
from presspool.common.tasks.task import Judged, Metric, Task, linear, mean_of_length_one

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["Classification", "ClassificationTable", "labelled", "labels_of"]

# A head from names starts this sure of itself: its logits lie within ± this.
NAME_SCALE = 5.0


def labelled(texts: Sequence[str], labels: Sequence[int] | NDArray[np.int64]) -> pa.Table:
    """Records as `parse` leaves them in mode "single", of texts and labels' indices."""
    import pyarrow as pa

    columns = {"text": pa.array(texts, pa.large_string()), "label": pa.array(labels, pa.int64())}
    return pa.table(columns)


class Classification(Task[ClassificationTable]):
    """A text, and the label that it has, or those.

    Raises:
        InputError: labels that are empty or repeat themselves.
    """

    Table = ClassificationTable
    pooling = "mean of the real tokens' states, scaled to length one"
    columns = ("text", "label")
    metrics: tuple[Metric, ...] = METRICS

    def __init__(self, table: ClassificationTable, model: Model | None = None) -> None:
        labels = table.labels
        if not labels or len(set(labels)) < len(labels) or not all(labels):
            expected = "different, non-empty labels"
            raise InputError("labels", expected=expected, got=list(labels))
        super().__init__(table, model)
        self.metrics, self._mode = metrics_of(table), mode_of(table)
        if table.priors is not None:
            self.public = "labels and their public shares"

    @classmethod
    def guess(cls, distinct: Callable[[str], list[str]]) -> Classification:
        """With the labels that occur, be it a single one, which no contract could have."""
        return cls(ClassificationTable.model_construct(labels=tuple(distinct("label"))))

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """Labels as the mode keeps them: by their index, int64, where there is one a record."""
        return {"text": rows["text"], "label": self._mode.parse(rows["label"])}

    def wanted(self, column: str, value: str) -> tuple[str, str]:
        """One of the labels, or several; the nearest is suggested."""
        from presspool.common.data.table_refusals import quoted

        near = get_close_matches(self._mode.unknown(value), self.table.labels, n=1)
        known = f"one of {quoted(self.table.labels)}"
        if self.table.mode == "multi":
            known = (
                f"{NONE!r}, or labels with {BETWEEN!r} between them: {quoted(self.table.labels)}"
            )
        return known, near[0] if near else ""

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """Records of each label."""
        return dict(zip(self.table.labels, self._mode.counts(records["label"]), strict=True))

    def made(self, words: Sequence[int]) -> pa.Table:
        """Texts that begin with the name of their label, the labels in turn."""
        import pyarrow as pa

        labels, turn = self.table.labels, list(range(len(self.table.labels)))
        if self.table.mode == "ordinal":
            turn.reverse()  # the last label alone takes every step, and may be the only one made
        number = [turn[i % len(turn)] for i in range(len(words))]
        texts = [labels[i] + " news" * (n - 1) for i, n in zip(number, words, strict=True)]
        return pa.table(
            {"text": pa.array(texts, pa.large_string()), "label": self._mode.named(number)}
        )

    def head(self, encoder: Any) -> nn.Module:
        """`nn.Linear(hidden, outputs)` at zero."""
        return linear(encoder, self._mode.outputs, bias=self.table.bias)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Mean states of length one, (records, hidden)."""
        return mean_of_length_one(states, mask)

    def start(self, model: Any) -> None:
        """For "names": logits that say how near a text is to each label's name (cosine, scaled)."""
        import torch

        if self.table.head == "names":
            with torch.no_grad():
                names = self.encode(list(self.table.labels))
                model.head.weight.copy_(NAME_SCALE * model.features(**names))

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Cross-entropy of each record, weighted by its labels where the contract has priors."""
        truth = self._mode.truth(records["label"]).to(outputs.device)
        return self._mode.losses(outputs, truth)

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The head's (records, outputs)."""
        return {"logits": outputs}

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """Share that is right, mean F1 over the labels, mean cross-entropy in nats, unweighted."""
        return LabelScores.of(self._mode, judged["logits"], records).metrics()

    def figures(self, judged: Judged, records: pa.Table) -> AnswerFigures | None:
        """Each label's own figures, calibration, and from where on answers are given."""
        return LabelScores.of(self._mode, judged["logits"], records).figures()

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """The likeliest label of each record; of several all that are likelier than not."""
        return self._mode.answers(outputs)

    @property
    def options(self) -> tuple[str, ...]:
        """The labels."""
        return self.table.labels

    def probabilities(self, outputs: Tensor) -> list[dict[str, float]]:
        """Of each label, in float64; they add up to 1 where a record has one label."""
        chances = self._mode.chances(outputs.double()).tolist()
        return [dict(zip(self.table.labels, row, strict=True)) for row in chances]

    def sureness(self, outputs: Tensor) -> Tensor:
        """The probability of the answer, in float64."""
        return self._mode.sureness(self._mode.chances(outputs.double()))
