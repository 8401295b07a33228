"""Parallel coordinates: an axis for each swept key and each figure, a line for each point.

On a wide page axes stand side by side; on a phone, and where there are many, they lie below each
other, so that their names keep their room.

Invariant: an axis has the values that were tried as its ticks, where those are few.

Example: `parallel([ParallelAxis("ε", (1.0, 3.0), str)], ["main"], ["best"], width=720)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from presspool.common.audit.pages.charts import NARROW, Drawing, Mark

MOST_BESIDE, MOST_TICKS = 6, 6
LETTER = 6.4  # about the width of one, in user units at the page's font
LOG_FROM = 20.0  # numbers that span so much are spread by their logarithms


@dataclass(frozen=True, kw_only=True)
class ParallelAxis:
    """One axis, and every line's value on it.

    Attributes:
        title: above or below it.
        values: of the lines, in their order; texts, truth values and infinity have places in line.
        said: how a value is written.
    """

    title: str
    values: tuple[object, ...]
    said: Callable[[Any], str]

    def places(self) -> list[float]:
        """Where each line crosses, from 0 to 1."""
        return [self.place(value) for value in self.values]

    def place(self, value: object) -> float:
        """Where a value lies, from 0 to 1; the only one in the middle."""
        known = self.known
        if len(known) == 1:
            return 0.5
        if not self._scaled:
            return known.index(value) / (len(known) - 1)
        low, high, at = (self._scale(v) for v in (known[0], known[-1], value))
        return (at - low) / (high - low)

    @property
    def known(self) -> list[object]:
        """The values, each once, from low to high."""
        found = list(dict.fromkeys(self.values))
        numbers = all(isinstance(v, int | float) for v in found)
        return sorted(found, key=float if numbers else str)  # type: ignore[arg-type]

    @property
    def ticks(self) -> list[object]:
        """The values that are written beside the axis."""
        known = self.known
        return known if len(known) <= MOST_TICKS else [known[0], known[-1]]

    @property
    def _scaled(self) -> bool:
        """Whether its values are numbers on a scale."""
        return all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
            for v in self.values
        )

    def _scale(self, value: object) -> float:
        assert isinstance(value, int | float)
        low, high = self.known[0], self.known[-1]
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        return math.log(value) if low > 0 and high / low >= LOG_FROM else float(value)


def parallel(
    columns: Sequence[ParallelAxis], styles: Sequence[str], texts: Sequence[str], *, width: int
) -> Drawing:
    """The drawing.

    Args:
        columns: the axes, at least two.
        styles: of the lines; what stands first lies below.
        texts: what a pointer shows of each line.
        width: of the page's column.
    """
    lying = width <= NARROW or len(columns) > MOST_BESIDE
    return (_lying if lying else _standing)(columns, styles, texts, width)


def _standing(
    columns: Sequence[ParallelAxis], styles: Sequence[str], texts: Sequence[str], width: int
) -> Drawing:
    top, bottom, height = 12.0, 268.0, 300
    left, right = 40.0, width - 64.0
    xs = [left + (right - left) * n / (len(columns) - 1) for n in range(len(columns))]
    ys = [[bottom - (bottom - top) * at for at in column.places()] for column in columns]
    axes = [Mark(style="axis", path=f"M{x:g} {top:g}V{bottom:g}") for x in xs]
    ticks = [
        Mark(style="second", x=x + 6, y=bottom - (bottom - top) * column.place(tick), text=said)
        for x, column in zip(xs, columns, strict=True)
        for tick, said in _apart(column, (bottom - top) / 15)
    ]
    return _drawing(
        width,
        height,
        paths=(
            *_lines([[(x, y) for y in row] for x, row in zip(xs, ys, strict=True)], styles, texts),
            *axes,
        ),
        texts=tuple(ticks),
        titles=tuple(Mark(style="x", x=x, text=c.title) for x, c in zip(xs, columns, strict=True)),
        bottom=bottom + 4,
    )


def _lying(
    columns: Sequence[ParallelAxis], styles: Sequence[str], texts: Sequence[str], width: int
) -> Drawing:
    between, first = 72.0, 34.0
    left, right = 8.0, width - 16.0
    ys = [first + between * n for n in range(len(columns))]
    xs = [[left + (right - left) * at for at in column.places()] for column in columns]
    axes = [Mark(style="axis", path=f"M{left:g} {y:g}H{right:g}") for y in ys]
    names = [
        Mark(style="second", x=left, y=y - 12, text=column.title)
        for y, column in zip(ys, columns, strict=True)
    ]
    ticks = [
        Mark(
            style="second",
            x=_inside(left + (right - left) * column.place(tick), said, width),
            y=y + 14,
            text=said,
        )
        for y, column in zip(ys, columns, strict=True)
        for tick, said in _apart(column, (right - left) / (LETTER * 7))
    ]
    return _drawing(
        width,
        round(ys[-1] + 26),
        paths=(
            *_lines([[(x, y) for x in row] for y, row in zip(ys, xs, strict=True)], styles, texts),
            *axes,
        ),
        texts=(*names, *ticks),
        titles=(),
        bottom=ys[-1],
    )


def _apart(column: ParallelAxis, room: float) -> list[tuple[object, str]]:
    """The ticks that can be written without one lying on another."""
    found: list[tuple[object, str]] = []
    for tick in column.ticks:
        if not found or column.place(tick) - column.place(found[-1][0]) >= 1 / room:
            found.append((tick, column.said(tick)))
    return found


def _inside(middle: float, text: str, width: int) -> float:
    """Where a text begins that stands around a place, and inside the drawing."""
    long = LETTER * len(text)
    return round(min(max(0.0, middle - long / 2), width - long), 1)


def _lines(
    crossings: Sequence[Sequence[tuple[float, float]]], styles: Sequence[str], texts: Sequence[str]
) -> list[Mark]:
    """A path a line, through its place on every axis."""
    found = []
    for number, (style, text) in enumerate(zip(styles, texts, strict=True)):
        through = "L".join(f"{axis[number][0]:.1f} {axis[number][1]:.1f}" for axis in crossings)
        found.append(Mark(style=style, path=f"M{through}", text=text))
    return found


def _drawing(
    width: int,
    height: int,
    *,
    paths: tuple[Mark, ...],
    texts: tuple[Mark, ...],
    titles: tuple[Mark, ...],
    bottom: float,
) -> Drawing:
    return Drawing(
        width=width,
        height=height,
        left=0.0,
        right=0.0,
        top=0.0,
        bottom=bottom,
        x_title="",
        y_title="",
        x_ticks=titles,
        y_ticks=(),
        paths=paths,
        texts=texts,
    )
