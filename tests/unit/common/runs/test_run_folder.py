"""The run folder: it belongs to one contract and one setup, and a failed claim leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fakes.instruments.full_disk import full_disk

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.contract.contract import Contract
from presspool.common.runs.run_folder import RunFolder, Setup

NAMED = {"text": "title", "label": "topic"}
SETUP = Setup(
    evaluation="/data/held_out.parquet",
    columns=NAMED,
    deterministic=7,
)


def claim(path: Path, contract: Contract, setup: Setup = SETUP, *, resume: bool = False) -> None:
    with RunFolder(path).claim(contract, setup, resume=resume):
        pass


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_claimed_folder_holds_the_contract_and_the_setup(
    tmp_path: Path, contract: Contract
) -> None:
    path = tmp_path / "runs" / "first"
    claim(path, contract)
    folder = RunFolder(path)
    assert folder.contract_file.read_bytes() == contract.canonical()
    assert folder.read_contract().digest == contract.digest
    assert folder.read_setup() == SETUP


def test_what_is_prepared_inside_the_claim_stays(tmp_path: Path, contract: Contract) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.claim(contract, SETUP, resume=False):
        folder.outlets.mkdir()
        (folder.outlets / "north.toml").write_text("name")
        assert not folder.contract_file.exists()  # last: only a whole preparation makes a run
    assert sorted(snapshot(folder.path)) == ["contract.json", "outlets/north.toml", "setup.json"]


def test_a_folder_that_holds_a_run_is_refused_and_untouched(
    tmp_path: Path, contract: Contract
) -> None:
    claim(tmp_path / "run", contract)
    before = snapshot(tmp_path)
    for other in (contract, contract.replace(seed=99)):
        with pytest.raises(FolderError, match="already holds another run") as caught:
            claim(tmp_path / "run", other)
        assert "--resume" in caught.value.advice
    assert snapshot(tmp_path) == before


def test_a_folder_with_other_files_is_refused_and_untouched(
    tmp_path: Path, contract: Contract
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(FolderError, match="already holds other files"):
        claim(tmp_path, contract)
    assert snapshot(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused_and_untouched(
    tmp_path: Path, contract: Contract
) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FolderError):
        claim(tmp_path / "run", contract)
    assert (tmp_path / "run").read_text() == "a file"


@pytest.mark.parametrize(
    "error", [InputError("bad data"), KeyboardInterrupt(), RuntimeError("a bug")]
)
def test_a_failed_preparation_leaves_no_folder(
    tmp_path: Path, contract: Contract, error: BaseException
) -> None:
    folder = RunFolder(tmp_path / "runs" / "first")

    def prepare() -> None:
        with folder.claim(contract, SETUP, resume=False):
            folder.outlets.mkdir()
            (folder.outlets / "north.toml").write_text("name")
            (folder.path / "note").write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        prepare()
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_failed_preparation_empties_a_folder_that_was_there(
    tmp_path: Path, contract: Contract
) -> None:
    """A mount point, or a link to a larger disk, must not be removed."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    folder = RunFolder(tmp_path / "run")

    def prepare() -> None:
        with folder.claim(contract, SETUP, resume=False):
            folder.outlets.mkdir()
            raise InputError("bad data")

    with pytest.raises(InputError):
        prepare()
    assert (tmp_path / "run").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []
    claim(tmp_path / "run", contract)
    assert (tmp_path / "disk" / "contract.json").exists()


def test_a_full_disk_at_the_claim_leaves_no_folder(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(StorageError) as caught, full_disk(room=20):
        claim(tmp_path / "runs" / "first", contract)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(
    tmp_path: Path, contract: Contract
) -> None:
    (tmp_path / "file").write_text("a file")
    for path in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(StorageError) as caught:
            claim(path, contract)
        assert caught.value.where == str(path)
    assert (tmp_path / "file").read_text() == "a file"


# --- Continuing ---------------------------------------------------------------------------------


def test_the_same_contract_and_setup_are_recognised_without_a_write(
    tmp_path: Path, contract: Contract
) -> None:
    claim(tmp_path / "run", contract)
    before = snapshot(tmp_path)
    claim(tmp_path / "run", contract, resume=True)
    assert snapshot(tmp_path) == before


def test_a_failure_while_continuing_takes_nothing_away(tmp_path: Path, contract: Contract) -> None:
    claim(tmp_path / "run", contract)
    before = snapshot(tmp_path)

    def go_on() -> None:
        with RunFolder(tmp_path / "run").claim(contract, SETUP, resume=True):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_there_must_be_something_to_continue(
    tmp_path: Path, contract: Contract, there: bool
) -> None:
    if there:
        (tmp_path / "run").mkdir()
    with pytest.raises(FolderError, match="nothing to resume"):
        claim(tmp_path / "run", contract, resume=True)
    assert (tmp_path / "run").exists() == there


def test_another_contract_does_not_continue_the_run(tmp_path: Path, contract: Contract) -> None:
    claim(tmp_path / "run", contract)
    before = snapshot(tmp_path)
    other = contract.replace(optimizer={"learning_rate": 0.25})
    with pytest.raises(FolderError, match="a run with another contract") as caught:
        claim(tmp_path / "run", other, resume=True)
    assert (caught.value.expected, caught.value.got) == (other.digest, contract.digest)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "other",
    [
        Setup(),
        Setup(evaluation="/data/held_out.parquet", columns=NAMED),
        Setup(
            evaluation="/data/held_out.parquet",
            columns=NAMED,
            deterministic=8,
        ),
        Setup(
            evaluation="/data/other.parquet",
            columns=NAMED,
            deterministic=7,
        ),
    ],
)
def test_another_setup_does_not_continue_the_run(
    tmp_path: Path, contract: Contract, other: Setup
) -> None:
    """A private run must not go on with reproducible noise, nor the other way round."""
    claim(tmp_path / "run", contract)
    with pytest.raises(FolderError, match="a run with another setup"):
        claim(tmp_path / "run", contract, other, resume=True)


@pytest.mark.parametrize("file", ["contract.json", "setup.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"{}", b'{"name": 1}', b"\xff"])
def test_a_spoilt_folder_is_not_continued(
    tmp_path: Path, contract: Contract, file: str, content: bytes | None
) -> None:
    claim(tmp_path, contract)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    if (file, content) == ("setup.json", b"{}"):
        assert RunFolder(tmp_path).read_setup() == Setup()  # every key has a default
        return
    with pytest.raises(FolderError) as caught:
        claim(tmp_path, contract, resume=True)
    assert caught.value.where == str(tmp_path)
    assert caught.value.exit_code == 2


def test_an_edited_contract_is_another_contract(tmp_path: Path, contract: Contract) -> None:
    claim(tmp_path, contract)
    file = RunFolder(tmp_path).contract_file
    body = json.loads(file.read_bytes())
    body["privacy"]["noise_multiplier"] = 0.0
    file.write_text(json.dumps(body))
    with pytest.raises(FolderError, match="a run with another contract"):
        claim(tmp_path, contract, resume=True)
