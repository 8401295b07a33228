"""A number that says how well an adapter does: its name, its title, and which way is better.

Example:
    >>> Metric(name="loss", title="Loss", higher_is_better=False, unit="nats").primary
    False
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One of a task's metrics.

    Attributes:
        name: its key in results.
        title: its name for people, as on the axis of a plot.
        higher_is_better: its direction.
        primary: whether this is the one that a run is judged by.
        unit: of the number; "" for a share.
    """

    name: str
    title: str
    higher_is_better: bool
    primary: bool = False
    unit: str = ""
