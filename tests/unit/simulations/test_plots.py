"""Plots: what Matplotlib cannot draw is said in one line of ours, and other warnings stay."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from presspool.common.audit.pages import missing_fonts
from presspool.simulations.plots import new_figure, save

pytest.importorskip("matplotlib", reason="the extra `plots` is not here")

UNDRAWN = "\U00012000"  # cuneiform: in no font that plots are drawn with


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    missing_fonts._said.clear()
    yield
    missing_fonts._said.clear()


def test_a_character_without_a_font_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.svg", "b.png"):
            figure = new_figure(2, 2)
            figure.subplots().set_title(f"mood {UNDRAWN}")
            save(figure, tmp_path / name)
    assert caplog.text.count("no font here draws") == 1
    assert UNDRAWN in caplog.text


def test_other_warnings_are_passed_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = new_figure(0.1, 0.1)
    figure.subplots().set_title("a title that no layout has room for")
    with pytest.warns(UserWarning, match="constrained_layout not applied"):
        save(figure, tmp_path / "a.svg")
    assert not caplog.records
