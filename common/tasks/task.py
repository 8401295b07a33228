"""What every task says of itself; `classification` beside this file is the first.

A task knows its table of the contract and the base model's tokenizer, and nothing of readers,
rounds or privacy. All it needs is one file and one line in `presspool.common.contract.doors`.

Invariants:
    * A task's file imports neither torch nor transformers nor pyarrow before a method needs them:
      an auditor reads contracts without.
    * Records never mix: losses and judgements are a record's own, (records, ...), never reduced.
    * What a task makes of a record depends on that record and the contract alone.

A table of records (`pyarrow.Table`) has the task's `columns`, as its `parse` left them.

Example:
    >>> from presspool.common.contract.doors import TASKS
    >>> TASKS["classification"].columns
    ('text', 'label')
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import Field

from presspool.common.base.errors import InputError
from presspool.common.contract.contract_schema import GROUPS, Model, TaskTable
from presspool.common.tasks.metric import Metric
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.scores.writing_figures import WritingFigures

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["Judged", "MaxLength", "Metric", "Task", "TaskTable", "linear", "mean_of_length_one"]

MaxLength = Annotated[int, Field(strict=True, ge=4, le=4096)]
"""Tokens that a record is truncated to."""

T = TypeVar("T", bound=TaskTable)
Judged = Mapping[str, "NDArray[Any]"]
"""What metrics need of each record of a file: name to (records, ...), in the file's order.

What the model wrote is `written`, (records,) str or None: it is asked of some of them only.
"""


def linear(encoder: Any, outputs: int, *, bias: bool = True) -> nn.Module:
    """The plainest head: `nn.Linear(hidden, outputs)` at zero."""
    from torch import nn

    head = nn.Linear(encoder.config.hidden_size, outputs, bias=bias)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def mean_of_length_one(states: Tensor, mask: Tensor) -> Tensor:
    """The pooling that sentence encoders are trained with; arguments as `Task.pool`'s."""
    from torch import nn

    real = mask.unsqueeze(-1).to(states.dtype)
    pooled = (states * real).sum(1) / real.sum(1).clamp(min=1)
    return nn.functional.normalize(pooled, dim=-1)


