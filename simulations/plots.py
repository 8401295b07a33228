"""Plots for the documentation, drawn by Matplotlib (the extra `plots`).

Invariants:
    * Equal figures give files with equal bytes but for their ids: no date is written.
    * Characters that Matplotlib's own font lacks are drawn by an installed one; where there is
      none, one line says so.

Example: `figure = new_figure(9, 4.5)`; `figure.subplots().bar(...)`; `save(figure, path)`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from presspool.common.audit.pages import missing_fonts
from presspool.common.base.extras import from_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NO_GLYPH = re.compile(r"Glyph (\d+) .*missing from")


def require_plots() -> None:
    """Raise `InputError` where Matplotlib is not installed; ask before the work, not after it."""
    with from_extra("plots", "no Matplotlib here, which draws this plot"):
        import matplotlib  # noqa: F401


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        InputError: Matplotlib is not installed.
    """
    require_plots()
    from matplotlib import font_manager, rcParams
    from matplotlib.figure import Figure

    installed = set(font_manager.fontManager.get_font_names())
    rcParams["font.family"] = ["sans-serif", *missing_fonts.fallbacks(installed)]
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure, as its file's name says."""
    lacking = ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(path, metadata={"Date": None})
    for each in said:
        if found := _NO_GLYPH.match(str(each.message)):
            lacking += chr(int(found[1]))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    missing_fonts.say(lacking)


def bars(
    axes: Axes,
    names: Sequence[str],
    heights: Mapping[str, Sequence[float]],
    *,
    written: Callable[[float], str],
    colours: Mapping[str, str],
) -> None:
    """Two series of bars beside each other, each bar with its figure.

    Args:
        axes: where to.
        names: of the groups of bars.
        heights: series to its height in each group.
        written: how a figure is written above its bar.
        colours: series to colour.
    """
    for place, (series, values) in enumerate(heights.items()):
        at = [number + (place - 0.5) * 0.4 for number in range(len(names))]
        drawn = axes.bar(at, values, width=0.38, color=colours[series], label=series)
        axes.bar_label(drawn, [written(value) for value in values], fontsize="small", padding=2)
    axes.set_xticks(range(len(names)), names)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
