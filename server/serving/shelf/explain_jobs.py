"""Which words moved an adapter's answer, asked of a served adapter.

Invariant: it takes its turn in the queue as so many records as it reads: the points of the line.

Example: `explained([ExplainJob(adapter=adapter, text="Cup final", label="sport")])`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from presspool.common.base.errors import InputError
from presspool.common.released.explained_answers import STEPS, explain
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.served_adapter import TOKENISING, ServedAdapter
from presspool.server.serving.shelf.work_queue import QueuedJob


@dataclass(kw_only=True, eq=False)
class ExplainJob(QueuedJob):
    """A text, and the label that is asked about.

    Attributes:
        adapter: that gives it.
        text: what is read.
        label: of the contract's.
    """

    adapter: ServedAdapter
    text: str
    label: str
    rows: int = field(default=STEPS, init=False)


def explained(jobs: Sequence[ExplainJob]) -> None:
    """Answer every job by its future, one after another: an `ExplainedLabel`."""
    for job in jobs:
        try:
            (found,) = explain(job.adapter, job.text, [job.label], spelling=TOKENISING)
        except InputError as error:  # Captum is not here
            job.future.set_exception(CallError(501, f"{error.what}: {error.advice}"))
        else:
            job.future.set_result(found)
