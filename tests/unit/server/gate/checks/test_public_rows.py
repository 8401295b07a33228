"""Public rows with their groups, lists, and what is wrong with either."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import LABELS

from presspool.common.base.errors import DataError, InputError
from presspool.common.tasks.classification import Classification, ClassificationTable
from presspool.server.gate.checks.public_rows import (
    LONGEST_GROUP,
    MOST_BYTES,
    MOST_GROUPS,
    listed,
    public_rows,
)
from presspool.server.gate.release_policy import Public

TASK = Classification(ClassificationTable(labels=LABELS))
ROWS = "text,label,place\ngoal,sport,north\nbank,money,south\nvote,world,north\n"


def test_groups_stand_beside_their_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    asked = Public(file="rows.csv", most_rows=2, groups=("place", "label"))
    rows = public_rows(asked, tmp_path, TASK)
    assert rows.to_pydict() == {
        "text": ["goal", "bank"],
        "label": [1, 2],
        "place": ["north", "south"],
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ROWS.replace("place", "town"), "missing column 'place'"),
        (ROWS.replace("money", "mony"), "did you mean 'money'|'money'"),
        ("text,label,place\n", "no records"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "rows.csv").write_text(body)
    with pytest.raises(DataError, match=said):
        public_rows(Public(file="rows.csv", groups=("place",)), tmp_path, TASK)


@pytest.mark.parametrize(
    "groups", [[f"reader {i}" for i in range(MOST_GROUPS + 1)], ["a", "b" * (LONGEST_GROUP + 1)]]
)
def test_a_column_of_ids_or_texts_is_no_column_of_groups(tmp_path: Path, groups: list[str]) -> None:
    rows = "".join(f"goal,sport,{group}\n" for group in groups)
    (tmp_path / "rows.csv").write_text(f"text,label,place\n{rows}")
    with pytest.raises(DataError, match="not a column of groups") as refused:
        public_rows(Public(file="rows.csv", groups=("place",)), tmp_path, TASK)
    assert groups[-1] not in str(refused.value)


def test_a_list_is_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes("\ufeffone\r\n\n  zwei \n京".encode())
    assert listed(file, where="[generation] canaries") == {1: "one", 3: "zwei", 4: "京"}


@pytest.mark.parametrize("blank", ["\u200b\u200d", "x", "- - -", "\u2060a\u2060", "\xad"])
def test_an_entry_that_says_nothing_is_refused_and_no_other_is_shown(
    tmp_path: Path, blank: str
) -> None:
    """What is looked for everywhere, or nowhere, would be a check that cannot fail."""
    file = tmp_path / "list.txt"
    file.write_text(f"our own secret\n\n{blank}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 3: says nothing") as refused:
        listed(file, where="[generation] forbidden")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"\n \n", b"\xff\n", b"a" * (MOST_BYTES + 1), None])
def test_what_is_no_list_is_refused(tmp_path: Path, body: bytes | None) -> None:
    file = tmp_path / "list.txt"
    if body is not None:
        file.write_bytes(body)
    with pytest.raises(InputError, match=r"canaries: .*list\.txt"):
        listed(file, where="[generation] canaries")
