"""Which run is meant: its id, its contract's name, or the first letters of its id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from presspool.common.base.errors import InputError
from presspool.server.coordinator.run_queue import Runs
from presspool.server.database import Database

SPRING, SPRINGTIME = "spring-0a1b2c3d4e5f", "springtime-111111111111"
AUTUMN, AGAIN = "autumn-222222222222", "autumn-333333333333"
LONG = "a-name-of-more-than-forty-letters-that-an-id-cuts"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    database = Database.open(f"sqlite:///{tmp_path / 'pool.db'}")
    queue = Runs(database)
    for name in (SPRING, SPRINGTIME, AUTUMN, AGAIN, f"{LONG[:40]}-444444444444"):
        queue.submit(name, contract="sha256:" + "0" * 64, phase=1.0)
    yield queue
    database.close()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (SPRING, SPRING),
        ("spring", SPRING),  # though "springtime" begins so as well
        ("spring-0a", SPRING),
        ("springt", SPRINGTIME),
        ("autumn-2", AUTUMN),
        (LONG, f"{LONG[:40]}-444444444444"),
    ],
)
def test_a_name_or_first_letters_are_enough(runs: Runs, typed: str, meant: str) -> None:
    assert runs.get(typed).id == meant


@pytest.mark.parametrize(
    ("typed", "what"),
    [("autumn", "several runs"), ("spr", "several runs"), ("winter", "no such"), ("", "no such")],
)
def test_what_names_no_run_or_several_is_refused(runs: Runs, typed: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        runs.get(typed)
    assert (AGAIN in str(caught.value.expected)) is (typed != "spr")
