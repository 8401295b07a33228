"""What a trained model is judged by, one test record at a time, and how that is said.

A classifier's record is right or wrong; a generating model's has a mean loss in nats over the
tokens that it should write, and weighs as many tokens. The token that ends an answer is left out:
only a tuned model can know how ours end, and that would pass for a gain in what it writes.
Everything that an experiment reports is a
weighted mean of such figures, so intervals and differences need not know which they are of.

Example:
    >>> measure_of({"kind": "generation"}).title, measure_of({}).title
    ('nats a token', 'accuracy')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from presspool.common.contract.contract_schema import DEFAULT_TASK

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


def nats(
    evaluation: Evaluation,
    state: State,
    held_out: pa.Table,  # noqa: ARG001 - the answers stand in the losses
) -> NDArray[np.float64]:
    """Each record's mean nats a token, and its tokens but for the last, (2, records)."""
    judged = {name: values.astype(np.float64) for name, values in evaluation.judged(state).items()}
    tokens = np.maximum(judged["tokens"] - 1, 1)
    return np.stack([(judged["nats"] - judged["last"]) / tokens, tokens])


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of test records.

    Attributes:
        name: its column in tidy tables.
        title: for people.
        axis: what the plot's vertical axis says.
        file: of a finished job's figures, in the job's folder.
        higher_is_better: its direction.
        of: the figures of a state: (records,), or (2, records) with what each record weighs.
    """

    name: str
    title: str
    axis: str
    file: str
    higher_is_better: bool
    of: Callable[[Evaluation, State, pa.Table], NDArray[Any]]


MEASURES = {
    "classification": Measure(
        name="accuracy",
        title="accuracy",
        axis="accuracy on test records",
        file="correct.npy",
        higher_is_better=True,
        of=rights,
    ),
    "generation": Measure(
        name="nats",
        title="nats a token",
        axis="nats a token on test records (lower is better)",
        file="nats.npy",
        higher_is_better=False,
        of=nats,
    ),
}


def measure_of(task: Mapping[str, Any]) -> Measure:
    """What a model of a [task] is judged by."""
    return MEASURES[task.get("kind", DEFAULT_TASK)]
