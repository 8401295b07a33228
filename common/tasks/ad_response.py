"""Ad response: how likely a reader clicks on an advert, from its text and where it is shown.

The text is encoded as in classification; the contract's columns of context stand beside it as
one-hot numbers, divided by the root of their number, so that text and context are both of length
one. A linear head, at zero, reads both. A record is one showing to one reader, one loss and one
clipped unit.

Most showings are not clicked, and files often keep only a public share w of those. The log-odds
that are learned from such a file are too high by -log w (King & Zeng, Political Analysis 2001,
section 4.1; as a chance: He et al., ADKDD 2014, section 6.3), so log w is added to them wherever
something is said or judged.

Invariants:
    * The loss is of kept showings, as outlets' files have them; public rows are all showings.
    * At its start the model takes half of the kept showings for clicked.

Example:
    >>> table = AdTable(context={"device": ("phone", "desktop")}, kept_unclicked=0.1)
    >>> AdResponse(table).made([1, 2]).to_pylist()[1]
    {'text': 'offer today', 'device': 'desktop', 'clicked': 1}
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.records.adverts import (
    BITS,
    CLICKED,
    CONTEXT,
    AdTable,
    fault_of_click,
    unknown_category,
)
from presspool.common.tasks.records.turns import fault_of_text
from presspool.common.tasks.scores import click_scores
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.task import Judged, Metric, Task, mean_of_length_one

__all__ = ["AdResponse", "AdTable"]

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

_WORDS = ("new", "offer", "today", "tickets", "save", "on")


class AdResponse(Task[AdTable]):
    """An advert's text, where it is shown, and whether it was clicked."""

    Table = AdTable
    columns: tuple[str, ...] = ("text", *CONTEXT, CLICKED)
    inputs: tuple[str, ...] = ("text", *CONTEXT)
    metrics: tuple[Metric, ...] = click_scores.METRICS
    data: ClassVar[str] = "showings of adverts, with their context and clicks"
    public: str = "values of context, and the share of showings without a click that is kept"
    pooling: ClassVar[str] = "mean of the real tokens' states, scaled to length one"
    says: ClassVar[str] = "probability"

    def __init__(self, table: AdTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self._values = table.context.values
        self.inputs = ("text", *self._values)
        self.columns = (*self.inputs, CLICKED)

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def columns_in(cls, there: Collection[str]) -> tuple[str, ...]:
        """Text, click, and all context that the file has: a contract may ask for any of it."""
        return ("text", *(name for name in CONTEXT if name in there), CLICKED)

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text, NUL, a click that is neither 0 nor 1."""
        return _first(
            [fault_of_click(v) if name == CLICKED else fault_of_text(v, name) for v in _filled(row)]
            for name, row in rows.items()
        )

    def faults(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Also a value of context that the contract does not have."""
        return _first([self.damage(rows).to_pylist(), *self._strange(rows)])

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text, NUL, context that is missing or that the contract does not have."""
        texts = [fault_of_text(text, "text") for text in _filled(rows["text"])]
        absent = ([f"no {n}"] * len(texts) for n in self._values if n not in rows)
        return _first([texts, *absent, *self._strange(rows)])

    def _strange(self, rows: Mapping[str, pa.Array]) -> Iterable[list[str | None]]:
        for name, known in self._values.items():
            if name in rows:
                why = unknown_category(name)
                sought = frozenset(known)  # where a value stands in the contract costs no time
                yield [None if value in sought else why for value in _filled(rows[name])]

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """Clicks as 0 and 1, int64; all else as it is."""
        import pyarrow as pa

        clicks = [BITS.get(said.strip().lower()) for said in _filled(rows[CLICKED])]
        return {**rows, CLICKED: pa.array(clicks, pa.int64())}

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """Showings with and without a click."""
        clicks = sum(records[CLICKED].to_pylist())
        return {CLICKED: clicks, "not clicked": len(records) - clicks}

    def asked(self, records: pa.Table) -> list[tuple[str, str]]:
        """The text with its context, and whether it was clicked."""
        return [
            (", ".join([row["text"], *(f"{name} {row[name]}" for name in self._values)]), said)
            for row in records.to_pylist()
            for said in [CLICKED if row[CLICKED] else "not clicked"]
        ]

    def made(self, words: Sequence[int]) -> pa.Table:
        """Words and values of context in turn, every second clicked."""
        import pyarrow as pa

        rows = range(len(words))
        columns = {"text": [" ".join(islice(cycle(_WORDS), i, i + words[i])) for i in rows]}
        columns |= {name: [v[i % len(v)] for i in rows] for name, v in self._values.items()}
        found = {name: pa.array(column, pa.large_string()) for name, column in columns.items()}
        return pa.table({**found, CLICKED: pa.array([i % 2 for i in rows], pa.int64())})

    # --- Model -----------------------------------------------------------------------------------

    def head(self, encoder: Any) -> nn.Module:
        """A number of the text's vector and one of each value, linear at zero."""
        from presspool.common.models.rows.click_head import ClickHead

        return ClickHead(encoder.config.hidden_size, sum(map(len, self._values.values())))

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Mean states of length one, (records, hidden)."""
        return mean_of_length_one(states, mask)

    def _logits(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Log-odds of a click among kept showings, (records,)."""
        own = outputs.gather(1, self._places(records).to(outputs.device))
        return outputs[:, 0] + own.sum(1) / math.sqrt(len(self._values))

    def _corrected(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Log-odds of a click among all showings, (records,)."""
        return self._logits(outputs, records) + math.log(self.table.kept_unclicked)

    def _places(self, records: pa.Table) -> Tensor:
        """Where each record's values stand in the outputs, (records, columns) int64."""
        import torch

        rows, first = list[list[int]](), 1
        for name, known in self._values.items():
            place = {value: first + i for i, value in enumerate(known)}
            rows.append([place[value] for value in records[name].to_pylist()])
            first += len(known)
        return torch.tensor(rows, dtype=torch.int64).T

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Each kept showing's cross-entropy, in nats."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        kept = self._logits(outputs, records)
        clicks = kept.new_tensor(records[CLICKED].to_pylist())
        return binary_cross_entropy_with_logits(kept, clicks, reduction="none")

    # --- Judgement -------------------------------------------------------------------------------

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The log-odds, corrected."""
        return {"logits": self._corrected(outputs, records)}

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """As `click_scores`."""
        return click_scores.scores(judged["logits"], records[CLICKED].to_pylist())

    def figures(self, judged: Judged, records: pa.Table) -> AnswerFigures | None:
        """Chances beside what happened."""
        return click_scores.calibration(judged["logits"], records[CLICKED].to_pylist())

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """Each record's chance of a click among all showings."""
        chances = self._corrected(outputs.double(), records).sigmoid()
        return [f"{chance:.6g}" for chance in chances.tolist()]

    def told(self, answer: str) -> Any:
        """The number; None of a diverged model, whose chance is none."""
        chance = float(answer)
        return chance if math.isfinite(chance) else None


def _filled(column: pa.Array) -> list[str]:
    found: list[str] = column.fill_null("").to_pylist()
    return found


def _first(reasons: Iterable[Sequence[str | None]]) -> pa.Array:
    """Each record's first reason, or null."""
    import pyarrow as pa

    found = [next(filter(None, each), None) for each in zip(*reasons, strict=True)]
    return pa.array(found, pa.large_string())
