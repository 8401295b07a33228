"""Archives of homes: nothing of a file that somebody made lands anywhere but in known places."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from presspool.common.base.archives import pack, unpack
from presspool.common.base.errors import InputError

KIND = "kind/1"
Member = tuple[str, bytes, Mapping[str, str]]  # with the pax headers that it claims


def made(path: Path, members: Sequence[Member]) -> Path:
    """A whole archive of these members, as anybody can write one."""
    first: Member = ("PRESSPOOL", KIND.encode(), {})
    last: Member = ("END", str(len(members)).encode(), {})
    with tarfile.open(path, "w") as tar:
        for name, content, claims in (first, *members, last):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), dict(claims)
            tar.addfile(member, io.BytesIO(content))
    return path


def refused(path: Path, members: Sequence[Member], match: str) -> None:
    file = made(path / "bad", members)
    with (
        pytest.raises(InputError, match=match) as error,
        unpack(file, KIND, path / "new", files=["a.toml"], folders=["keys"]),
    ):
        pass
    assert error.value.what == "not a backup, or a damaged one"
    assert [found.name for found in path.iterdir()] == ["bad"]


def test_what_was_packed_is_there_again_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "keys" / "old").mkdir(parents=True)
    (home / "keys" / "old" / "root.key").write_text("key")
    (home / "keys" / "lock").touch()
    (home / "a.toml").write_text("a = 1")
    with pack(tmp_path / "file", KIND) as archive:
        archive.add_file(home / "a.toml", "a.toml")
        archive.add_folder(home / "keys", "keys")
        archive.add_bytes(b"b = 2", "b.toml")
        archive.add_file(home / "none", "none")
        archive.add_folder(home / "nothing", "nothing")
    files, folders = ["a.toml", "b.toml", "none"], ["keys", "nothing"]
    with unpack(tmp_path / "file", KIND, tmp_path / "new", files=files, folders=folders):
        pass
    found = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "new")): path.read_text() for path in found} == {
        "a.toml": "a = 1",
        "b.toml": "b = 2",
        "keys/old/root.key": "key",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


@pytest.mark.parametrize(
    "name",
    [
        *(".", "./", "/etc/x", "../x", "keys/../../x", "other/x", ""),
        *("keys", "a.toml/x", "keys/" + 300 * "x"),  # a folder as a file, a file as a folder
    ],
)
def test_a_member_of_another_name_is_refused(name: str, tmp_path: Path) -> None:
    refused(tmp_path, [(name, b"x", {})], "a member that no backup has")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.toml", "a.toml"),
        ("keys/x", "keys/./x"),
        ("keys/x", "keys/x/y"),
        ("keys/x", "keys/x/y/z"),
        ("keys/x/y", "keys/x"),
    ],
)
def test_a_place_that_is_taken_is_refused(first: str, second: str, tmp_path: Path) -> None:
    refused(tmp_path, [(first, b"x", {}), (second, b"x", {})], "a member that no backup has")


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, [("keys/x", b"x", {"path": "keys/x\0y"})], "null")


def test_members_that_claim_each_other_s_bytes_are_refused(tmp_path: Path) -> None:
    """Each alone could be; all of them would fill a disk that is larger than the file by far."""
    greedy = {"GNU.sparse.realsize": "50000"}
    members = [(f"keys/{number}", bytes(4096), greedy) for number in range(4)]
    members += [(f"keys/more-{number}", bytes(4096), {}) for number in range(20)]
    refused(tmp_path, members, "a member that no backup has")


def test_a_member_that_claims_more_than_the_file_holds_is_refused_unread(tmp_path: Path) -> None:
    claim = {"GNU.sparse.realsize": str(1 << 40)}
    refused(tmp_path, [("keys/x", b"x", claim)], "a member that no backup has")


@pytest.mark.parametrize("kind", ["folder", "nothing", "text", "short", "other"])
def test_what_is_no_backup_is_named_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"k" * 20_000)
    file, new = tmp_path / "file", tmp_path / "deep" / "er" / "new"
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("[outlets]\n")
    elif kind != "nothing":
        with pack(file, KIND if kind == "short" else "kind/2") as archive:
            archive.add_file(tmp_path / "keys", "keys")
        file.write_bytes(file.read_bytes()[: 12_000 if kind == "short" else None])
    with (
        pytest.raises(InputError) as found,
        unpack(file, KIND, new, files=["keys"], folders=[]),
    ):
        pytest.fail("it was taken")
    assert found.value.where == str(file)
    assert not (tmp_path / "deep").exists()
