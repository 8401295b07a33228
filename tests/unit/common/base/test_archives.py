"""Archives of homes: nothing of a file that somebody made lands anywhere but in known places."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from presspool.common.base.archives import _take


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
