"""Shares over time: intervals that cover, periods without gaps, and the page that shows them."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from tests.fakes.instruments.typed import Command, typed

from presspool.common.released.counts_document import CountsDocument
from presspool.common.released.opinion_series import By, Periods, noised_share, wilson


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_s_interval_is_scipy_s(hits: int, more: int) -> None:
    found = wilson(hits, hits + more)
    low, high = binomtest(hits, hits + more).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("truth", [(300, 700), (50, 950), (400, 350, 250), (10, 990)])
def test_the_interval_of_the_noise_covers(truth: tuple[int, ...]) -> None:
    """Noise of a known size on known counts: 95 of 100 intervals hold the readers' own share."""
    rng, sigma, held = np.random.default_rng(5), 20.0, 0
    for _ in range(4000):
        row = [int(n) for n in np.rint(np.array(truth) + rng.normal(0, sigma, len(truth)))]
        found = noised_share(row[0], row, sigma)
        assert found is not None
        held += found.low <= truth[0] / sum(truth) <= found.high
    assert 0.94 <= held / 4000 <= 0.985  # cut off at 0 and 1 they hold a little more often


def test_where_noise_may_be_all_no_share_is_given() -> None:
    assert noised_share(30, [30, 40], 10.0) is None
    assert noised_share(30, [30, 41], 10.0) is not None


@given(
    st.dates(date(1990, 1, 1), date(2050, 1, 1)),
    st.integers(1, 40),
    st.sampled_from(["day", "week", "month"]),
)
def test_every_day_is_in_one_period(first: date, count: int, by: By) -> None:
    first = first.replace(day=min(first.day, 28))
    periods = Periods(first=first, count=count, by=by)
    assert len(set(periods.edges)) == count + 1
    days = (periods.edges[-1] - first).days
    seen = [periods.index(first + timedelta(days=n)) for n in range(days)]
    assert seen == sorted(seen, key=lambda place: -1 if place is None else place)
    assert set(seen) == set(range(count))
    assert periods.index(first - timedelta(days=1)) is None
    assert periods.index(periods.edges[-1]) is None


@pytest.fixture
def opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    rng, rows, days = random.Random(2), ["row,label,probability of good"], ["title,published"]
    for number in range(1, 601):
        month = 1 + number % 6
        rows.append(f"{number},{'good' if rng.random() < month / 7 else '负面'},0.5")
        days.append(f"headline,2026-{month:02d}-0{1 + number % 9}T08:00:00Z")
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    Path("headlines.csv").write_text("\n".join(days) + "\n")
    return typed(monkeypatch, capsys, "opinion", width=100)


ASKED = ("labels.csv", "--days", "headlines.csv", "--day", "published")


def test_predictions_become_a_series_and_a_page(opinion: Command) -> None:
    said = opinion(*ASKED, "--out", "page.html", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["labels"] == ["good", "负面"]
    assert [period["start"] for period in found["series"]] == [f"2026-0{m}-01" for m in range(1, 7)]
    assert [period["total"] for period in found["series"]] == [100] * 6
    first, last = (found["series"][at]["shares"][0] for at in (0, -1))
    assert first["high"] < last["low"]
    page = Path("page.html").read_text()
    assert page.count('class="band" d=') == 4  # two labels, for a wide column and for a phone
    assert "负面" in page
    assert "<script" not in page
    assert opinion(*ASKED, "--out", "page.html").code == 2  # never over a file that is there


def test_columns_that_are_not_there_are_told_by_the_commands_own_options(opinion: Command) -> None:
    for asked, option in (
        ((ASKED[0],), "--days FILE --day COLUMN"),
        ((ASKED[0], "--days", ASKED[2], "--day", "nowhere"), "--days FILE --day COLUMN"),
        ((*ASKED, "--label", "nothing"), "--label COLUMN"),
        ((*ASKED[:3], "--day", "title"), "--day COLUMN"),
    ):
        said = opinion(*asked)
        assert said.code == 2
        assert option in " ".join(said.err.split()), asked


def test_predictions_of_another_file_are_refused(opinion: Command) -> None:
    with Path("headlines.csv").open("a") as file:
        file.write("one more,2026-01-01\n")
    said = opinion(*ASKED)
    assert said.code == 2
    assert "not of that file" in said.err
    Path("labels.csv").write_text("row,label\n1,good\n")
    Path("headlines.csv").write_text("title,published\nx,soon\n")
    said = opinion(*ASKED)
    assert said.code == 2
    assert "row 1" in said.err


def test_noised_counts_become_a_page_and_a_hole_is_said(opinion: Command) -> None:
    made = CountsDocument(
        origin="presspool/o",
        name="mood",
        labels=("bad", "good"),
        first=date(2026, 1, 1),
        by="month",
        counts=((100, 300), (3, -4), (250, 150)),
        sigma=8.0,
        entry=1,
        epsilon=0.5,
        delta=1e-5,
        claim=8.0,
    )
    Path("mood.json").write_bytes(made.encode())
    assert CountsDocument.read(Path("mood.json")) == made
    said = opinion("mood.json", "--out", "mood.html")
    assert said.code == 0, said.err
    assert "2026-02-01  bad too little is known" in said.out
    page = Path("mood.html").read_text()
    assert "Too little is known of 1 of 3 periods" in page
    assert "(0.5, 1e-05)-DP at reader level" in page
    first, hole, last = made.series
    assert (first.moved, hole.moved) == (None, None)
    assert last.moved is not None
    assert last.moved.drifted
    assert f"moved {last.moved.text}" in said.out
    assert f'<td class="number bad">{last.moved.text}</td>' in page
    Path("mood.json").write_text("{}")
    assert opinion("mood.json").code == 2
