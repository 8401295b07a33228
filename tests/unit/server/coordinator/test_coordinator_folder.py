"""A coordinator's home: which of two words of where it is dialled is the later one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

NOW = time.time()


def made(home: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(
        home, name="press-pool", address="localhost:7443", database=None, now=NOW
    )


def test_the_moves_of_a_pool_that_was_restored_from_before_one_come_after_it(
    tmp_path: Path,
) -> None:
    folder, copy = made(tmp_path / "pool"), tmp_path / "copy"
    assert folder.moves == 0
    shutil.copytree(folder.path, copy)
    forgotten = folder.moved("one:7443", now=NOW + 10).moved("two:7443", now=NOW + 20)
    restored = CoordinatorFolder.read(copy).moved("three:7443", now=NOW + 30)
    assert restored.moves > forgotten.moves


def test_moves_rise_within_a_second_and_with_a_clock_that_went_back(tmp_path: Path) -> None:
    first = made(tmp_path / "pool").moved("one:7443", now=NOW)
    second = first.moved("two:7443", now=NOW)
    third = second.moved("three:7443", now=NOW - 1000)
    assert first.moves < second.moves < third.moves
    assert third.moved(third.address, now=NOW + 10).moves == third.moves  # it did not move
