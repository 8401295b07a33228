"""By which numbers chances of clicks are judged, of a public file and never of readers' records.

Log-loss says how good chances are, and normalised entropy compares it with that of a model which
knows the file's mean alone: below 1 is better than that (He et al., ADKDD 2014, section 3). AUC
says how well the chances sort, and the expected calibration error how far they are from what
happened, in bins of like chances (Guo et al., ICML 2017, section 2).

Invariant: where everybody clicked, or nobody, there is neither AUC nor normalised entropy.

Example:
    >>> found = scores([0.0, 0.0], [1, 0])
    >>> found["auc"], found["normalised_entropy"], round(found["loss"], 4), found["ece"]
    (0.5, 1.0, 0.6931, 0.0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.metric import Metric
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.scores.label_scores import calibration_error, sure_bins

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

METRICS = (
    Metric(name="auc", title="AUC", higher_is_better=True, primary=True),
    Metric(
        name="normalised_entropy",
        title="Normalised entropy",
        higher_is_better=False,
        unit="of the base rate's",
    ),
    Metric(name="loss", title="Log-loss", higher_is_better=False, unit="nats"),
    Metric(name="ece", title="Calibration error", higher_is_better=False),
)


def scores(
    logits: Sequence[float] | NDArray[Any], clicks: Sequence[int]
) -> dict[str, float | None]:
    """The metrics by name; None where one cannot be computed, all of a diverged model.

    Args:
        logits: (records,), natural log-odds of a click.
        clicks: as many 0 and 1, one at least.
    """
    said, truth = _tensors(logits, clicks)
    found = dict.fromkeys(metric.name for metric in METRICS)
    figures = calibration(logits, clicks)
    if figures is None:
        return found
    loss, base = _nats(said, truth), float(truth.double().mean())
    found |= {"loss": loss, "ece": figures.ece}
    if 0 < base < 1:
        from sklearn.metrics import roc_auc_score

        entropy = -base * math.log(base) - (1 - base) * math.log1p(-base)
        auc = float(roc_auc_score(truth.numpy(), said.numpy()))
        found |= {"auc": auc, "normalised_entropy": loss / entropy}
    return found


def calibration(
    logits: Sequence[float] | NDArray[Any], clicks: Sequence[int]
) -> AnswerFigures | None:
    """Mean chance and share of clicks, by bins of chances; None of a diverged model.

    Arguments as for `scores`.
    """
    said, truth = _tensors(logits, clicks)
    if not bool(said.isfinite().all()):
        return None
    bins = sure_bins(said.sigmoid(), truth)
    return AnswerFigures(labels=(), bins=bins, ece=calibration_error(bins))


def _tensors(
    logits: Sequence[float] | NDArray[Any], clicks: Sequence[int]
) -> tuple[Tensor, Tensor]:
    import torch

    return torch.as_tensor(logits).double(), torch.as_tensor(clicks).bool()


def _nats(said: Tensor, truth: Tensor) -> float:
    from torch.nn.functional import binary_cross_entropy_with_logits

    return float(binary_cross_entropy_with_logits(said, truth.double()))
