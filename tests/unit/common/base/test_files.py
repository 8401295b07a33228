"""Replacing a file: the old one or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.instruments.full_disk import full_disk

from presspool.common.base.errors import StorageError
from presspool.common.base.files import create_file, replace_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert replace_file(path, b"one") == path
    assert replace_file(path, b"a second, longer state").read_bytes() == b"a second, longer state"
    assert replace_file(path, b"").read_bytes() == b""
    assert names(tmp_path) == ["state"]


def test_an_open_reader_keeps_the_old_file(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "state", b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_old_file_whole_and_no_draft(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "state", b"old")
    with pytest.raises(StorageError) as caught, full_disk(room=1000):
        replace_file(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]
    assert caught.value.where == str(path)
    assert caught.value.got == os.strerror(errno.EFBIG)
    assert "--resume" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_gives_up_later_leaves_the_old_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Delayed allocation: the disk is found full when the kernel writes back, not before."""
    path = replace_file(tmp_path / "state", b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        replace_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_ctrl_c_while_writing_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = replace_file(tmp_path / "state", b"old")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


CRASH = """
import os, sys
from pathlib import Path
from presspool.common.base.files import create_file, replace_file
os.replace = lambda *_: os._exit(9)  # power fails between write and rename
replace_file(Path(sys.argv[1]), b"new")
"""


def test_a_crash_between_write_and_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "state", b"old")
    crashed = subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False)
    assert crashed.returncode == 9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2  # the draft, beside it, under another name
    assert replace_file(path, b"newer").read_bytes() == b"newer"


def test_the_content_is_on_the_disk_before_the_name_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watch_fsync(handle: int) -> None:
        done.append("fsync folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "fsync file")
        fsync(handle)

    def watch_replace(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_replace)
    replace_file(tmp_path / "state", b"new")
    assert done == ["fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize("name", ["missing/state", "state/below", "x" * 300])
def test_where_nothing_can_be_written_the_error_names_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "state").write_bytes(b"a file, no folder")
    with pytest.raises(StorageError) as caught:
        replace_file(tmp_path / name, b"new")
    assert caught.value.where == str(tmp_path / name)
    assert names(tmp_path) == ["state"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(StorageError):
        replace_file(tmp_path / "state", b"new")
    assert (tmp_path / "state").is_dir()
    assert names(tmp_path) == ["state"]


def test_of_many_who_create_one_file_one_does(tmp_path: Path) -> None:
    path, made = tmp_path / "record", list[int]()

    def create(number: int) -> None:
        if create_file(path, f"of {number}".encode() * 1000):
            made.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = made
    assert path.read_bytes() == f"of {first}".encode() * 1000
    assert names(tmp_path) == ["record"]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_file_that_cannot_be_created_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Also where a file system has no hard links."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StorageError, match="Operation not permitted"):
        create_file(tmp_path / "record", b"new")
    assert names(tmp_path) == []


def test_what_is_created_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, real = list[str](), {call: getattr(os, call) for call in ("fsync", "link", "unlink")}

    def watched(call: str) -> Callable[..., None]:
        def run(*arguments: object, **more: object) -> None:
            done.append(call)
            real[call](*arguments, **more)

        return run

    for call in real:
        monkeypatch.setattr(os, call, watched(call))
    assert create_file(tmp_path / "record", b"new")
    assert done[:3] == ["fsync", "link", "fsync"]
