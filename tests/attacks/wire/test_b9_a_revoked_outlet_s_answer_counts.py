"""B.9: whether an answer counts is judged when it is averaged, not when it came in.

An outlet that answers first and is revoked, or dropped from the run, before the round is over must
not move the adapter; what quorum there is is judged without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.live_coordinator import Live, live, trains, until
from tests.fakes.made_runs import write_run

from presspool.client.round import Round
from presspool.common.base.errors import InputError
from presspool.server.coordinator.submission import drop

NORTH, SOUTH, EAST = "north-post", "south-echo", "east-mail"
REASON = "its data was not its readers'"


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    outlets = {NORTH: 30, SOUTH: 20, EAST: 25}
    return write_run(tmp_path / "made", contract_body | {"outlets": outlets})


def in_the_open_round(pool: Live, run: str) -> set[str]:
    """Whose answers are there."""
    mailbox, names = pool.mailbox, (NORTH, SOUTH, EAST)
    from presspool.common.wire.envelope import task_id

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
            assert drop(pool.folder, name, EAST, REASON) == []
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
