"""Who was last heard of when: bounded, coarse, and from the outlet's certificate alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.live_coordinator import live, until
from tests.fakes.made_runs import write_run

from presspool import __version__
from presspool.server.database import Database
from presspool.server.membership.fleet import Fleet, Sighting, sightings
from presspool.server.membership.member_list import standings


class _Time:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_an_outlet_is_written_down_once_a_minute(database_url: str) -> None:
    database, clock = Database.open(database_url), _Time()
    fleet = Fleet(database, clock=clock)
    assert sightings(database) == {}
    fleet.seen("north-post", version="0.1.0", clock=clock.now + 3.4)
    first = Sighting(at=clock.now, version="0.1.0", skew=3)
    assert sightings(database) == {"north-post": first}
    clock.now += 30
    fleet.seen("north-post", version="9", clock=clock.now)
    assert sightings(database) == {"north-post": first}
    clock.now += 31
    fleet.seen("north-post", version="0.2.0", clock=clock.now - 7)
    assert sightings(database)["north-post"] == Sighting(at=clock.now, version="0.2.0", skew=-7)
    database.close()


@pytest.mark.parametrize(
    ("version", "clock", "kept"),
    [
        ("", 0.0, ("", None)),  # an outlet of before
        ("\x1b[31mred", float("nan"), ("", None)),
        ("1" * 21, float("inf"), ("", None)),
        ("0.1.0", 1e300, ("0.1.0", 10**9)),
    ],
)
def test_what_is_no_version_or_time_is_not_kept(
    tmp_path: Path, version: str, clock: float, kept: tuple[str, int | None]
) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'c.db'}")
    Fleet(database).seen("north-post", version=version, clock=clock)
    found = sightings(database)["north-post"]
    assert (found.version, found.skew) == kept
    database.close()


def test_an_agent_that_asks_for_work_is_seen(tmp_path: Path, contract_body: dict[str, Any]) -> None:
    with live(tmp_path, write_run(tmp_path / "made", contract_body)) as pool:
        pool.join("north-post", "south-echo")
        pool.outlet("north-post")
        until(lambda: "north-post" in sightings(pool.database))
        lines = {line.name: line.heard for line in standings(pool.database, now=2e9)}
        assert lines["south-echo"] is None
        heard = lines["north-post"]
        assert heard is not None
        assert heard.version == __version__
        assert heard.skew is not None
