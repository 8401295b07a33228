"""A run's page shows its simulated day, and no other run's page has such a part."""

from __future__ import annotations

from tests.fakes.made_results import a_round, a_run

from presspool.common.audit.pages.clock_panel import clock_panel
from presspool.common.audit.pages.run_report import render_report
from presspool.common.runs.result_file import parse_result
from presspool.common.runs.results import RunResult
from presspool.common.runs.virtual_round import VirtualRound

TITLE = "Rounds over the simulated day"


def when(begun: float, ended: float, *, tries: int = 1) -> VirtualRound:
    return VirtualRound(
        begun=begun, ended=ended, asked=20, answered=16, late=1, failed=2, away=1, tries=tries
    )


def a_day() -> RunResult:
    first, second = when(0.0, 1800.0), when(1800.0, 7200.0, tries=2)
    rounds = (a_round(0), a_round(1, virtual=first), a_round(2, virtual=second))
    return a_run(rounds=rounds)


def test_the_panel_says_when_rounds_were_and_what_became_of_tasks() -> None:
    panel = clock_panel(a_day())
    assert panel is not None
    assert panel.sentence == (
        "2 rounds took 2 h 00 min on the simulation's own clock. Of 40 tasks 80.0% came in time, "
        "5.0% came too late, 10.0% never came back and 5.0% found nobody there. In 1 of the rounds "
        "outlets were asked again for want of answers."
    )
    assert panel.chart is not None
    assert [mark.text for mark in panel.chart.wide.dots] == [
        "the run begins",
        "round 1, 0.0 s to 30 min 00 s: 16 of 20 in time",
        "round 2, 30 min 00 s to 2 h 00 min: 16 of 20 in time",
    ]


def test_the_page_has_it_only_where_there_is_a_clock() -> None:
    assert TITLE in render_report(a_day())
    assert TITLE not in render_report(a_run())
    assert clock_panel(a_run()) is None


def test_a_result_keeps_its_day_and_another_has_no_such_key() -> None:
    text = a_day().to_json()
    assert parse_result(text.encode()) == a_day()
    assert text.count('"virtual"') == 2
    assert '"virtual"' not in a_run().to_json()
