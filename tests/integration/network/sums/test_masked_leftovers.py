"""What a kill, a full disk or a second program leaves of a masked run's secrets at a home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body, noted

from presspool.client.enforcement import opened
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.client.sums.sum_party import FOLDER, forget
from presspool.common.base.errors import BusyError, FolderError, QuorumError, StorageError
from presspool.common.base.files import draft_of
from presspool.common.base.locks import locked
from presspool.server.rounds.masked_gathering import KEYS, REVEAL, TRAIN
from presspool.server.rounds.server_app import serve

ONE = NAMES[0]


@pytest.fixture
def pool(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[MaskedPool]:
    run = write_run(tmp_path / "made", masked_body(contract_body, rounds=1))
    with made_pool(tmp_path, run) as made:
        yield made


@pytest.fixture
def missed(pool: MaskedPool) -> MaskedPool:
    """A run that ended without one outlet's last words: its record is still there."""
    serve(pool.grid(lambda *asked: asked == (ONE, 1, REVEAL)), pool.folder)
    assert record(pool).exists()
    return pool


def home(pool: MaskedPool) -> Path:
    return pool.files[ONE].parent


def record(pool: MaskedPool) -> Path:
    return home(pool) / FOLDER / pool.contract.digest.removeprefix("sha256:")


def first_task(pool: MaskedPool) -> Round:
    seen = noted(pool)
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda name, _round, phase: (name, phase) == (ONE, KEYS)), pool.folder)
    return seen[0]


def test_what_a_kill_left_half_written_goes_with_the_record(missed: MaskedPool) -> None:
    """It holds the same secrets."""
    draft = draft_of(record(missed))
    draft.write_bytes(record(missed).read_bytes())
    forget(home(missed), missed.contract.digest)
    assert list((home(missed) / FOLDER).iterdir()) == []


def test_a_record_is_not_erased_under_a_program_that_would_write_it_again(
    missed: MaskedPool,
) -> None:
    with (
        locked(home(missed) / "sums.lock", busy=FolderError("held")),
        pytest.raises(FolderError, match="another program has part"),
    ):
        forget(home(missed), missed.contract.digest)
    assert record(missed).exists()
    forget(home(missed), missed.contract.digest)
    assert not record(missed).exists()


def test_a_home_that_never_had_part_in_a_sum_has_nothing_to_forget(tmp_path: Path) -> None:
    forget(tmp_path, "sha256:" + "0" * 64)
    assert not (tmp_path / FOLDER).exists()


def test_a_disk_that_refuses_to_erase_is_said_so_that_it_is_tried_again(
    missed: MaskedPool,
) -> None:
    """As any other exception it would be the outlet's failure, and its last words be lost."""
    kept = record(missed).read_bytes()
    record(missed).unlink()
    record(missed).mkdir()
    with pytest.raises(StorageError, match="cannot erase"):
        forget(home(missed), missed.contract.digest)
    record(missed).rmdir()
    record(missed).write_bytes(kept)


def test_a_disk_that_refuses_the_first_record_is_tried_again(pool: MaskedPool) -> None:
    """A run begins with everybody's keys: a failure that is told would end it."""
    asked = first_task(pool)
    (home(pool) / FOLDER).write_bytes(b"in the way")
    with pytest.raises(StorageError):
        pool.answer(ONE, asked)
    (home(pool) / FOLDER).unlink()
    assert pool.answer(ONE, asked)
    assert record(pool).exists()


def test_nothing_is_paid_for_or_masked_while_another_program_has_the_sums(
    pool: MaskedPool,
) -> None:
    seen = noted(pool)
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda name, _, phase: phase == TRAIN and name != NAMES[1]), pool.folder)
    asked = seen[-1]
    assert asked.phase == TRAIN
    delta: Any = {name: np.zeros(a.shape, np.int64) for name, a in asked.state.items()}
    before = record(pool).read_bytes()
    with locked(home(pool) / "sums.lock", busy=FolderError("held")):
        with pytest.raises(BusyError):
            pool.answer(ONE, asked)
        assert "reserve" not in pool.members[ONE].kinds()
        with (
            opened(read_settings(pool.files[ONE]), loopback=True) as gate,
            pytest.raises(BusyError),
        ):
            gate.seal(asked, delta)
    assert record(pool).read_bytes() == before
