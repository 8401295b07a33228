"""The pictures in the docs: every page in every look, small, and the guide shows them all."""

from __future__ import annotations

import struct

import pytest
from tests.conftest import REPOSITORY

from presspool.simulations.pictures import LARGEST_PICTURE, LOOKS

PICTURES = REPOSITORY / "docs" / "pictures"
PAGES = ("overview", "outlet", "run", "adapter", "ledger", "entry", "alerts", "attack")
LARGEST_IN_ALL = 2_000_000


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_has_a_small_picture_in_every_look(look: str) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "dashboard.md").read_text(encoding="utf-8")
    size, scale = LOOKS[look]["viewport"], LOOKS[look].get("device_scale_factor", 1)
    for page in PAGES:
        data = (PICTURES / f"{page}-{look}.png").read_bytes()
        assert len(data) <= LARGEST_PICTURE
        assert struct.unpack(">II", data[16:24]) == (size["width"] * scale, size["height"] * scale)
        assert f"../pictures/{page}-{look}.png" in guide


def test_the_pictures_are_all_there_is_and_small_together() -> None:
    found = sorted(PICTURES.iterdir())
    assert len(found) == len(PAGES) * len(LOOKS)
    assert sum(path.stat().st_size for path in found) <= LARGEST_IN_ALL
