"""Who is eligible and who was erased: keyed hashes, never a reason to stop, never forgotten."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes.instruments.full_disk import full_disk

from presspool.client.data import suppression_list as registers
from presspool.client.data.eligibility import eligible
from presspool.client.data.readers import Readers
from presspool.client.data.snapshots import SNAPSHOT, freeze
from presspool.client.data.suppression_list import SuppressionList
from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.contract.contract import Contract
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import labels_of

NAMES = [f"reader-{number}" for number in range(9)]
CANARY = NAMES[4]
RUN, OTHER = ("sha256:" + digit * 64 for digit in "ab")


@pytest.fixture
def register(tmp_path: Path) -> SuppressionList:
    return SuppressionList(tmp_path / "private")


@pytest.fixture
def snapshot(tmp_path: Path, contract: Contract) -> Path:
    label = labels_of(contract)[0]
    rows = [f"{name},text of {name},{label}\n" for name in NAMES]
    data = tmp_path / "readers.csv"
    data.write_text("reader,text,label\n" + "".join(rows))
    freeze(data, tmp_path / SNAPSHOT, columns=Columns(), kept=("text", "label"))
    return tmp_path / SNAPSHOT


def texts(readers: Readers) -> list[str]:
    found: list[str] = readers.table["text"].to_pylist()
    return [text.removeprefix("text of ") for text in found]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- The register --------------------------------------------------------------------------------


def test_nothing_in_it_is_anybodys_id_and_nobody_else_may_read_it(
    register: SuppressionList,
) -> None:
    register.exclude(CANARY)
    register.note(RUN, register.tags(NAMES))
    for name, content in files(register.folder).items():
        assert not any(id_ in name or id_.encode() in content for id_ in NAMES), name
    assert stat.S_IMODE(register.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((register.folder / "key").stat().st_mode) == 0o600


def test_another_outlets_hashes_of_the_same_ids_are_others(tmp_path: Path) -> None:
    one, two = (SuppressionList(tmp_path / name) for name in ("one", "two"))
    assert one.tag(CANARY) != two.tag(CANARY)
    assert one.tag(CANARY) == SuppressionList(tmp_path / "one").tag(CANARY)


def test_runs_are_found_by_reader_and_noted_once(register: SuppressionList) -> None:
    assert register.runs_of(CANARY) == register.noted() == frozenset()
    assert not register.folder.exists()  # asking makes nothing
    register.note(RUN, register.tags(NAMES))
    before = files(register.folder)
    register.note(RUN, register.tags(NAMES[::-1]))
    assert files(register.folder) == before
    register.note(OTHER, register.tags(NAMES[:3]))
    assert register.runs_of(CANARY) == {RUN}
    assert register.runs_of(NAMES[0]) == {RUN, OTHER} == register.noted()
    assert register.runs_of("stranger") == frozenset()


def test_a_hash_is_found_at_its_place_only() -> None:
    tags = bytes(range(16)) + bytes(range(100, 116)) + bytes(16)
    assert registers._holds(tags, bytes(range(100, 116)))
    assert registers._holds(tags, bytes(16))
    assert not registers._holds(tags, tags[4:20])
    assert not registers._holds(tags[4:20] + tags[4:20] + tags, tags[8:20] + tags[4:8])


def test_a_lost_key_is_not_replaced(register: SuppressionList) -> None:
    register.exclude(CANARY)
    (register.folder / "key").unlink()
    for ask in (lambda: register.tag("x"), register.excluded, lambda: register.exclude("x")):
        with pytest.raises(InputError, match="key of the erased readers is lost"):
            ask()
    assert not (register.folder / "key").exists()


def test_another_key_is_noticed(register: SuppressionList, tmp_path: Path) -> None:
    register.exclude(CANARY)
    other = SuppressionList(tmp_path / "other")
    other.tag("x")
    (register.folder / "key").write_bytes((other.folder / "key").read_bytes())
    with pytest.raises(InputError, match="under another key"):
        register.excluded()


def test_two_at_once_make_one_key(register: SuppressionList) -> None:
    key = register.tag(CANARY)
    registers._make_key(register.folder / "key")  # who was too late to see it
    assert register.tag(CANARY) == key
    assert [p.name for p in register.folder.iterdir()] == ["key"]


def test_one_eraser_at_a_time(register: SuppressionList) -> None:
    with (
        register.locked(),
        pytest.raises(FolderError, match="another erasure"),
        register.locked(),
    ):
        pass


@pytest.mark.parametrize("doing", ["folder", "key"])
def test_a_disk_that_refuses_is_said(
    doing: str, register: SuppressionList, monkeypatch: pytest.MonkeyPatch
) -> None:
    if doing == "folder":
        register.folder.write_text("a file")
    else:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="cannot make a"):
        register.exclude(CANARY)


# --- Who is trained on ---------------------------------------------------------------------------


def test_all_are_eligible_and_noted(
    register: SuppressionList, snapshot: Path, contract: Contract
) -> None:
    assert texts(eligible(register, snapshot, contract)) == NAMES
    assert all(register.runs_of(name) == {contract.digest} for name in NAMES)


def test_an_erased_reader_is_left_out_whatever_comes_back(
    register: SuppressionList, snapshot: Path, contract: Contract
) -> None:
    assert register.exclude(CANARY)
    assert not register.exclude(CANARY)
    for _ in range(2):
        assert texts(eligible(register, snapshot, contract)) == [n for n in NAMES if n != CANARY]
    assert register.runs_of(CANARY) == frozenset()


def test_who_is_erased_while_a_round_begins_is_left_out_or_noted(
    register: SuppressionList,
    snapshot: Path,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`erase` excludes, then looks. Here it comes between reading and noting, and just after."""
    note, erased = SuppressionList.note, list[str]()

    def erasing(self: SuppressionList, run: str, tags: list[bytes]) -> None:
        if not erased:
            self.exclude(NAMES[1])
            erased.append(NAMES[1])
        note(self, run, tags)
        if len(erased) == 1:
            self.exclude(CANARY)
            erased.append(CANARY)

    monkeypatch.setattr(SuppressionList, "note", erasing)
    assert texts(eligible(register, snapshot, contract)) == [n for n in NAMES if n not in erased]
    assert register.exclude(NAMES[7])  # after all that: it is in the round, and seen to be
    assert register.runs_of(NAMES[7]) == {contract.digest}


