"""B.9: whether an answer counts is judged when it is averaged, not when it came in.

An outlet that answers first and is revoked, or dropped from the run, before the round is over must
not move the adapter; what quorum there is is judged without it.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.fakes.instruments.live_coordinator import Live, live, trains, until
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run

from presspool.client.agent.agent import Trainer
from presspool.client.round import Round
from presspool.common.base.errors import InputError
from presspool.common.wire.envelope import task_id
from presspool.server.coordinator.submission import drop
from presspool.server.transport.mailbox_schema import TaskRow

NORTH, SOUTH, EAST = "north-post", "south-echo", "east-mail"
REASON = "its data was not its readers'"


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    outlets = {NORTH: 30, SOUTH: 20, EAST: 25}
    return write_run(tmp_path / "made", contract_body | {"outlets": outlets})


def in_the_open_round(pool: Live, run: str) -> set[str]:
    """Whose answers are there."""
    mailbox, names = pool.mailbox, (NORTH, SOUTH, EAST)
    return {name for name in names if mailbox.answered([task_id(run, 1, 1, name)])}


@pytest.mark.parametrize("how", ["not-a-member", "dropped"])
def test_an_answer_that_is_in_does_not_count_for_who_is_out(
    tmp_path: Path, run: Path, how: str
) -> None:
    asked: list[int] = []

    def hostile(round: Round, kept: Path) -> bytes:
        asked.append(round.number)
        return trains(EAST, value=0.01)(round, kept)

    with live(tmp_path, run) as pool:
        pool.join(NORTH, SOUTH, EAST)
        name = pool.submit()
        pool.outlet(EAST, hostile)
        until(lambda: in_the_open_round(pool, name) == {EAST})
        if how == "dropped":
            assert drop(pool.folder, name, EAST, REASON) == (name, [])
            with pytest.raises(InputError, match="nothing to drop"):
                drop(pool.folder, name, EAST, REASON)
        else:
            pool.members.revoke(EAST, REASON)
        pool.outlet(NORTH)
        pool.outlet(SOUTH)
        pool.wait(name, "complete")
        done = pool.result(name).rounds[1:]
    assert [found.outlets for found in done] == [(NORTH, SOUTH)] * 2
    assert [dict(found.refused) for found in done] == [{EAST: how}, {}]
    assert asked == [1]


def test_quorum_is_judged_without_who_was_dropped(tmp_path: Path, run: Path) -> None:
    with live(tmp_path, run) as pool:
        pool.join(NORTH, SOUTH, EAST)
        name = pool.submit()
        pool.outlet(EAST)
        until(lambda: in_the_open_round(pool, name) == {EAST})
        drop(pool.folder, name, EAST, REASON)
        drop(pool.folder, name, SOUTH, REASON)
        pool.outlet(NORTH)
        assert "too few outlets are left" in pool.wait(name, "failed").note


def test_what_cannot_be_dropped_is_named(tmp_path: Path, run: Path) -> None:
    with live(tmp_path, run) as pool:
        name = pool.submit()
        for arguments, what in (
            (("spring", EAST, REASON), "no such run"),
            ((name, "west-wind", REASON), "no such outlet"),
            ((name, EAST, "two\nlines"), "reason"),
        ):
            with pytest.raises(InputError, match=what):
                drop(pool.folder, *arguments)


def test_the_command_says_which_rounds_stay_as_they_are(
    tmp_path: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    presspool = typed(monkeypatch, capsys, "coordinator", width=200)
    with live(tmp_path, run) as pool:
        pool.join(NORTH, SOUTH, EAST)
        name, rest = pool.submit(), threading.Event()
        for outlet in (NORTH, SOUTH, EAST):
            pool.outlet(outlet, stopping_after_one_round(outlet, rest))
        until(lambda: rounds_of(pool, name) == 2)
        home = ("--home", pool.folder.path)
        said = presspool("drop", name, EAST, "--reason", REASON, *home)
        assert (said.code, "in the adapter of round 1" in said.err) == (0, True)
        [found] = json.loads(presspool("status", name, *home, "--json").out)["runs"]
        states = {line["outlet"]: line["state"] for line in found["outlets"]}
        assert states[EAST] == "dropped"
        assert presspool("drop", name, EAST, "--reason", REASON, *home).code == 2
        rest.set()
        pool.wait(name, "complete")
        assert [done.outlets for done in pool.result(name).rounds[2:]] == [(NORTH, SOUTH)]


def rounds_of(pool: Live, run: str) -> int:
    """The round that is open."""
    with pool.database.reading() as session:
        return max(session.scalars(select(TaskRow.round).where(TaskRow.run == run)), default=0)


def stopping_after_one_round(outlet: str, go_on: threading.Event) -> Trainer:
    def train(asked: Round, kept: Path) -> bytes:
        if asked.number > 1:
            go_on.wait(300)
        return trains(outlet)(asked, kept)

    return train
