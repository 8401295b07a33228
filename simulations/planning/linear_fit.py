"""A line through measured points, and how far they lie from it.

Example:
    >>> line = fitted([(1.0, 12.0), (2.0, 14.0), (4.0, 18.0)])
    >>> round(line.at(10.0), 9), round(line.residual, 9)
    (30.0, 0.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """y = fixed + each · x, by least squares.

    Attributes:
        points: (x, y) that were measured, two or more.
        fixed: y that does not hang on x.
        each: y of one x more.
    """

    points: tuple[Point, ...]
    fixed: float
    each: float

    def at(self, x: float) -> float:
        """What the line says of an x, as far as the line holds; never below nothing."""
        return max(0.0, self.fixed + self.each * x)

    @property
    def residual(self) -> float:
        """The largest distance of a point from the line, as a share of the point."""
        return max((abs(self.at(x) - y) / y for x, y in self.points if y), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Points, line and residual."""
        points = [{"x": x, "measured": y, "fitted": self.at(x)} for x, y in self.points]
        return {
            "points": points,
            "fixed": self.fixed,
            "each": self.each,
            "largest_residual": self.residual,
        }


def fitted(points: Sequence[Point]) -> LinearFit:
    """The line through points of two or more different x."""
    x, y = np.asarray(points, np.float64).T
    each = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return LinearFit(points=tuple(points), fixed=float(y.mean() - each * x.mean()), each=each)
