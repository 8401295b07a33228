"""Plots for the documentation, drawn by Matplotlib (the extra `plots`).

Invariants:
    * Equal figures give files with equal bytes but for their ids: no date is written.

Example: `figure = new_figure(9, 4.5)`; `figure.subplots().bar(...)`; `save(figure, path)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from presspool.common.base.extras import not_here

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def require_plots() -> None:
    """Raise `InputError` where Matplotlib is not installed; ask before the work, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise not_here("plots", error, "no Matplotlib here, which draws this plot") from None


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        InputError: Matplotlib is not installed.
    """
    require_plots()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure, as its file's name says."""
    figure.savefig(path, metadata={"Date": None})


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
