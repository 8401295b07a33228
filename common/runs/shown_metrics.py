"""How what a task measured is written for people: its title, and its value as share or number.

A metric without a unit whose values all lie in [0, 1] is a share and written in percent.

Invariant: the primary metric comes first, whatever the order of the descriptions.

Example:
    >>> loss = Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats")
    >>> hits = Metric(name="hits", title="Hits", higher_is_better=True, primary=True)
    >>> for metric in shown((loss, hits), [{"loss": 1.25, "hits": 0.5}]):
    ...     print(metric.heading, metric.cell(1.0), metric.said(0.25))
    Hits 100.0% hits 0.250
    Cross-entropy, nats 1.000 cross-entropy 0.250 nats
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presspool.common.base.numbers import decimal_text, percent, percent_tick
from presspool.common.runs.results import RunResult
from presspool.common.tasks.metric import Metric

Values = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class ShownMetric(Metric):
    """A metric beside its values.

    Attributes:
        share: whether its values are shares of a whole.
    """

    share: bool

    @property
    def word(self) -> str:
        """The title inside a sentence."""
        title = self.title
        return title if title[1:2].isupper() else title[0].lower() + title[1:]

    @property
    def heading(self) -> str:
        """The title over a column of values."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def cell(self, value: float | None) -> str:
        """A value under the heading; an en dash where nothing was measured."""
        return percent(value) if self.share else decimal_text(value)

    def figure(self, value: float | None) -> str:
        """A value with its unit."""
        unit = "" if value is None or not self.unit else f" {self.unit}"
        return self.cell(value) + unit

    def short(self, value: float) -> str:
        """A value at the end of a line, where there is room for about six characters."""
        return percent(value) if self.share else f"{value:.3g}"

    def said(self, value: float | None) -> str:
        """Word and value on a line of a terminal or a log."""
        if value is None:
            return f"{self.word} not measured"
        return f"{self.word} {decimal_text(value)} {self.unit}".rstrip()

    def tick(self, value: float) -> str:
        """A value on an axis."""
        return percent_tick(value) if self.share else f"{value:g}"

    def same_scale(self, other: "ShownMetric") -> bool:
        """Whether both can be drawn on one axis."""
        return self.share == other.share and (self.share or self.unit == other.unit)


def shown(measures: Sequence[Metric], values: Sequence[Values]) -> tuple[ShownMetric, ...]:
    """The described metrics, the primary one first.

    Args:
        measures: the descriptions.
        values: all that will be shown together, such as a run's rounds.
    """
    found = []
    for metric in sorted(measures, key=lambda metric: not metric.primary):
        numbers = [n for each in values if (n := each.get(metric.name)) is not None]
        share = not metric.unit and all(0 <= n <= 1 for n in numbers)
        found.append(ShownMetric(**vars(metric), share=share))
    return tuple(found)


def shown_of(result: RunResult) -> tuple[ShownMetric, ...]:
    """What a run measured, the primary metric first."""
    values = [found for entry in result.rounds for found in (entry.metrics, entry.figures)]
    return shown(result.measures, values)


def listed(metrics: Sequence[ShownMetric]) -> str:
    """The titles as the beginning of a sentence."""
    *most, last = [metrics[0].title, *(metric.word for metric in metrics[1:])]
    return f"{', '.join(most)} and {last}" if most else last


def merit(metric: Metric, value: float | None) -> float:
    """A number that is greater the better the value is; what was not measured is worst."""
    if value is None:
        return -math.inf
    return value if metric.higher_is_better else -value