class Task(ABC, Generic[T]):
    """One kind of task under one contract's table.

    Args:
        table: the contract's [task].
        model: the base model, for its tokenizer.

    Attributes:
        Table: what [task] may say; `kind` must be the task's name in the registry.
        columns: of a record, without the reader; named so in files, unless they are mapped. Where
            the table decides, an instance has fewer than its class; so for the next two.
        inputs: which of them the model reads; the others are what it should say.
        lists: those whose value may be a list in JSON lines and Parquet; it comes as JSON text.
        metrics: how an adapter is judged, in the order of plots; one is primary.
        auto: the class of transformers that loads the base model for it.
        groups: the parameter groups that it has; without "head" its head has no parameters.
        pipeline: the Hub's name for what its model does, for model cards.
        data: what its records are, for privacy cards.
        cut: what of a record counts, for privacy cards; `{}` stands for `max_length`.
        public: what its table makes public, for privacy cards.
        parted: whether a record is several texts that do not see each other (`parts`);
            `listed` whether each of them is cut for itself.
        pooling: what of the last hidden states its head reads, in words.
        says: what an answer is, as a key of JSON and a column of CSV.
    """

    Table: ClassVar[type[TaskTable]]
    columns: tuple[str, ...]
    inputs: tuple[str, ...] = ("text",)
    lists: ClassVar[tuple[str, ...]] = ()
    metrics: tuple[Metric, ...]
    auto: ClassVar[str] = "AutoModel"
    groups: ClassVar[tuple[str, ...]] = GROUPS
    pipeline: ClassVar[str] = "text-classification"
    data: ClassVar[str] = "labelled texts"
    cut: str = "a text counts with its first {} tokens"
    public: str = "labels"
    parted: bool = False
    listed: ClassVar[bool] = False
    pooling: ClassVar[str] = "the state of every token"
    says: ClassVar[str] = "label"

    def __init__(self, table: T, model: Model | None = None) -> None:
        self.table, self.model = table, model or Model()

    @property
    def primary(self) -> Metric:
        """The metric that a run is judged by."""
        return next(metric for metric in self.metrics if metric.primary)

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def guess(cls, distinct: Callable[[str], list[str]]) -> Task[Any]:
        """The task of a file that is looked at without a run.

        Args:
            distinct: from a column to its different values, sorted.

        Raises:
            InputError: a file alone does not say enough, as long as this is not overridden.
        """
        raise InputError(
            "this task's data is checked against a run",
            where="--task",
            got=cls.Table.model_fields["kind"].default,
            advice="add --run: its contract says what a record of this task must be",
        )

    @classmethod
    def columns_in(cls, there: Collection[str]) -> tuple[str, ...]:
        """The columns that a record of a file has, where there is no run to say so.

        Args:
            there: those of `columns` that the file has; a missing one is refused later.
        """
        return cls.columns

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Why no run could use records, `large_string` (rows,), null where there is no reason.

        They are refused by line or left out at import, and left out by every run. A reason is one
        of few, and quotes no record.

        Args:
            rows: as for `parse`, of the columns of `columns_in`.
        """
        import pyarrow as pa

        return pa.nulls(len(next(iter(rows.values()))), pa.large_string())

    def faults(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Why this run cannot use records: as `damage`, and what else the table rules out."""
        return self.damage(rows)

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Why the model can answer no such record, as `faults`; of `inputs` alone.

        Args:
            rows: as for `parse`, of the columns `inputs`, without nulls.
        """
        import pyarrow as pa

        return pa.nulls(len(next(iter(rows.values()))), pa.large_string())

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """The columns as they are kept, null where a value is none that the task knows.

        Args:
            rows: each of `columns` as `large_string`, (rows,); may hold nulls.
        """
        return rows

    def wanted(self, column: str, value: str) -> tuple[str, str]:
        """What is expected of a column in which `value` is unknown, and a guess, or ""."""
        return f"values of {column!r} that the task knows", ""

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """How often each thing that is to be said occurs; for an operator's own screen."""
        return {}

    def asked(self, records: pa.Table) -> list[tuple[str, str]]:
        """Of each record, for people: what the model is asked, and the answer that is there."""
        return [(text, "") for text in self.texts(records).to_pylist()]

    def begun(self, records: pa.Table) -> pa.Table:
        """Public records as `write` goes on from them when it is judged: without what they ask."""
        return records

    @abstractmethod
    def made(self, words: Sequence[int]) -> pa.Table:
        """Made records of about so many words each, no two neighbours with one answer."""

    # --- Model -----------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The base model's, with a padding token."""
        from presspool.common.models.models import tokenizer

        return tokenizer(self.model)

    def texts(self, records: pa.Table) -> pa.Array:
        """What the model reads of each record, `large_string` (records,); equal ones run once."""
        return records[self.inputs[0]].combine_chunks()

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` of a batch of `texts`, (records, tokens) int64 each.

        Longer texts are truncated to the table's `max_length`; shorter ones are padded on the right
        to the longest of the batch, so readers' texts come here one at a time.
        """
        batch = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.table.max_length,
            return_tensors="pt",
            padding="longest",
        )
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def lengths(self, texts: list[str]) -> NDArray[np.int64]:
        """Untruncated length of each text in tokens, special ones included; (texts,)."""
        import numpy as np

        ids = self.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        return np.array([len(row) for row in ids], np.int64)

    @property
    def loads(self) -> str:
        """The class of transformers that loads this very base model: `auto`, if not overridden."""
        return self.auto

    def parts(self, ids: Tensor) -> Tensor:
        """Of each token of a record the part that it stands in, (tokens,) int64, from 1.

        If not overridden, a record is one part. Where it is several (`parted`), `encode` gives
        these numbers as its mask, and `pool` gets them as its own, with 0 for padding. The ids,
        (tokens,) int64, may be any: made records are no more than random ones.
        """
        return ids.new_ones(len(ids))

    def take(self, loaded: Any) -> Any:
        """The encoder, with `last_hidden_state`, of the base model that `auto` loaded.

        A task that needs more of it, the way from states to words say, keeps it: whoever computes
        with the encoder asks the very task that took it.
        """
        return loaded.get_encoder() if loaded.config.is_encoder_decoder else loaded

    @abstractmethod
    def head(self, encoder: Any) -> nn.Module:
        """The trained module on top of an encoder, at its public start."""

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """What the head reads: the states of all tokens, if not overridden.

        Args:
            states: the encoder's last, (records, tokens, hidden).
            mask: (records, tokens), 1 for real tokens; see also `parts`.

        Returns:
            (records, tokens, ...) or, one vector a record, (records, features).
        """
        return states

    def start(self, model: Any) -> None:
        """Put another public start into a fresh `HeadedModel`'s head, if the table asks for it."""

    @abstractmethod
    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Each record's own loss, (records,) float32; never a mean over the batch.

        Args:
            outputs: the head's, float32, (records, ...); of per-token heads right-padded.
            records: as many.
        """

    # --- Judgement -------------------------------------------------------------------------------

    @abstractmethod
    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """What the metrics need of each record of a batch: name to (records, ...) without padding.

        Arguments as for `losses`.
        """

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """The metrics by name, of a whole file; None where one cannot be computed.

        If not overridden, each is the mean over records of what `judge` calls by its name.
        """
        return {metric.name: float(judged[metric.name].mean()) for metric in self.metrics}

    def figures(self, judged: Judged, records: pa.Table) -> AnswerFigures | None:
        """What a report says of a public file beside the metrics; None where there is nothing."""
        return None

    def compared(
        self, before: Sequence[str], after: Sequence[str], records: pa.Table
    ) -> WritingFigures | None:
        """What a report says of texts that were written before and after training; None of most.

        Args:
            before: what the base model wrote for each record.
            after: what the adapter did.
            records: public ones.
        """
        return None

    @abstractmethod
    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """The answer to each record of a batch; only `inputs` are there."""

    def probabilities(self, outputs: Tensor) -> list[dict[str, float]]:
        """How likely each answer is, of each record of a batch; empty where nothing is known."""
        return [{} for _ in range(len(outputs))]

    @property
    def options(self) -> tuple[str, ...]:
        """The answers that `probabilities` tells of, in order; none, if not overridden."""
        return ()

    def told(self, answer: str) -> Any:
        """An answer as JSON holds it: the text, if not overridden."""
        return answer

    def sureness(self, outputs: Tensor) -> Tensor:
        """How sure each answer is, (records,), 0 to 1; where a run has none to be unsure of, 1."""
        return outputs.new_ones(len(outputs))

    def write(self, records: pa.Table) -> list[str] | None:
        """What the model itself writes, greedily, for each record; only `inputs` need be there.

        None, if not overridden: answers are read off the outputs (`predict`). Only of the task that
        took the model, with the adapter in place.
        """
        return None
