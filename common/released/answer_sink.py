"""Where an adapter's answers go: CSV or JSON lines, to a file or to standard output.

Invariants:
    * The texts that were asked about are not repeated: a row's number joins the two.
    * A file appears whole or not at all; it is its owner's alone, as answers about readers are.

Example: `with answer_sink(Path("labels.csv"), "csv", task) as sink: sink.write(1, prediction)`.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from presspool.common.base.files import replacing
from presspool.common.base.foreign_text import visible
from presspool.common.models.adapted_outputs import Prediction
from presspool.common.tasks.task import Task


@dataclass(kw_only=True)
class AnswerSink:
    """Takes answers one by one.

    Attributes:
        kind: "csv", "jsonl", or "json", which keeps them.
        stream: for the first two.
        task: says what an answer is called, and how likely which are.
        documents: what was kept.
    """

    kind: str
    stream: TextIO
    task: Task[Any]
    documents: list[dict[str, Any]] = field(default_factory=list)

    def begin(self) -> None:
        """Write what stands before all answers."""
        if self.kind == "csv":
            chances = (f"probability of {label}" for label in self.task.options)
            self._row(["row", self.task.says, *chances])

    def write(self, row: int, said: Prediction) -> None:
        """Write the answer to a row, which counts from 1."""
        if self.kind == "csv":
            chances = (said.probabilities[label] for label in self.task.options)
            self._row([row, said.answer, *chances])
            return
        document: dict[str, Any] = {"row": row, self.task.says: self.task.told(said.answer)}
        if said.probabilities:
            document["probabilities"] = dict(said.probabilities)
        if self.kind == "json":
            self.documents.append(document)
        else:
            self.stream.write(visible(json.dumps(document, ensure_ascii=False)) + "\n")

    def _row(self, values: list[Any]) -> None:
        if self.stream is sys.stdout:  # a model writes what it likes, and a terminal would obey
            values = [visible(value) if isinstance(value, str) else value for value in values]
        csv.writer(self.stream, lineterminator="\n").writerow(values)


@contextmanager
def answer_sink(file: Path | None, kind: str, task: Task[Any]) -> Iterator[AnswerSink]:
    """A sink for a task's answers; `file` is written whole, standard output as they come.

    Raises:
        StorageError: the disk refuses.
    """
    sink = AnswerSink(kind=kind, stream=sys.stdout, task=task)
    if file is None:
        sink.begin()
        yield sink
        sys.stdout.flush()
        return
    with replacing(file, private=True) as raw:
        sink.stream = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        sink.begin()
        yield sink
        sink.stream.flush()
        sink.stream.detach()
