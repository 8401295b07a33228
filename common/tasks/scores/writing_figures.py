"""How what a model writes for public records compares with what its base model wrote.

Values of these classes are JSON in `result.json`; they hold counts and scores of a public file.

Example:
    >>> Duel(wins=5, losses=2, records=10).rate
    0.65
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How near written texts come to those that the records have; each 0 to 1.

    Attributes:
        rouge_1, rouge_2, rouge_l: mean F1 of words, of pairs of words, of the longest common run.
        chrf: F2 of characters, over all records.
        exact: the share that is the same but for white space.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float
    chrf: float
    exact: float


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Record by record: is the adapter's text nearer to the record's than the base model's?

    Attributes:
        wins: where it is.
        losses: where it is farther.
        records: all of them; what is neither is a tie.
    """

    wins: int
    losses: int
    records: int

    @property
    def rate(self) -> float:
        """Wins, and half of the ties, over all records."""
        return (self.records + self.wins - self.losses) / (2 * self.records)


@dataclass(frozen=True, kw_only=True)
class Unwanted:
    """Words of the contract's list in what was asked and written.

    They are found as words, in lower case: no other spelling, no insult in other words, no irony,
    and a text that only quotes a word to reject it counts as one that has it. An empty answer has
    none.

    Attributes:
        words: on the list.
        asked: records whose question, or chat so far, has one.
        refused_before, refused_after: of these, answers of base model and adapter without any.
        said_before, said_after: answers to all records with one.
    """

    words: int
    asked: int
    refused_before: int
    refused_after: int
    said_before: int
    said_after: int


@dataclass(frozen=True, kw_only=True)
class WritingFigures:
    """Some public records, written for by base model and adapter.

    Attributes:
        base, adapter: how near each comes.
        lead: the same of each text's first sentence, where a record has a text to sum up.
        rouge: a duel by ROUGE-L.
        exact: a duel by texts that are the same.
        unwanted: where the contract has a list.
    """

    base: Closeness
    adapter: Closeness
    lead: Closeness | None
    rouge: Duel
    exact: Duel
    unwanted: Unwanted | None = None