def lose_the_key(register: SuppressionList) -> None:
    (register.folder / "key").unlink()


def let_others_read_the_key(register: SuppressionList) -> None:
    (register.folder / "key").chmod(0o644)


def spoil_an_exclusion(register: SuppressionList) -> None:
    next((register.folder / "excluded").iterdir()).write_bytes(b"")


BREAK = (lose_the_key, let_others_read_the_key, spoil_an_exclusion)


@pytest.mark.parametrize("how", BREAK, ids=lambda how: how.__name__)
def test_where_the_erased_cannot_be_told_apart_nobody_is_trained_on(
    how: Callable[[SuppressionList], None],
    register: SuppressionList,
    snapshot: Path,
    contract: Contract,
) -> None:
    register.exclude(CANARY)
    how(register)
    assert eligible(register, snapshot, contract).readers == 0


@pytest.mark.parametrize("how", BREAK[:2], ids=lambda how: how.__name__)
def test_where_nobody_is_erased_a_broken_register_changes_nothing(
    how: Callable[[SuppressionList], None],
    register: SuppressionList,
    snapshot: Path,
    contract: Contract,
) -> None:
    eligible(register, snapshot, contract)
    how(register)
    assert texts(eligible(register, snapshot, contract)) == NAMES


def test_a_disk_that_is_full_changes_nothing(
    register: SuppressionList, snapshot: Path, contract: Contract
) -> None:
    register.tag(CANARY)
    with full_disk(room=50):
        assert texts(eligible(register, snapshot, contract)) == NAMES
    assert register.noted() == frozenset()


def test_data_that_is_not_there_is_nobody_and_is_noted_as_such(
    register: SuppressionList, snapshot: Path, contract: Contract
) -> None:
    snapshot.unlink()
    assert eligible(register, snapshot, contract).readers == 0
    assert register.noted() == {contract.digest}
    assert register.runs_of(CANARY) == frozenset()


def test_a_raw_file_is_nobody(
    register: SuppressionList, tmp_path: Path, contract: Contract
) -> None:
    """Also a Parquet file of the very same columns: only what was imported was judged alone."""
    label = labels_of(contract)[0]
    pq.write_table(
        pa.table({"reader": ["a"], "text": ["x"], "label": [label]}), tmp_path / "x.parquet"
    )
    assert eligible(register, tmp_path / "x.parquet", contract).readers == 0
