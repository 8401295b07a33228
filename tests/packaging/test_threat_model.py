"""The threat model names every attack that is a test, and only such."""

from __future__ import annotations

import re

import pytest
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "threat-model.md"
ATTACKS = REPOSITORY / "tests" / "attacks"
ITEMS = [*(f"A.{n}" for n in range(1, 9)), *(f"B.{n}" for n in range(1, 17))]


def rows() -> dict[str, list[str]]:
    """Item to its row's cells."""
    found = re.findall(r"^\| ([AB]\.\d+) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert [item for item, _ in found] == ITEMS
    return {item: [cell.strip() for cell in cells.split("|")] for item, cells in found}


def test_every_attack_is_in_the_table_and_every_link_is_an_attack() -> None:
    """Links are `[label](../tests/attacks/...)`; a file that several items share may be twice."""
    links = re.findall(r"\(\.\./(tests/attacks/[^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    files = {str(path.relative_to(REPOSITORY)) for path in ATTACKS.rglob("test_*.py")}
    assert set(links) == files


@pytest.mark.parametrize("item", ITEMS)
def test_a_row_says_who_what_and_what_is_left(item: str) -> None:
    who, does, stops, tests, _ = rows()[item]
    assert min(map(len, (who, does, stops))) > 3
    name = f"test_{item.lower().replace('.', '')}_"
    for link in re.findall(r"/(test_[ab]\d+_)[^/]*\.py", tests):
        assert link == name
