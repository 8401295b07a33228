"""How a report shows a run's answers label by label: a table, and if they are as sure as right.

Example: `reliability_panel(result.figures).sentence`.
"""

from collections.abc import Sequence

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Axis, Drawing, Series
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.base.numbers import percent, percent_tick
from presspool.common.tasks.scores.answer_figures import AnswerFigures, LabelFigures

MOST_ROWS = 100  # labels that a page has room for


def label_rows(figures: AnswerFigures) -> Sequence[LabelFigures]:
    """The labels of a page's table in their order; of very many those with the most records."""
    kept = sorted(figures.labels, key=lambda row: -row.records)[:MOST_ROWS]
    return [row for row in figures.labels if row in kept]


def reliability_panel(figures: AnswerFigures) -> Panel:
    """How often answers are right by how sure they are."""
    points = tuple((one.sure, one.right) for one in figures.bins)
    texts = tuple(
        f"{one.answers:,} answers, {percent(one.sure)} sure: {percent(one.right)} right"
        for one in figures.bins
    )
    lines = [
        Series(style="second", name="", points=((0, 0), (1, 1)), texts=("", "")),
        Series(style="main", name="", points=points, texts=texts),
    ]

    def draw(width: int) -> Drawing:
        x, y = _shares("how sure"), _shares("right")
        return charts.line_chart(lines, x=x, y=y, width=width)

    sentence = _sentence(figures)
    legend = (("main", "answers, by how sure they are"), ("second", "as sure as right"))
    alt = f"Line chart of how often answers are right by how sure they are. {sentence}"
    wide, narrow = draw(charts.WIDE), draw(charts.NARROW)
    return Panel(sentence=sentence, chart=Chart(alt=alt, wide=wide, narrow=narrow, legend=legend))


def _shares(title: str) -> Axis:
    return charts.nice_axis(0, 1, count=5, label=percent_tick, title=title)


def _sentence(figures: AnswerFigures) -> str:
    total = sum(one.answers for one in figures.bins)
    sure = sum(one.answers * one.sure for one in figures.bins) / total
    right = sum(one.answers * one.right for one in figures.bins) / total
    text = (
        f"Of {total:,} answers to public held-out records {percent(right)} are right; the model is "
        f"{percent(sure)} sure of them in the mean. The expected calibration error is "
        f"{percent(figures.ece)}."
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
