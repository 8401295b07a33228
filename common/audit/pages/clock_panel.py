"""When a simulation's rounds were, on its own clock, and who answered in time.

Invariant: a run without a clock has no such panel.

Example: `clock_panel(result)` is None where no round has a `virtual`.
"""

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Drawing, Series
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.base.numbers import duration, percent
from presspool.common.runs.results import RunResult
from presspool.common.runs.virtual_round import VirtualRound

_HOUR = 3600.0


def clock_panel(result: RunResult) -> Panel | None:
    """Whole rounds over the simulation's hours; None where it had no clock."""
    timed = [(entry.round, entry.virtual) for entry in result.rounds if entry.virtual is not None]
    if not timed:
        return None
    last, ended = timed[-1][0], timed[-1][1].ended / _HOUR
    line = Series(
        style="main",
        name="rounds",
        stepped=True,
        points=((0.0, 0.0), *((when.ended / _HOUR, number) for number, when in timed)),
        texts=("the run begins", *(_told(number, when) for number, when in timed)),
        end=str(last),
    )

    def draw(width: int) -> Drawing:
        count = 8 if width > charts.NARROW else 4
        x = charts.nice_axis(0, ended, count=count, label=_hours, title="hours, simulated")
        y = charts.nice_axis(0, last, count=4, label=_hours, title="rounds")
        return charts.line_chart([line], x=x, y=y, width=width)

    sentence = _sentence([when for _, when in timed])
    chart = Chart(
        alt=f"Step chart of rounds over simulated hours. {sentence}",
        wide=draw(charts.WIDE),
        narrow=draw(charts.NARROW),
        legend=(),
    )
    return Panel(sentence=sentence, chart=chart)


def _hours(value: float) -> str:
    return f"{value:g}"


def _told(number: int, when: VirtualRound) -> str:
    span = f"{duration(when.begun)} to {duration(when.ended)}"
    return f"round {number}, {span}: {when.answered} of {when.asked} in time"


def _sentence(timed: list[VirtualRound]) -> str:
    asked = sum(when.asked for when in timed)
    parts = [
        f"{percent(sum(getattr(when, key) for when in timed) / asked)} {words}"
        for key, words in (
            ("answered", "came in time"),
            ("late", "came too late"),
            ("failed", "never came back"),
            ("away", "found nobody there"),
        )
    ]
    again = sum(when.tries > 1 for when in timed)
    return (
        f"{len(timed)} round{'s' * (len(timed) > 1)} took {duration(timed[-1].ended)} on the "
        f"simulation's own clock. Of {asked:,} tasks {', '.join(parts[:-1])} and {parts[-1]}."
        + (
            f" In {again} of the rounds outlets were asked again for want of answers."
            if again
            else ""
        )
    )
