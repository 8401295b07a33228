"""How a report shows a run's answers label by label: a table, and if they are as sure as right.

Without labels, an answer is a chance of something, a click say, and is compared with how often that
happened.

Example: `reliability_panel(result.figures).sentence`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Drawing, Series
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.base.numbers import percent, percent_tick
from presspool.common.tasks.scores.answer_figures import AnswerFigures, LabelFigures

MOST_ROWS = 100  # labels that a page has room for


class _Words(NamedTuple):
    """What is said of answers.

    Attributes:
        sure, right: what a bin has in the mean, and what of it came true.
        main, second: the two lines.
        alt: what the chart shows.
        sentence: of all answers, with places for their number, both shares and the error.
    """

    sure: str
    right: str
    main: str
    second: str
    alt: str
    sentence: str


_OF_LABELS = _Words(
    sure="sure",
    right="right",
    main="answers, by how sure they are",
    second="as sure as right",
    alt="how often answers are right by how sure they are",
    sentence="Of {total:,} answers to public held-out records {right} are right; the model is "
    "{sure} sure of them in the mean. The expected calibration error is {ece}.",
)
_OF_CHANCES = _Words(
    sure="likely",
    right="happened",
    main="records, by how likely the model takes it to be",
    second="as likely as often",
    alt="how often it happened by how likely the model takes it to be",
    sentence="It happened in {right} of {total:,} public held-out records; the model expects it in "
    "{sure}. The expected calibration error is {ece}.",
)


def label_rows(figures: AnswerFigures) -> Sequence[LabelFigures]:
    """The labels of a page's table in their order; of very many those with the most records."""
    kept = sorted(figures.labels, key=lambda row: -row.records)[:MOST_ROWS]
    return [row for row in figures.labels if row in kept]


def reliability_panel(figures: AnswerFigures) -> Panel:
    """How often answers are right by how sure they are."""
    words = _OF_LABELS if figures.labels else _OF_CHANCES
    points = tuple((one.sure, one.right) for one in figures.bins)
    texts = tuple(
        f"{one.answers:,} answers, {percent(one.sure)} {words.sure}: "
        f"{percent(one.right)} {words.right}"
        for one in figures.bins
    )
    lines = [
        Series(style="second", name="", points=((0, 0), (1, 1)), texts=("", "")),
        Series(style="main", name="", points=points, texts=texts),
    ]

    def draw(width: int) -> Drawing:
        x, y = _shares(f"how {words.sure}"), _shares(words.right)
        return charts.line_chart(lines, x=x, y=y, width=width)

    sentence = _sentence(figures)
    legend = (("main", words.main), ("second", words.second))
    alt = f"Line chart of {words.alt}. {sentence}"
    wide, narrow = draw(charts.WIDE), draw(charts.NARROW)
    return Panel(sentence=sentence, chart=Chart(alt=alt, wide=wide, narrow=narrow, legend=legend))


def _shares(title: str) -> Axis:
    return charts.nice_axis(0, 1, count=5, label=percent_tick, title=title)


def _sentence(figures: AnswerFigures) -> str:
    total = sum(one.answers for one in figures.bins)
    sure = sum(one.answers * one.sure for one in figures.bins) / total
    right = sum(one.answers * one.right for one in figures.bins) / total
    words = _OF_LABELS if figures.labels else _OF_CHANCES
    text = words.sentence.format(
        total=total, right=percent(right), sure=percent(sure), ece=percent(figures.ece)
    )
    return text + _abstention(figures)


def _abstention(figures: AnswerFigures) -> str:
    chosen = figures.abstention
    if chosen is None:
        return ""
    if not chosen.up_to < 1:
        return (
            f" No answer is given: {percent(chosen.wanted)} right, which the contract asks for, "
            "was not reached on public records by any sureness."
        )
    share = chosen.answered / chosen.records if chosen.records else None
    right = chosen.right / chosen.answered if chosen.answered else None
    return (
        f" An answer that is at most {percent(chosen.up_to)} sure is not given, so that "
        f"{percent(chosen.wanted)} of the others are right. Half of the records chose that; "
        f"of the other half {percent(share)} got an answer, and {percent(right)} of these answers "
        "are right."
    )
