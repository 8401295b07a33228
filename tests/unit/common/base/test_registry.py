"""Closed lists of names, and what is behind them."""

from __future__ import annotations

import sys

import pytest

from presspool.common.base.errors import ContractError
from presspool.common.base.registry import Registry

DOORS: Registry[int] = Registry("number", {"pi": "math:pi", "lazy": "no_such_module:thing"})


def test_a_name_gives_the_thing() -> None:
    assert DOORS["pi"] == pytest.approx(3.14159, abs=1e-5)


def test_names_are_known_without_importing_what_is_behind_them() -> None:
    assert DOORS.names == ("pi", "lazy")
    assert DOORS.check("lazy") == "lazy"
    assert "no_such_module" not in sys.modules


def test_an_unknown_name_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(ContractError) as caught:
        DOORS["lzay"]
    assert "'lazy'" in str(caught.value)
    assert "one of pi, lazy" in str(caught.value)


def test_a_name_like_none_is_refused_without_a_suggestion() -> None:
    with pytest.raises(ContractError) as caught:
        DOORS.check("classification")
    assert "did you mean" not in str(caught.value)
