"""Tagging: the named entities of a text, found word by word.

The contract's labels are types of entities; each makes two tags, B- and I-, and O is no entity. The
last hidden state of each token is scaled to length one, and a linear head gives one logit a tag. A
word's tag is read off, and learnt from, its first piece alone.

Two forms of records: "tokens" (tokens and their tags) and "spans" (a text and its entities as
{start, end, type}); `presspool.common.tasks.records.tagged_words` reads both.

Invariants:
    * A record's loss is the mean over its own words that the model reads; one without any has 0.
    * A record is one row of a batch, whose shape is public, one loss and one clipped unit, also
      where a long text is read in windows (`records.packed.text_windows`).
    * What `max_length` cuts off is neither learnt nor found. Judgement counts the entities there as
      missed.

Example:
    >>> task = Tagging(TaggingTable(labels=("PER", "LOC")))
    >>> task.tags
    ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    >>> task.made([2]).to_pylist()
    [{'tokens': '["PER","news"]', 'tags': '["B-PER","O"]'}]
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.encoders import require_encoder
from presspool.common.tasks.records import tagged_words
from presspool.common.tasks.records.formats import one_format
from presspool.common.tasks.records.packed.part_rows import require_first_token
from presspool.common.tasks.records.packed.text_windows import NARROWEST, TextWindows
from presspool.common.tasks.records.tagged_words import OUTSIDE
from presspool.common.tasks.records.word_places import WordPlaces
from presspool.common.tasks.scores import entity_metrics
from presspool.common.tasks.task import (
    Judged,
    MaxLength,
    Metric,
    Task,
    TaskTable,
    linear,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

FORMATS = {"tokens": ("tokens", "tags"), "spans": ("text", "spans")}
"""The columns of each format."""
NONE = "no entity"  # among counts; no label has a space in it
_UNCOUNTED = -100

Label = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s\x00]+$")]


class TaggingTable(TaskTable):
    """The contract's [task].

    Attributes:
        format: what a record is: "tokens" or "spans".
        labels: public types of entities, in order.
        max_length: tokens of the model that a record is truncated to.
        window: tokens of each window in which a longer text is read; None for one pass.
    """

    kind: Literal["tagging"] = "tagging"
    format: Literal["tokens", "spans"] = "tokens"
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=100)]
    max_length: MaxLength = 64
    window: Annotated[
        int | None, Field(strict=True, ge=NARROWEST, exclude_if=lambda tokens: tokens is None)
    ] = None

    @model_validator(mode="after")
    def _distinct(self) -> TaggingTable:
        if len({*map(entity_metrics.of_type, self.labels)}) != len(self.labels):
            raise ValueError("labels must be distinct, in their letters and digits")
        if self.window is not None and self.window >= self.max_length:
            raise ValueError("a window has fewer tokens than max_length; leave it out for one pass")
        return self

    @property
    def longest(self) -> tuple[str, int]:
        """A window, if there are any."""
        return super().longest if self.window is None else ("window", self.window)


class Tagging(Task[TaggingTable]):
    """Words, and which entities they are of."""

    Table = TaggingTable
    columns: tuple[str, ...] = ("tokens", "tags", "text", "spans")
    inputs: tuple[str, ...] = ("tokens", "text")
    lists = ("tokens", "tags", "spans")
    metrics: tuple[Metric, ...] = (
        Metric(name="f1", title="Entity F1", higher_is_better=True, primary=True),
        Metric(name="precision", title="Precision", higher_is_better=True),
        Metric(name="recall", title="Recall", higher_is_better=True),
        Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats a word"),
    )
    pipeline: ClassVar[str] = "token-classification"
    data: ClassVar[str] = "texts with their named entities"
    public: str = "types of entities"
    pooling: ClassVar[str] = "the state of each word's first token, scaled to length one"
    says: ClassVar[str] = "entities"
    _windows: TextWindows | None = None

    def __init__(self, table: TaggingTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self.columns = FORMATS[table.format]
        self.inputs = self.columns[:1]
        if table.window is not None:
            self.parted = True
            self.cut = "a text counts with its first windows, of {} tokens together"
            self._windows = TextWindows(
                window=table.window, most=table.max_length, tokenizer=lambda: self.tokenizer
            )
        self._words = WordPlaces(
            column=self.columns[0],
            max_length=table.max_length,
            tokenizer=lambda: self.tokenizer,
            windows=self._windows,
        )
        self.tags = (OUTSIDE, *(f"{mark}-{label}" for label in table.labels for mark in "BI"))
        self.metrics += tuple(
            Metric(
                name=entity_metrics.of_type(label), title=f"F1 of {label}", higher_is_better=True
            )
            for label in table.labels
        )

    @classmethod
    def columns_in(cls, there: Collection[str]) -> tuple[str, ...]:
        """Those of the one format that a file has; raises as `one_format`."""
        return one_format("tagging", FORMATS, there)

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """No tokens, another number of tags, spans that overlap or lie outside, NUL."""
        import pyarrow as pa

        judge = tagged_words.fault_of_tags if "tags" in rows else tagged_words.fault_of_spans
        pairs = zip(*(column.fill_null("").to_pylist() for column in rows.values()), strict=True)
        return pa.array([judge(*pair) for pair in pairs], pa.large_string())

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """No text or token, NUL."""
        import pyarrow as pa

        (name,) = self.inputs
        found = [tagged_words.fault_of_asked(said, name) for said in rows[name].to_pylist()]
        return pa.array(found, pa.large_string())

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """Tokens as a JSON list, texts as they are; either way a list of each word's tags."""
        import pyarrow as pa

        asked, answer = self.columns
        given, said = (rows[name].fill_null("").to_pylist() for name in self.columns)
        known = {*self.tags} if answer == "tags" else {*self.table.labels}
        found = [
            tagged_words.tags_in(*pair, answer)
            if known.issuperset(tagged_words.named(pair[1], answer))
            else None
            for pair in zip(given, said, strict=True)
        ]
        if asked == "tokens":
            given = [tagged_words.kept(tagged_words.parts_of(one) or ()) for one in given]
        tags = [None if one is None else tagged_words.kept(one) for one in found]
        return {
            asked: pa.array(given, pa.large_string()),
            answer: pa.array(tags, pa.large_string()),
        }

    def wanted(self, column: str, value: str) -> tuple[str, str]:
        """BIO tags, or types, of the labels; the nearest to the first unknown one is suggested."""
        known = self.tags if column == "tags" else self.table.labels
        odd = [name for name in tagged_words.named(value, column) if name not in known]
        near = get_close_matches(odd[0] if odd else "", known, n=1)
        shown = ", ".join(map(repr, self.table.labels))
        what = f"O, or B- or I- before one of {shown}" if column == "tags" else f"types {shown}"
        return what, near[0] if near else ""

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """Records that have an entity of each type, and those that have none."""
        had = Counter[str]()
        for tags in self._truth(records):
            had.update({kind for kind, _, _ in tagged_words.entities(tags)} or {NONE})
        return {label: had[label] for label in (*self.table.labels, NONE)}

    def made(self, words: Sequence[int]) -> pa.Table:
        """Texts that begin with the name of a type, which is an entity; the types in turn."""
        import pyarrow as pa

        rows = []
        for i, count in enumerate(words):
            label = self.table.labels[i % len(self.table.labels)]
            tokens = [label, *["news"] * (count - 1)]
            spans = [{"start": 0, "end": len(label), "type": label}]
            tags = [f"B-{label}", *[OUTSIDE] * (count - 1)]
            by_column = {"tokens": tagged_words.kept(tokens), "tags": tagged_words.kept(tags)}
            by_column |= {"text": " ".join(tokens), "spans": json.dumps(spans)}
            rows.append([by_column[name] for name in self.columns])
        columns = zip(*rows, strict=True) if rows else [[] for _ in self.columns]
        read = {
            name: pa.array(list(values), pa.large_string())
            for name, values in zip(self.columns, columns, strict=True)
        }
        return pa.table(dict(self.parse(read)))

    def _truth(self, records: pa.Table) -> list[list[str]]:
        return [json.loads(tags) for tags in records[self.columns[1]].to_pylist()]

    # --- Model -----------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """Texts, and tokens with one space between."""
        import pyarrow as pa

        return pa.array([text for text, _ in self._words.read(records)], pa.large_string())

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids, and numbers of windows for a mask where texts are read in some."""
        return super().encode(texts) if self._windows is None else self._windows.batch(texts)

    def lengths(self, texts: list[str]) -> NDArray[np.int64]:
        """Untruncated length of each text in tokens; of all its windows together."""
        return super().lengths(texts) if self._windows is None else self._windows.lengths(texts)

    def parts(self, ids: Tensor) -> Tensor:
        """The number of each token's window."""
        return super().parts(ids) if self._windows is None else self._windows.parts(ids)

    def take(self, loaded: Any) -> Any:
        """The encoder.

        Raises:
            ModelError: a tokenizer that cannot tell words apart; where texts are read in windows,
                none that reads both ways, or whose tokenizer does not begin a text.
        """
        self._words.check()
        if self._windows is not None:
            require_encoder(loaded, "or leave [task] window out")
            require_first_token(self.tokenizer)
        return super().take(loaded)

    def head(self, encoder: Any) -> nn.Module:
        """`nn.Linear(hidden, tags)` at zero, of each token."""
        return linear(encoder, len(self.tags))

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Every token's state, of length one; (records, tokens, hidden)."""
        from torch import nn

        return nn.functional.normalize(states, dim=-1)

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Mean cross-entropy of each record's words that are read, in nats."""
        return self.judge(outputs, records)["loss"]

    # --- Judgement -------------------------------------------------------------------------------

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The loss, and the number of each token's likeliest tag, (records, max_length)."""
        from torch.nn.functional import cross_entropy, pad

        targets = self._targets(outputs, records)
        each = cross_entropy(outputs.mT, targets, ignore_index=_UNCOUNTED, reduction="none")
        words = (targets != _UNCOUNTED).sum(1).clamp(min=1)
        said = pad(outputs.argmax(2), (0, self.table.max_length - outputs.shape[1]))
        return {"loss": each.sum(1) / words, "tags": said}

    def _targets(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """At a word's first token the number of its tag, (records, width) int64."""
        import torch

        number = {tag: i for i, tag in enumerate(self.tags)}
        targets = torch.full(outputs.shape[:2], _UNCOUNTED, dtype=torch.int64)
        read = zip(self._words.of(records), self._truth(records), strict=True)
        for row, (places, tags) in enumerate(read):
            for word, place in places:
                if place < targets.shape[1]:  # a made record that fills up may be longer
                    targets[row, place] = number[tags[word]]
        return targets.to(outputs.device)

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """How many entities are found whole."""
        truth, said = self.truth_and_said(judged, records)
        loss = float(judged["loss"].mean())
        found = entity_metrics.scores(truth, said, self.table.labels)
        return {**found, "loss": loss if math.isfinite(loss) else None}

    def truth_and_said(
        self, judged: Judged, records: pa.Table
    ) -> tuple[list[list[str]], list[list[str]]]:
        """The tags of each record's words, and those the model gives; `O` of what is not read."""
        truth, said = self._truth(records), list[list[str]]()
        for row, places, tags in zip(judged["tags"], self._words.of(records), truth, strict=True):
            said.append([OUTSIDE] * len(tags))
            for word, place in places:
                said[-1][word] = self.tags[int(row[place])]
        return truth, said

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """Each record's entities as a JSON list.

        Of each its first character in the text, the one behind its last, its type, its words, and
        the mean probability of their tags.
        """
        chances, numbers = (found.tolist() for found in outputs.double().softmax(2).max(2))
        read = zip(self._words.read(records), self._words.of(records), strict=True)
        answers = []
        for row, ((text, words), places) in enumerate(read):
            found = []
            tags = [self.tags[numbers[row][place]] for _, place in places]
            for kind, first, end in tagged_words.entities(tags):
                start, stop = words[places[first][0]][0], words[places[end - 1][0]][1]
                own = [chances[row][place] for _, place in places[first:end]]
                score = round(sum(own) / len(own), 4)
                one = {"start": start, "end": stop, "type": kind, "score": score}
                found.append(one | {"text": text[start:stop]})
            answers.append(json.dumps(found, ensure_ascii=False))
        return answers

    def told(self, answer: str) -> Any:
        """The list itself."""
        return json.loads(answer)
