r"""What a field of `result.json` may hold: sizes, and text that nobody's screen obeys.

Example:
    >>> shows_safely("Oldermoor Courier"), shows_safely("\x1b[2J")
    (True, False)
"""

import unicodedata
from dataclasses import asdict
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from presspool.common.tasks.metric import Metric
from presspool.common.tasks.scores.answer_figures import AnswerFigures
from presspool.common.tasks.scores.writing_figures import WritingFigures

EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Of every class of a result: nothing is converted, added or not a number."""


def shows_safely(text: str) -> bool:
    """Whether text can neither drive a terminal nor turn the reading direction of its line."""
    control = {"Cc", "Cs", "Zl", "Zp"}
    return not any(c in _BIDI or unicodedata.category(c) in control for c in text)


def _showable(text: str) -> str:
    if not shows_safely(text):
        raise ValueError("one line of text without control characters")
    return text


def _showable_lines(text: str) -> str:
    for line in text.split("\n"):
        _showable(line)
    return text


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; raises `ValueError` where one is there twice."""
    if len(set(names)) < len(names):
        raise ValueError("each name once")
    return names


def _described(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    distinct(tuple(metric.name for metric in metrics))
    for metric in metrics:
        if not metric.name.isidentifier() or not metric.title:
            raise ValueError("a metric's name as an identifier, and a title")
        for text in (metric.name, metric.title, metric.unit):
            _showable(text)
    if sum(metric.primary for metric in metrics) != 1:
        raise ValueError("one primary metric")
    return metrics


def _figured(found: AnswerFigures) -> AnswerFigures:
    for row in found.labels:
        _showable(row.label)
        if not 0 <= row.right <= min(row.records, row.answers):
            raise ValueError("of a label at most as many right answers as records and answers")
    if not all(one.answers > 0 for one in found.bins):
        raise ValueError("an answer or more in each bin")
    shares = [found.ece, *(share for one in found.bins for share in (one.sure, one.right))]
    if chosen := found.abstention:
        shares += [chosen.wanted, chosen.up_to]
        if not 0 <= chosen.right <= chosen.answered <= chosen.records:
            raise ValueError("at most as many right as answered, and answered as records")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("shares from 0 to 1")
    counts = [n for row in found.labels for n in (row.records, row.answers)]
    if max([*counts, *(one.answers for one in found.bins)], default=0) > EXACT:
        raise ValueError("counts that every JSON reader keeps")
    return found


def _compared(found: WritingFigures) -> WritingFigures:
    told = [one for one in (found.base, found.adapter, found.lead) if one is not None]
    if not all(0 <= share <= 1 for one in told for share in asdict(one).values()):
        raise ValueError("shares from 0 to 1")
    for duel in (found.rouge, found.exact):
        if min(duel.wins, duel.losses) < 0 or not duel.wins + duel.losses <= duel.records <= EXACT:
            raise ValueError("at most as many wins and losses as records")
    if found.rouge.records != found.exact.records or not found.rouge.records:
        raise ValueError("one number of records, and one record or more")
    if (of := found.unwanted) is not None:
        refused, said = (of.refused_before, of.refused_after), (of.said_before, of.said_after)
        most = (of.asked,) * 2 + (found.rouge.records,) * 3
        if not all(
            0 <= n <= limit for n, limit in zip((*refused, *said, of.asked), most, strict=True)
        ):
            raise ValueError("of records with unwanted words no more than there are records")
    return found


Count = Annotated[int, Field(ge=0, le=EXACT)]
Amount = Annotated[float, Field(ge=0, le=1e300)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_showable)]
Line = Annotated[str, Field(max_length=5000), AfterValidator(_showable)]
Passage = Annotated[str, Field(max_length=100_000), AfterValidator(_showable_lines)]
Names = Annotated[tuple[Name, ...], AfterValidator(distinct)]
Figures = Annotated[AnswerFigures, AfterValidator(_figured)]
Writing = Annotated[WritingFigures, AfterValidator(_compared)]
Measures = Annotated[tuple[Metric, ...], AfterValidator(_described)]
