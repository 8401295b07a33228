"""Recommendation: which of the titles that a reader is shown will be clicked.

Two towers that are one: every title, of the history and of the candidates, goes through the same
encoder on its own; its mean state of length one is its vector. A reader is the sum of the history's
vectors, each a little turned (`title_head`) and weighted by a small trained attention, and one
trained vector that is everybody's, which is all there is of a reader without history. A candidate's
score is the dot product with the reader.

A record is one impression. Its titles stand one behind the other in one row of tokens, and none
sees another (`Task.parts`), so a record is one loss and one clipped unit, and nothing of another
reader is in it.

Invariants:
    * A record's loss is the cross-entropy between the softmax of the scores over the impression's
      own candidates and its clicks, shared out evenly: the mean of -log softmax over the clicked
      ones. With one click it is the usual one (ListNet's otherwise: Cao et al., ICML 2007, sec. 4).
    * Negatives come from the impression itself. Candidates of other readers are refused by name.
    * At its start the model is a baseline: cosine with the mean of the history. That one's AUC
      stands beside the AUC of every round.

Example:
    >>> task = Recommendation(RecommendationTable(history=2, candidates=3, title_length=8))
    >>> task.table.max_length, task.texts(task.made([4])).to_pylist()
    (40, ['["new","report today","today","after says"]'])
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.encoders import require_encoder
from presspool.common.tasks.records import impressions
from presspool.common.tasks.records.impressions import Impression
from presspool.common.tasks.records.packed.packed_titles import PackedTitles
from presspool.common.tasks.records.packed.part_rows import require_first_token
from presspool.common.tasks.records.recommendation_table import RecommendationTable
from presspool.common.tasks.scores import ranking_scores
from presspool.common.tasks.task import Judged, Metric, Task

__all__ = ["Recommendation", "RecommendationTable"]

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

SCALE = 10.0
"""A dot product of vectors of length one, times this, is a score: else no softmax could be sure."""
_WORDS = ("new", "report", "today", "after", "says", "on")


class Recommendation(Task[RecommendationTable]):
    """Titles clicked before, titles shown now, and which of them were clicked."""

    Table = RecommendationTable
    columns = impressions.COLUMNS
    inputs = impressions.ASKED
    lists = impressions.COLUMNS
    metrics = (
        Metric(name="auc", title="AUC", higher_is_better=True, primary=True),
        Metric(name="mrr", title="MRR", higher_is_better=True),
        Metric(name="ndcg_5", title="nDCG@5", higher_is_better=True),
        Metric(name="ndcg_10", title="nDCG@10", higher_is_better=True),
        Metric(name="auc_known", title="AUC with a history", higher_is_better=True),
        Metric(name="auc_cold", title="AUC without history", higher_is_better=True),
        Metric(name="auc_alike", title="AUC of content similarity", higher_is_better=True),
        Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats"),
    )
    pipeline: ClassVar[str] = "text-ranking"
    data: ClassVar[str] = "impressions: titles clicked before, titles shown, and clicks"
    cut: str = "an impression counts with its last titles, of {} tokens together"
    public: str = "the most titles of an impression and tokens of a title"
    pooling: ClassVar[str] = "the mean of each title's own tokens, scaled to length one"
    says: ClassVar[str] = "ranking"
    parted = listed = True

    def __init__(self, table: RecommendationTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self._packed = PackedTitles(
            title_length=table.title_length, tokenizer=lambda: self.tokenizer
        )

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Titles or clicks that are no lists of them, empty titles, no click, NUL."""
        return _reasons([impressions.fault(*row) for row in _rows(rows, cls.columns)])

    def faults(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Also more candidates than the contract has room for."""
        known = zip(self.damage(rows).to_pylist(), _rows(rows, self.inputs), strict=True)
        return _reasons([why or self._too_many(*row) for why, row in known])

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Titles that are no lists of them, empty ones, too many candidates, NUL."""
        asked = _rows(rows, self.inputs)
        return _reasons([impressions.fault_of_asked(*row) or self._too_many(*row) for row in asked])

    def _too_many(self, _: str, candidates: str) -> str | None:
        most = self.table.candidates
        return f"more than {most} candidates" if len(json.loads(candidates)) > most else None

    def counts(self, records: pa.Table) -> Mapping[str, int]:
        """Impressions with and without a history, titles shown, clicks, and what the caps cut."""
        found, table = self._whole(records), self.table
        titles = {title for one in found for title in one.history[-table.history :]}
        titles |= {title for one in found for title in one.candidates}
        texts = [self._packed.text([title]) for title in sorted(titles)]
        long = self._packed.lengths(texts) > table.title_length
        return {
            "impressions with a history": sum(bool(one.history) for one in found),
            "impressions without history": sum(not one.history for one in found),
            "candidates": sum(len(one.candidates) for one in found),
            "clicks": sum(sum(one.clicks) for one in found),
            f"histories cut to their last {table.history} titles": sum(
                len(one.history) > table.history for one in found
            ),
            f"different titles cut to {table.title_length} tokens": int(long.sum()),
        }

    def asked(self, records: pa.Table) -> list[tuple[str, str]]:
        """The candidates, and those that were clicked."""
        return [
            (" | ".join(one.candidates), " | ".join(_clicked(one))) for one in self._read(records)
        ]

    def made(self, words: Sequence[int]) -> pa.Table:
        """At least two titles clicked before and two shown, of which another is clicked in turn."""
        import pyarrow as pa

        rows = [self._made(number, count) for number, count in enumerate(words)]
        columns = zip(*rows, strict=True) if rows else [[] for _ in self.columns]
        return pa.table(
            {
                name: pa.array(list(values), pa.large_string())
                for name, values in zip(self.columns, columns, strict=True)
            }
        )

    def _made(self, number: int, count: int) -> tuple[str, str, str]:
        """As few titles as hold so many words; neighbours differ in length, whatever is known."""
        table = self.table
        needed = -(-count // max(1, table.title_length - 2))
        shown = min(table.candidates, max(2, -(-needed // 2)))
        before = min(table.history, max(2, needed - shown))
        each = max(1, count // (before + shown))
        titles = [
            " ".join(_WORDS[(number + place + i) % len(_WORDS)] for i in range(each + place % 2))
            for place in range(before + shown)
        ]
        clicks = [int(place == number % shown) for place in range(shown)]
        return _kept(titles[:before]), _kept(titles[before:]), _kept(clicks)

    def _read(self, records: pa.Table) -> list[Impression]:
        """Each record's impression, of the history as much as counts."""
        found = self._whole(records)
        return [one._replace(history=one.history[-self.table.history :]) for one in found]

    def _whole(self, records: pa.Table) -> list[Impression]:
        there = [name for name in self.columns if name in records.column_names]
        each = zip(*(records[name].to_pylist() for name in there), strict=True)
        return [impressions.read(*row) for row in each]

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """JSON lists, one spelling each."""
        found = [_parsed(*row) for row in _rows(rows, self.columns)]
        import pyarrow as pa

        return {
            name: pa.array([row and row[i] for row in found], pa.large_string())
            for i, name in enumerate(self.columns)
        }

    # --- Model -----------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """The titles of each record, its history's first, as a JSON list."""
        import pyarrow as pa

        read = self._read(records)
        found = [self._packed.text([*one.history, *one.candidates]) for one in read]
        return pa.array(found, pa.large_string())

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids, and numbers of titles for a mask, padded on the right."""
        return self._packed.batch(texts)

    def lengths(self, texts: list[str]) -> NDArray[np.int64]:
        """Untruncated length of all titles of a record together."""
        return self._packed.lengths(texts)

    def parts(self, ids: Tensor) -> Tensor:
        """The number of each token's title."""
        return self._packed.parts(ids)

    def take(self, loaded: Any) -> Any:
        """The encoder.

        Raises:
            ModelError: none that reads both ways, whose titles were tried to be apart; a tokenizer
                without a first special token.
        """
        require_encoder(loaded)
        require_first_token(self.tokenizer)
        return loaded

    def head(self, encoder: Any) -> nn.Module:
        """A turn, attention and everybody's vector, all at zero, beside the titles."""
        from presspool.common.models.rows.title_head import TitleHead

        return TitleHead(encoder.config.hidden_size, self.table.titles)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Each title's mean state of length one, (records, titles * hidden); zeros where none is.

        Args:
            states: (records, tokens, hidden).
            mask: (records, tokens), the numbers of titles, 0 for padding.
        """
        import torch
        from torch import nn

        numbers = torch.arange(1, self.table.titles + 1, device=mask.device)
        own = (mask.unsqueeze(1) == numbers.unsqueeze(1)).to(states.dtype)
        means = own @ states / own.sum(-1, keepdim=True).clamp(min=1)
        return nn.functional.normalize(means, dim=-1).flatten(1)

    def _places(self, outputs: Tensor, read: Sequence[Impression]) -> tuple[Tensor, Tensor]:
        """Which of each record's places are the history's, and which the candidates'."""
        import torch

        places = torch.arange(outputs.shape[1], device=outputs.device)
        ends = [[len(one.history), len(one.history) + len(one.candidates)] for one in read]
        before, after = torch.tensor(ends, device=outputs.device).view(-1, 2, 1).unbind(1)
        return places < before, (places >= before) & (places < after)

    def _scores(self, outputs: Tensor, past: Tensor) -> Tensor:
        """Each record's scores in the places of its titles, by those that are the history's."""
        import torch

        vectors, turned = outputs[..., :-2].chunk(2, -1)
        attention, appeal = outputs[..., -2], outputs[..., -1]
        least = torch.finfo(outputs.dtype).min
        weights = attention.masked_fill(~past, least).softmax(-1) * past
        return SCALE * ((vectors * (weights.unsqueeze(1) @ turned)).sum(-1) + appeal)

    def _likeness(self, outputs: Tensor, past: Tensor) -> Tensor:
        """Each title's dot product with the mean of its record's history."""
        vectors, _ = outputs[..., :-2].detach().chunk(2, -1)
        mean = past.to(outputs.dtype) / past.sum(-1, keepdim=True).clamp(min=1)
        return (vectors * (mean.unsqueeze(1) @ vectors)).sum(-1)

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Minus the mean log-probability of each record's clicked candidates, in nats."""
        read = self._read(records)
        past, shown = self._places(outputs, read)
        return self._losses(self._scores(outputs, past), shown, read)

    def _losses(self, scores: Tensor, shown: Tensor, read: Sequence[Impression]) -> Tensor:
        import torch

        logs = scores.masked_fill(~shown, torch.finfo(scores.dtype).min).log_softmax(-1)
        clicked = torch.zeros_like(shown)
        for row, one in enumerate(read):
            start = len(one.history)
            clicked[row, start : start + len(one.clicks)] = torch.tensor(one.clicks).bool()
        return -(logs.masked_fill(~clicked, 0.0)).sum(-1) / clicked.sum(-1).clamp(min=1)

    # --- Judgement -------------------------------------------------------------------------------

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The loss, and scores and likeness in the places of the titles, (records, titles)."""
        read = self._read(records)
        past, shown = self._places(outputs, read)
        scores = self._scores(outputs, past)
        loss = self._losses(scores, shown, read)
        return {"loss": loss, "scores": scores, "likeness": self._likeness(outputs, past)}

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """Means over impressions, AUC with and without a history apart, and that of likeness."""
        read, found = self._read(records), self.ranked(judged, records)
        apart = {
            name: ranking_scores.means(
                each for each, one in zip(found, read, strict=True) if bool(one.history) == known
            )["auc"]
            for name, known in (("auc_known", True), ("auc_cold", False))
        }
        loss = float(judged["loss"].mean())
        whole = ranking_scores.means(found)
        alike = ranking_scores.means(self.ranked(judged, records, by="likeness"))["auc"]
        return {**whole, **apart, "auc_alike": alike, "loss": loss if math.isfinite(loss) else None}

    def ranked(
        self, judged: Judged, records: pa.Table, *, by: str = "scores"
    ) -> list[dict[str, float]]:
        """Each impression's figures of `ranking_scores`, by its "scores" or its "likeness"."""
        return [
            ranking_scores.ranked(row[len(one.history) :][: len(one.clicks)], one.clicks)
            for row, one in zip(judged[by], self._read(records), strict=True)
        ]

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """Each record's candidates as a JSON list, the likeliest first, with their shares."""
        read = self._read(records)
        past, _ = self._places(outputs, read)
        scores = self._scores(outputs.double(), past)
        return [_ranking(row, one) for row, one in zip(scores, read, strict=True)]

    def told(self, answer: str) -> Any:
        """The list itself."""
        return json.loads(answer)


def _ranking(scores: Tensor, one: Impression) -> str:
    start = len(one.history)
    chances = scores[start : start + len(one.candidates)].softmax(0).tolist()
    order = sorted(range(len(chances)), key=lambda place: -chances[place])
    said = [{"title": one.candidates[i], "score": round(chances[i], 4)} for i in order]
    return json.dumps(said, ensure_ascii=False)


def _parsed(history: str, candidates: str, clicks: str) -> tuple[str, ...] | None:
    if impressions.fault(history, candidates, clicks):
        return None
    one = impressions.read(history, candidates, clicks)
    return _kept(one.history), _kept(one.candidates), _kept(one.clicks)


def _kept(values: Sequence[str] | Sequence[int]) -> str:
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))


def _clicked(one: Impression) -> list[str]:
    return [title for title, hit in zip(one.candidates, one.clicks, strict=True) if hit]


def _rows(rows: Mapping[str, pa.Array], names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(rows[name].fill_null("").to_pylist() for name in names), strict=True))


def _reasons(found: list[str | None]) -> pa.Array:
    import pyarrow as pa

    return pa.array(found, pa.large_string())
