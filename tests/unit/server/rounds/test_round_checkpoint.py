"""The checkpoint: what was saved is what is loaded, or an error; never something in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_results import measured
from tests.fakes.made_runs import CONTRACT, Arrays

from presspool.common.base.errors import FolderError, StorageError
from presspool.common.models.adapters import digest
from presspool.common.runs.results import RoundResult
from presspool.server.rounds.round_checkpoint import RoundCheckpoint, load, save


def made_round(number: int) -> RoundResult:
    return RoundResult(
        round=number,
        metrics=measured(accuracy=1 / 3, macro_f1=0.1 + number / 7, loss=None if number else 1.1),
        bytes_up=number * 40,
        bytes_down=number * 80,
        seconds=0.1,
        epsilon=number * 0.7,
        outlets=("north", "south") if number else (),
        refused={"node 3": "not-finite"},
    )


def made_checkpoint(rounds: int = 3) -> RoundCheckpoint:
    rng = np.random.default_rng(rounds)
    state: Arrays = {
        "base_model.lora_B.weight": rng.normal(size=(16, 2)).astype(np.float32),
        "head.weight": np.array([[np.float32(1e-45), -0.0, 3.4e38]], np.float32),
        "head.bias": rng.normal(size=3).astype(np.float32),
    }
    rounds_so_far = tuple(made_round(number) for number in range(rounds))
    moments = {f"first/{n}": rng.normal(size=a.shape).astype(np.float32) for n, a in state.items()}
    return RoundCheckpoint(
        contract=CONTRACT, rounds=rounds_so_far, state=state, moments=moments, kept=b"keys"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.safetensors"


def test_what_is_loaded_is_what_was_saved_to_the_last_bit(path: Path) -> None:
    saved = made_checkpoint()
    save(path, saved)
    loaded = load(path, digest=CONTRACT)
    assert loaded is not None
    assert (loaded.rounds, loaded.kept) == (saved.rounds, saved.kept)
    assert list(loaded.state) == sorted(loaded.state)
    assert digest(loaded.state) == digest(saved.state)
    assert digest(loaded.moments) == digest(saved.moments)
    for name, array in loaded.state.items():
        assert array.tobytes() == saved.state[name].tobytes()
        assert array.dtype == np.float32


def test_before_the_first_round_there_is_none(path: Path) -> None:
    assert load(path, digest=CONTRACT) is None


def test_the_next_round_replaces_the_last(path: Path) -> None:
    for rounds in (1, 2, 3):
        save(path, made_checkpoint(rounds))
        loaded = load(path, digest=CONTRACT)
        assert loaded is not None
        assert len(loaded.rounds) == rounds
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checkpoint_of_another_contract_is_refused(path: Path) -> None:
    save(path, made_checkpoint())
    other = "sha256:" + "d" * 64
    with pytest.raises(FolderError, match="another contract") as caught:
        load(path, digest=other)
    assert (caught.value.expected, caught.value.got) == (other, CONTRACT)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -4, -1])
def test_a_cut_off_file_is_damaged(path: Path, keep: int) -> None:
    save(path, made_checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(FolderError, match="damaged checkpoint") as caught:
        load(path, digest=CONTRACT)
    assert caught.value.where == str(path)
    assert caught.value.advice


@given(data=st.data())
def test_no_flipped_bit_is_ever_trained_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Anywhere in the file: it is refused, or state and rounds are those that were saved."""
    file = tmp_path_factory.mktemp("flip") / "checkpoint.safetensors"
    saved = made_checkpoint()
    save(file, saved)
    whole = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    file.write_bytes(whole)
    try:
        loaded = load(file, digest=CONTRACT)
    except FolderError:
        return
    assert loaded is not None
    assert digest(loaded.state) == digest(saved.state)
    assert loaded.rounds == saved.rounds


def rewrite(path: Path, **changes: str | None) -> None:
    """Save again with other metadata; None takes a key away."""
    with safe_open(str(path), framework="np") as file:
        metadata: dict[str, Any] = {**file.metadata(), **changes}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(state, path, metadata={k: v for k, v in metadata.items() if v is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": None},
        {"rounds": "[]x"},
        {"rounds": "{}"},
        {"rounds": "5"},
        {"rounds": json.dumps([{"round": 0}])},
        {"contract": None},
        {"contract": "sha256:" + "0" * 64},
        {"kept": b"other keys".hex()},
        {"kept": None},
        {"checksum": None},
        {"checksum": "0" * 64},
    ],
)
def test_a_checkpoint_without_what_it_must_say_is_damaged(
    path: Path, changes: dict[str, str | None]
) -> None:
    save(path, made_checkpoint())
    rewrite(path, **changes)
    with pytest.raises(FolderError, match="damaged checkpoint"):
        load(path, digest=CONTRACT)


def test_other_files_are_damaged_checkpoints(path: Path) -> None:
    path.mkdir()
    with pytest.raises(FolderError, match="damaged checkpoint"):
        load(path, digest=CONTRACT)


def test_a_full_disk_keeps_the_checkpoint_before(path: Path) -> None:
    save(path, made_checkpoint(1))
    before = path.read_bytes()
    with pytest.raises(StorageError) as caught, full_disk(room=len(before) // 2):
        save(path, made_checkpoint(2))
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - names are what is meant


CRASH = """
import os, sys
from pathlib import Path
import numpy as np
from presspool.server.rounds.round_checkpoint import load, save
path = Path(sys.argv[1])
point = load(path, digest=sys.argv[2])
os.replace = lambda *_: os._exit(9)
save(path, type(point)(contract=point.contract, rounds=point.rounds[:1],
                       state={n: a + 1 for n, a in point.state.items()}))
"""


def test_a_crash_between_write_and_rename_leaves_the_round_before(path: Path) -> None:
    save(path, made_checkpoint(2))
    before = path.read_bytes()
    crashed = subprocess.run([sys.executable, "-c", CRASH, str(path), CONTRACT], check=False)
    assert crashed.returncode == 9
    assert path.read_bytes() == before
    loaded = load(path, digest=CONTRACT)
    assert loaded is not None
    assert len(loaded.rounds) == 2
