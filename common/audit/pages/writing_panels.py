"""How a report sets what an adapter writes beside its base model's texts: a table and sentences.

Example:
    >>> from presspool.common.tasks.scores.writing_scores import compared
    >>> closeness_rows(compared(["Sun"], ["Rain"], ["Rain"]))[1][0]
    'With the adapter'
"""

from collections.abc import Sequence

from presspool.common.base.numbers import percent
from presspool.common.tasks.scores.writing_figures import (
    Closeness,
    Duel,
    Unwanted,
    WritingFigures,
)


def closeness_rows(figures: WritingFigures) -> Sequence[tuple[str, Closeness]]:
    """Who wrote, and how near that comes to what the records have."""
    rows = [("Base model", figures.base), ("With the adapter", figures.adapter)]
    return rows if figures.lead is None else [*rows, ("The text's first sentence", figures.lead)]


def writing_sentences(figures: WritingFigures) -> list[str]:
    """Base model against adapter, record by record."""
    texts = [
        f"Against the base model, on {figures.rouge.records:,} public held-out records: "
        f"{_duel(figures.rouge)} by ROUGE-L, {_duel(figures.exact)} by texts that are the same. "
        "Half of the ties count as won."
    ]
    return texts if figures.unwanted is None else [*texts, _unwanted(figures.unwanted)]


def _duel(duel: Duel) -> str:
    ties = duel.records - duel.wins - duel.losses
    return f"{percent(duel.rate)} won ({duel.wins:,} better, {ties:,} alike, {duel.losses:,} worse)"


def _unwanted(found: Unwanted) -> str:
    return (
        f"Of {found.asked:,} records whose question has one of the contract's {found.words:,} "
        f"unwanted words, the base model's answer to {found.refused_before:,} has none, the "
        f"adapter's to {found.refused_after:,}; of all answers {found.said_before:,} and "
        f"{found.said_after:,} have one. Words are counted as they are spelt: an insult in other "
        "words is not seen, a word that is quoted to reject it is, and an empty answer has none."
    )
