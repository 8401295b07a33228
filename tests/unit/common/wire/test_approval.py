"""What an approval says, and that a strange file approves without naming anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from presspool.client.consent.approvals import Approvals
from presspool.common.base.errors import InputError
from presspool.common.wire.approval import LONGEST_NAME, Approval

RUN = "sha256:" + "0" * 64


def test_who_approved_is_kept_and_read_back(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path)
    said = approvals.approve(RUN, by="A. Editor")
    (file,) = tmp_path.iterdir()
    assert Approval.decode(RUN, file.read_bytes()) == said
    assert (said.by, len(said.day)) == ("A. Editor", 10)
    assert approvals.approved(RUN)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202eturned", "x" * (LONGEST_NAME + 1)])
def test_a_name_that_cannot_be_shown_approves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="one line of at most"):
        Approvals(tmp_path).approve(RUN, by=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"yes",
        b"[]",
        b"{}",
        b'{"by":"x"}',
        b'{"by":"x","day":"soon"}',
        b"\xff",
        b"[" * 9000,
        b'{"by":"a\\u001bb","day":"2026-01-05"}',
    ],
)
def test_a_strange_file_names_nobody(tmp_path: Path, data: bytes) -> None:
    assert Approval.decode(RUN, data).by == ""
    approvals = Approvals(tmp_path)
    (tmp_path / f"{'0' * 64}.approved").write_bytes(data)
    assert approvals.approved(RUN)
