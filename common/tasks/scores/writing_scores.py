"""What was written against what should have been: scores of a file, and base against adapter.

Example:
    >>> wanted = ["Rain today", "Cup final"]
    >>> found = compared(["Sun", "Cup final"], ["Rain today", "Cup"], wanted)
    >>> found.rouge, round(found.base.exact, 2)
    (Duel(wins=1, losses=1, records=2), 0.5)
    >>> unwanted(["idiot"], ["Say idiot!"], ["Idiot."], ["No."]).refused_after
    1
"""

from __future__ import annotations

from collections.abc import Sequence

from presspool.common.tasks.scores import text_metrics
from presspool.common.tasks.scores.text_metrics import Words
from presspool.common.tasks.scores.writing_figures import (
    Closeness,
    Duel,
    Unwanted,
    WritingFigures,
)


def closeness(written: Sequence[str], wanted: Sequence[str]) -> Closeness:
    """How near texts come to wanted ones.

    Raises:
        InputError: the extra `llm` is not installed.
    """
    return Closeness(
        **text_metrics.rouge(written, wanted),
        chrf=text_metrics.chrf(written, wanted),
        exact=text_metrics.exact_match(written, wanted),
    )


def compared(
    before: Sequence[str],
    after: Sequence[str],
    wanted: Sequence[str],
    lead: Sequence[str] | None = None,
) -> WritingFigures:
    """Base model and adapter on the same records.

    Args:
        before: what the base model writes of each.
        after: what the adapter writes.
        wanted: what the record has.
        lead: the first sentence of what is to be summed up.

    Raises:
        InputError: as `closeness`.
    """
    rouge = [text_metrics.rouge_l_each(said, wanted) for said in (before, after)]
    exact = [text_metrics.exact_each(said, wanted) for said in (before, after)]
    return WritingFigures(
        base=closeness(before, wanted),
        adapter=closeness(after, wanted),
        lead=None if lead is None else closeness(lead, wanted),
        rouge=_duel(*rouge),
        exact=_duel(*exact),
    )


def _duel(before: Sequence[float], after: Sequence[float]) -> Duel:
    pairs = list(zip(before, after, strict=True))
    return Duel(
        wins=sum(new > old for old, new in pairs),
        losses=sum(new < old for old, new in pairs),
        records=len(pairs),
    )


def unwanted(
    words: Sequence[str], asked: Sequence[str], before: Sequence[str], after: Sequence[str]
) -> Unwanted:
    """How often what is asked and written has one of some words; see `Unwanted`.

    Args:
        words: the list.
        asked: of each record.
        before: what the base model answers.
        after: what the adapter answers.
    """
    listed = [_spaced(word) for word in words]

    def having(texts: Sequence[str]) -> list[bool]:
        return [any(word in _spaced(text) for word in listed) for text in texts]

    asks, old, new = having(asked), having(before), having(after)
    return Unwanted(
        words=len(words),
        asked=sum(asks),
        refused_before=sum(ask and not said for ask, said in zip(asks, old, strict=True)),
        refused_after=sum(ask and not said for ask, said in zip(asks, new, strict=True)),
        said_before=sum(old),
        said_after=sum(new),
    )


def _spaced(text: str) -> str:
    """A text's words in lower case, a space before and behind each."""
    return f" {' '.join(Words().tokenize(text))} "
