"""The opinion page's dates: few enough to be read, and a year that is never in doubt."""

from datetime import date
from itertools import pairwise

import pytest

from presspool.common.audit.pages.opinion_page import OpinionView, render_opinion
from presspool.common.released.opinion_series import By, Periods, of_counts


def page(first: date, periods: int, by: By) -> str:
    series = of_counts([[50, 60]] * periods, sigma=2.0, periods=Periods(first, periods, by))
    view = OpinionView(
        title="mood",
        labels=("bad",),
        series=series,
        what="readers",
        statement="Noised.",
        interval="of the noise",
    )
    return render_opinion(view)


def ticks(text: str, kind: str) -> list[tuple[float, str]]:
    """Where the dates of the wide or the narrow drawing stand, and what they say."""
    drawing = text.split(f'<svg class="{kind}"')[1].split("</svg>")[0]
    found = [part.split("</text>")[0] for part in drawing.split('class="tick" x="')[1:]]
    return [
        (float(part.split('"')[0]), part.split(">")[1])
        for part in found
        if 'text-anchor="middle"' in part
    ]


@pytest.mark.parametrize("kind", ["wide", "narrow"])
@pytest.mark.parametrize(
    ("first", "periods", "by"),
    [
        (date(2026, 8, 20), 30, "day"),
        (date(2026, 12, 20), 30, "day"),
        (date(2026, 1, 5), 60, "week"),
        (date(2025, 1, 1), 18, "month"),
        (date(2026, 9, 20), 7, "day"),
    ],
)
def test_dates_do_not_meet(first: date, periods: int, by: By, kind: str) -> None:
    found = ticks(page(first, periods, by), kind)
    assert len(found) >= 3
    letter = 12.5 * 0.6  # units of the drawing that a letter takes at most
    for (at, said), (after, says) in pairwise(found):
        assert after - at > letter * (len(said) + len(says)) / 2 + 4


def test_the_year_is_said_once_or_at_every_date() -> None:
    one = page(date(2026, 8, 20), 30, "day")
    assert [said for _, said in ticks(one, "wide")][:2] == ["20 Aug", "24 Aug"]
    assert "first day, 2026" in one
    two = page(date(2026, 12, 20), 30, "day")
    assert [said for _, said in ticks(two, "wide")][-1] == "14 Jan 2027"
    assert "first day, 2026" not in two
