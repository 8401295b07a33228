"""Refusals are counters: what is stored of a flood, of invented names, and of rows of before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.fakes.made_pool import RUN, made_task, task_body

from presspool.server.database import Database
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.refusal_counts import RefusedCall

NORTH, SOUTH = "north-post", "south-echo"
DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database.open(f"sqlite:///{tmp_path / 'coordinator.db'}")
    yield found
    found.close()


@pytest.fixture
def desk(database: Database, clock: Clock) -> Mailbox:
    return Mailbox(database, now=clock)


def rows(database: Database) -> int:
    with database.reading() as session:
        return int(session.execute(text("SELECT count(*) FROM refusals")).scalar_one())


def test_a_flood_is_one_row_with_its_count(desk: Mailbox, database: Database) -> None:
    for _ in range(1000):
        desk.refuse(NORTH, "malformed")
    desk.refuse(SOUTH, "malformed")
    assert rows(database) == 2
    assert desk.refusals() == [
        RefusedCall(at=NOON, outlet=NORTH, code="malformed", count=1000),
        RefusedCall(at=NOON, outlet=SOUTH, code="malformed", count=1),
    ]
    assert sum(r.count for r in desk.refusals()) == 1001  # asked twice, counted once


def test_each_day_has_its_row(desk: Mailbox, clock: Clock) -> None:
    desk.refuse(NORTH, "late")
    clock.now += DAY
    desk.refuse(NORTH, "late")
    assert [(r.at, r.count) for r in desk.refusals()] == [(NOON, 1), (NOON + DAY, 1)]


def test_a_run_and_a_round_count_where_the_outlet_has_a_task_of_them(desk: Mailbox) -> None:
    body = task_body(1)
    desk.hand_out([made_task(NORTH, body)], body)
    counts = desk._refusals
    for outlet, run, round, stored in (
        (NORTH, RUN, 1, (RUN, 1)),
        (NORTH, RUN, 7, (RUN, 1)),  # counted with what is known of the run
        (NORTH, "invented", 1, ("", 0)),
        (SOUTH, RUN, 1, ("", 0)),
    ):
        counts.add(outlet, "late", run=run, round=round)
        newest = next(r for r in desk.refusals() if (r.outlet, r.run) == (outlet, stored[0]))
        assert newest.round == stored[1]
    assert [(r.outlet, r.run, r.count) for r in desk.refusals()] == [
        (NORTH, RUN, 2),
        (NORTH, "", 1),
        (SOUTH, "", 1),
    ]
    assert [r.outlet for r in desk.refusals(run=RUN)] == [NORTH]


def test_rows_of_before_are_one_call_each(desk: Mailbox, database: Database) -> None:
    with database.writing() as session:
        session.execute(
            text(
                "INSERT INTO refusals (at, outlet, code, run, round)"
                f" VALUES ({NOON - DAY}, '{NORTH}', 'late', 'gone', 3)"
            )
        )
    assert desk.refusals() == [
        RefusedCall(at=NOON - DAY, outlet=NORTH, code="late", run="gone", round=3, count=1)
    ]
