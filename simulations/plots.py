"""Plots for the documentation, drawn by Matplotlib (the extra `plots`).

Invariants:
    * Equal figures give files with equal bytes but for their ids: no date is written.

Example: `figure = new_figure(9, 4.5)`; `figure.subplots().bar(...)`; `save(figure, path)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from presspool.common.base.extras import not_here

if TYPE_CHECKING:
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
