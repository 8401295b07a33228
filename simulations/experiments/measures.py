"""What a trained model is judged by, one test record at a time, and how that is said.

A classifier's record is right or wrong; a generating model's has a mean loss in nats over the
tokens that it should write, and weighs as many tokens. The token that ends an answer is left out:
only a tuned model can know how ours end, and that would pass for a gain in what it writes.
Beside it stands the ROUGE-L of what it writes for some of the records. A record of hidden tokens
has the mean loss of those, and weighs as many. A record of tagged words has its own F1 of entities,
and weighs what stands below that fraction's line: the weighted mean is the F1 over all entities.
An impression has the AUC within it, the share of its pairs of a clicked and
another title that stand in the right order. Everything that an experiment reports is a
weighted mean of such figures, so intervals and differences need not know which they are of.

Example:
    >>> measure_of({"kind": "generation"}).title, measure_of({}).title
    ('nats a token', 'accuracy')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from presspool.common.contract.contract_schema import DEFAULT_TASK
from presspool.common.tasks.recommendation import Recommendation
from presspool.common.tasks.records.tagged_words import entities
from presspool.common.tasks.scores.entity_metrics import Tags
from presspool.common.tasks.scores.text_metrics import rouge_l_each
from presspool.common.tasks.tagging import Tagging

if TYPE_CHECKING:
    import pyarrow as pa

    from presspool.common.models.adapters import State
    from presspool.server.rounds.evaluation import Evaluation


def rights(evaluation: Evaluation, state: State, held_out: pa.Table) -> NDArray[np.bool_]:
    """Which records get the right label, (records,) bool."""
    labels: tuple[str, ...] = evaluation.task.table.labels
    truth = np.array(labels)[held_out["label"].to_numpy()]
    right: NDArray[np.bool_] = np.array(evaluation.predictions(state)) == truth
    return right


def nats(evaluation: Evaluation, state: State, held_out: pa.Table) -> NDArray[np.float64]:
    """Each record's mean nats a token, its tokens but for the last, and ROUGE-L, (3, records).

    ROUGE-L is not a number where nothing was written: see `Evaluation.written`.
    """
    judged = {name: values.astype(np.float64) for name, values in evaluation.judged(state).items()}
    tokens = np.maximum(judged["tokens"] - 1, 1)
    wanted = [answer for _, answer in evaluation.task.asked(held_out)]
    written = evaluation.written(state)
    assert written is not None  # the task writes
    rouge = [
        math.nan if text is None else rouge_l_each([text], [want])[0]
        for text, want in zip(written, wanted, strict=True)
    ]
    return np.stack([(judged["nats"] - judged["last"]) / tokens, tokens, np.array(rouge)])


def hidden_nats(evaluation: Evaluation, state: State, _held_out: pa.Table) -> NDArray[np.float64]:
    """Each record's mean nats a hidden token, and how many it has, (2, records)."""
    judged = evaluation.judged(state)
    tokens = np.maximum(judged["tokens"], 1).astype(np.float64)
    return np.stack([judged["nats"].astype(np.float64) / tokens, tokens])


def entity_f1(evaluation: Evaluation, state: State, held_out: pa.Table) -> NDArray[np.float64]:
    """As `f1_parts`, of what the model says."""
    task = evaluation.task
    assert isinstance(task, Tagging)  # `MEASURES` asks
    return f1_parts(*task.truth_and_said(evaluation.judged(state), held_out))


def f1_parts(truth: Tags, said: Tags) -> NDArray[np.float64]:
    """Each record's F1 of entities, 2 right / (there + said), and what is below, (2, records).

    Args:
        truth: each record's BIO tags.
        said: as many for each.
    """
    pairs = [({*entities(one)}, {*entities(other)}) for one, other in zip(truth, said, strict=True)]
    right = np.array([2.0 * len(there & told) for there, told in pairs])
    below = np.array([float(len(there) + len(told)) for there, told in pairs])
    return np.stack([right / np.maximum(below, 1), below])


def impression_auc(evaluation: Evaluation, state: State, held_out: pa.Table) -> NDArray[np.float64]:
    """Each impression's AUC, (records,)."""
    task = evaluation.task
    assert isinstance(task, Recommendation)  # `MEASURES` asks
    each = task.ranked(evaluation.judged(state), held_out)
    return np.array([figures["auc"] for figures in each])


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of figures in the results page's tables.

    Attributes:
        head: over it.
        figure: of `tidy.Judged`: "pooled", "own" or "written".
        shown: an estimate for people, from its mean and the ends of its interval.
    """

    head: str
    figure: str
    shown: Callable[[float, float, float], str]


def _give_or_take(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} ± {(high - low) / 2:.3f}"


def _exponentials(*nats: float) -> str:
    return "{:,.0f} [{:,.0f}, {:,.0f}]".format(*map(math.exp, nats))


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of test records.

    Attributes:
        name: its column in tidy tables.
        title: for people.
        axis: what the plot's vertical axis says.
        columns: of tables.
        file: of a finished job's figures, in the job's folder.
        higher_is_better: its direction.
        of: the figures of a state: (records,), or (2, records) with what each record weighs, or
            (3, records) also with how well what was written for it does.
    """

    name: str
    title: str
    axis: str
    columns: tuple[Column, ...]
    file: str
    higher_is_better: bool
    of: Callable[[Evaluation, State, pa.Table], NDArray[Any]]


MEASURES = {
    "classification": Measure(
        name="accuracy",
        title="accuracy",
        axis="accuracy on test records",
        columns=(
            Column(head="pooled accuracy", figure="pooled", shown=_give_or_take),
            Column(head="own accuracy", figure="own", shown=_give_or_take),
        ),
        file="correct.npy",
        higher_is_better=True,
        of=rights,
    ),
    "generation": Measure(
        name="nats",
        title="nats a token",
        axis="nats a token on test records (lower is better)",
        columns=(
            Column(head="nats a token", figure="pooled", shown=_give_or_take),
            Column(head="perplexity", figure="pooled", shown=_exponentials),
            Column(head="ROUGE-L", figure="written", shown=_give_or_take),
        ),
        file="nats-and-rouge.npy",
        higher_is_better=False,
        of=nats,
    ),
    "tagging": Measure(
        name="f1",
        title="F1 of entities",
        axis="F1 of entities on test records",
        columns=(
            Column(head="F1, all", figure="pooled", shown=_give_or_take),
            Column(head="F1, mean of outlets", figure="own", shown=_give_or_take),
        ),
        file="entities.npy",
        higher_is_better=True,
        of=entity_f1,
    ),
    "fill-mask": Measure(
        name="nats",
        title="nats a hidden token",
        axis="nats a hidden token on test records (lower is better)",
        columns=(
            Column(head="nats a hidden token", figure="pooled", shown=_give_or_take),
            Column(head="perplexity", figure="pooled", shown=_exponentials),
        ),
        file="hidden-nats.npy",
        higher_is_better=False,
        of=hidden_nats,
    ),
    "recommendation": Measure(
        name="auc",
        title="AUC",
        axis="AUC within test impressions",
        columns=(Column(head="AUC", figure="pooled", shown=_give_or_take),),
        file="auc.npy",
        higher_is_better=True,
        of=impression_auc,
    ),
}


def measure_of(task: Mapping[str, Any]) -> Measure:
    """What a model of a [task] is judged by."""
    return MEASURES[task.get("kind", DEFAULT_TASK)]
