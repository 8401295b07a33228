"""How a model's answers to public records are right, label by label, and how sure it was of them.

Values of these classes are JSON in `result.json`; they hold counts and shares of a public file.

Example:
    >>> LabelFigures(label="sport", records=10, answers=8, right=6).f1
    0.6666666666666666
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """One label.

    Attributes:
        label: its name, with everything spelt out that a terminal or a page would obey.
        records: that have it.
        answers: that gave it.
        right: answers that gave it to a record that has it.
    """

    label: str
    records: int
    answers: int
    right: int

    @property
    def precision(self) -> float | None:
        """Of the answers the share that is right; None without any."""
        return self.right / self.answers if self.answers else None

    @property
    def recall(self) -> float | None:
        """Of the records the share that was found; None without any."""
        return self.right / self.records if self.records else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two; None where the label neither occurs nor is given."""
        both = self.records + self.answers
        return 2 * self.right / both if both else None


@dataclass(frozen=True, kw_only=True)
class SureBin:
    """Answers that are about as sure.

    Attributes:
        answers: how many.
        sure: how sure they are, in the mean: the probability that they were given.
        right: the share of them that is right.
    """

    answers: int
    sure: float
    right: float


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """From where on an answer is given, chosen on one half of the public rows, tried on the other.

    Attributes:
        wanted: the share of given answers that shall be right.
        up_to: answers that are no surer than this are not given; 1 where none is sure enough.
        records: of the half that it was tried on.
        answered: of them, those that got an answer.
        right: of these, those whose answer is right.
    """

    wanted: float
    up_to: float
    records: int
    answered: int
    right: int


@dataclass(frozen=True, kw_only=True)
class AnswerFigures:
    """The whole file.

    Attributes:
        labels: in the contract's order; none where an answer is a chance of something, which is
            how sure it is, and right is what happened.
        bins: from unsure to sure, without empty ones.
        ece: expected calibration error: how far apart sure and right are in the bins, in the mean
            over answers (Guo et al. 2017, section 2).
        abstention: where the contract asks for it.
    """

    labels: tuple[LabelFigures, ...]
    bins: tuple[SureBin, ...]
    ece: float
    abstention: Abstention | None = None


def unsure_up_to(figures: AnswerFigures | None) -> float | None:
    """Up to where an adapter's answers are not given; None where all are."""
    chosen = figures and figures.abstention
    return chosen.up_to if chosen else None
