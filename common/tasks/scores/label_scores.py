"""By which numbers labels are judged, of a public file; readers' records never come here.

Example:
    >>> table = ClassificationTable(labels=("low", "middle", "high"), mode="ordinal")
    >>> [metric.name for metric in metrics_of(table)]
    ['accuracy', 'macro_f1', 'distance', 'loss']
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from presspool.common.base.foreign_text import visible
from presspool.common.tasks.metric import Metric
from presspool.common.tasks.records.label_modes import LabelMode
from presspool.common.tasks.records.label_table import ClassificationTable
from presspool.common.tasks.scores.answer_figures import (
    Abstention,
    AnswerFigures,
    LabelFigures,
    SureBin,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

METRICS = (
    Metric(name="accuracy", title="Accuracy", higher_is_better=True, primary=True),
    Metric(name="macro_f1", title="Macro-F1", higher_is_better=True),
    Metric(name="distance", title="Mean distance", higher_is_better=False, unit="labels"),
    Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats"),
)
BINS = 15
FEWEST = 20  # answers that say how often answers are right
_LONGEST = 200  # signs of a label that a table shows


def metrics_of(table: ClassificationTable) -> tuple[Metric, ...]:
    """Those of a table's mode.

    Where records have several labels, most of which are rare, macro-F1 leads: the share of records
    with all labels right is great even if nothing is ever found.
    """
    found = {metric.name: metric for metric in METRICS}
    if table.mode != "ordinal":
        del found["distance"]
    if table.mode == "multi":
        found["accuracy"] = replace(found["accuracy"], title="All labels right", primary=False)
        found["macro_f1"] = replace(found["macro_f1"], primary=True)
    return tuple(found.values())


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """A head's outputs on a file beside what is right.

    Attributes:
        mode: of the labels.
        outputs: (records, outputs) float64.
        truth: as the mode has it.
    """

    mode: LabelMode
    outputs: Tensor
    truth: Tensor

    @classmethod
    def of(cls, mode: LabelMode, logits: NDArray[np.float32], records: pa.Table) -> LabelScores:
        """Of what `Classification.judge` gives."""
        import torch

        outputs = torch.from_numpy(logits).double()
        return cls(mode=mode, outputs=outputs, truth=mode.truth(records["label"]))

    @property
    def finite(self) -> bool:
        """Whether there are chances at all; a diverged model has none."""
        return bool(self.outputs.isfinite().all())

    def metrics(self) -> Mapping[str, float | None]:
        """Those of `metrics_of`."""
        from sklearn.metrics import accuracy_score, f1_score

        truth, said = self.truth.numpy(), self.mode.said(self.outputs).numpy()
        labels = range(len(self.mode.table.labels))
        f1 = f1_score(truth, said, labels=list(labels), average="macro", zero_division=0)
        found = {"accuracy": float(accuracy_score(truth, said)), "macro_f1": float(f1)}
        if self.mode.table.mode == "ordinal":
            found["distance"] = float(abs(truth - said).mean())
        return {**found, "loss": self._nats() if self.finite else None}

    def _nats(self) -> float:
        """Mean loss without weights: what the file has is as common as it is."""
        from sklearn.metrics import log_loss
        from torch.nn.functional import binary_cross_entropy_with_logits

        if self.mode.table.mode == "multi":
            truth = self.truth.double()
            nats = binary_cross_entropy_with_logits(self.outputs, truth, reduction="none")
            return float(nats.sum(1).mean())
        chances = self.mode.chances(self.outputs).numpy()
        labels = list(range(chances.shape[1]))
        return float(log_loss(self.truth.numpy(), chances, labels=labels))

    # --- Label by label, and how sure ------------------------------------------------------------

    def figures(self) -> AnswerFigures | None:
        """The whole; None of a diverged model."""
        if not self.finite:
            return None
        said, truth = self.mode.said(self.outputs), self.truth
        chances, hit = self.mode.chances(self.outputs), said == truth
        sure = self.mode.sureness(chances)
        each, hits = sure, hit
        if hit.dim() == 2:  # each label of a record is an answer of its own
            each, hits, hit = chances.maximum(1 - chances).flatten(), hit.flatten(), hit.all(1)
        bins = sure_bins(each, hits)
        return AnswerFigures(
            labels=self._labels(said),
            bins=bins,
            ece=calibration_error(bins),
            abstention=self._abstention(sure, hit),
        )

    def _labels(self, said: Tensor) -> tuple[LabelFigures, ...]:
        from torch import bincount

        count = len(self.mode.table.labels)
        if said.dim() == 2:
            parts = [part.sum(0) for part in (self.truth, said, self.truth & said)]
        else:
            wanted = (self.truth, said, said[said == self.truth])
            parts = [bincount(part, minlength=count) for part in wanted]
        rows = zip(self.mode.table.labels, *(part.tolist() for part in parts), strict=True)
        return tuple(
            LabelFigures(label=_shown(label), records=records, answers=answers, right=right)
            for label, records, answers, right in rows
        )

    def _abstention(self, sure: Tensor, hit: Tensor) -> Abstention | None:
        if (wanted := self.mode.table.sure) is None:
            return None
        first, second = halves(len(hit))
        up_to = threshold(sure[first], hit[first], wanted)
        tried, answered = hit[second], sure[second] > up_to
        return Abstention(
            wanted=wanted,
            up_to=up_to,
            records=len(tried),
            answered=int(answered.sum()),
            right=int((tried & answered).sum()),
        )


def halves(records: int) -> tuple[Tensor, Tensor]:
    """Places of two halves of a file, the same ones every time, whatever its order."""
    import torch

    drawn = torch.randperm(records, generator=torch.Generator().manual_seed(0))
    cut = records // 2
    return drawn[:cut], drawn[cut:]


def threshold(sure: Tensor, hit: Tensor, wanted: float) -> float:
    """The least sureness beyond which so large a share of answers is right; 1 if there is none.

    Halfway to the next answer's, so that no rounding moves one across. Fewer answers than `FEWEST`
    prove nothing.

    Args:
        sure: (records,) float64, 0 to 1.
        hit: (records,) bool.
        wanted: the share.

    Example:
        >>> import torch
        >>> sure = torch.linspace(0.5, 0.99, 50, dtype=torch.float64)
        >>> round(threshold(sure, sure > 0.7, 0.999), 3)
        0.705
    """
    from torch import arange

    order = sure.argsort(descending=True)
    ranked, right = sure[order].tolist(), hit[order].cumsum(0)
    shares = (right / arange(1, len(hit) + 1)).tolist()
    for last in range(len(ranked) - 1, FEWEST - 2, -1):
        below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
        if shares[last] >= wanted and below < ranked[last]:
            return float((below + ranked[last]) / 2) if below else 0.0
    return 1.0


def calibration_error(bins: Sequence[SureBin]) -> float:
    """How far apart sure and right are, in the mean over answers."""
    total = sum(one.answers for one in bins)
    return math.fsum(one.answers * abs(one.right - one.sure) for one in bins) / total


def sure_bins(sure: Tensor, hit: Tensor) -> tuple[SureBin, ...]:
    """Answers in `BINS` of equal width from 0 to 1, without empty ones.

    Args:
        sure: (answers,) float64, 0 to 1.
        hit: (answers,) bool.
    """
    place = (sure * BINS).long().clamp(max=BINS - 1)
    kept = ((sure[place == i], hit[place == i]) for i in range(BINS))
    return tuple(
        SureBin(
            answers=len(chance),
            sure=min(1.0, float(chance.mean())),
            right=float(right.double().mean()),
        )
        for chance, right in kept
        if len(chance)
    )


def _shown(label: str) -> str:
    """A label as a table may show it: one line, and nothing that acts."""
    line = " ".join(visible(label).split()) or "?"
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
