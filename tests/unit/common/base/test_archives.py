"""Archives of homes: nothing of a file that somebody made lands anywhere but in known places."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from presspool.common.base.archives import _take, pack, unpack
from presspool.common.base.errors import InputError


@pytest.mark.parametrize("name", [".", "./", "/etc/x", "../x", "keys/../../x", "other/x", ""])
def test_a_member_of_another_name_is_refused(name: str, tmp_path: Path) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    body.seek(0)
    with tarfile.open(fileobj=body) as tar:
        for found in tar:
            with pytest.raises(tarfile.ReadError, match="a member that no backup has"):
                _take(tar, found, tmp_path / "draft", ["keys"])
    assert not (tmp_path / "draft").exists()


@pytest.mark.parametrize("kind", ["folder", "nothing", "text", "short", "other"])
def test_what_is_no_backup_is_named_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"k" * 20_000)
    file, new = tmp_path / "file", tmp_path / "deep" / "er" / "new"
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("[outlets]\n")
    elif kind != "nothing":
        with pack(file, "kind/1" if kind == "short" else "kind/2") as archive:
            archive.add(tmp_path / "keys", "keys")
        file.write_bytes(file.read_bytes()[: 12_000 if kind == "short" else None])
    with (
        pytest.raises(InputError) as refused,
        unpack(file, "kind/1", new, known=["keys"]),
    ):
        pytest.fail("it was taken")
    assert refused.value.where == str(file)
    assert not (tmp_path / "deep").exists()
