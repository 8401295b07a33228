"""How far an adapter's records of late lie from a public reference, and whether that is much.

Labels and lengths have the population stability index. States have the Fréchet distance of two
Gaussians with diagonal covariance, as a share of the reference's variance:

    (‖μ − μ₀‖² + Σ (σ − σ₀)²) / Σ σ₀²

Sources: `presspool.common.released.stability_index`; Heusel et al., "GANs trained by a two
time-scale update rule", NeurIPS 2017, section 3; Satterthwaite, Biometrics Bulletin 1946, for what
chance gives of a sum of squares whose dimensions go together.

Invariant: what chance alone may give is neither watched nor drifted; and nothing is stable before
chance alone would hardly look like drift.

Example:
    >>> Figure(of="labels", value=0.3, by_chance=0.02, records=700.0).level()
    'drifted'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from presspool.common.released import stability_index as index
from presspool.server.serving.drift.drift_sketch import EDGES, DriftSketch, Rows, RunningSum

TOO_FEW, STABLE, WATCH, DRIFTED = "too few yet", "stable", "watch", "drifted"
FEWEST = 100  # records
EDGE = 0.9  # of a threshold, under which a level is left again: no figure flutters around it
STATES: Final = (0.01, 0.03)
"""Of AG News' headlines under MiniLM, 0.003 is chance of 700 records, 0.02 a stream of which half
is of one of four topics, and 0.04 to 0.06 one that has one topic alone."""
_ALIKE = 1e-9  # of a variance at most 1: nothing but rounding
_BOTH = 1.5  # means and deviations: the latter err half as much as the former


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A public file under an adapter.

    Attributes:
        sketch: of all its records, none faded.
        labels: that are counted.
        freedom: dimensions that the states would have, were they independent and equal; 0 for none.
    """

    sketch: DriftSketch
    labels: Sequence[str]
    freedom: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        of: "labels", "lengths" or "states".
        value: how far; None before there is anything.
        by_chance: what it hardly exceeds without any drift.
        records: that it rests on, as `RunningSum.records`.
    """

    of: str
    value: float | None
    by_chance: float
    records: float

    def level(self, was: str = STABLE) -> str:
        """What it means, where it meant `was` before."""
        watch, drifted = STATES if self.of == "states" else (index.WATCH, index.DRIFTED)
        if self.value is None or self.records < FEWEST:
            return TOO_FEW
        if self.value > max(self.by_chance, drifted * (EDGE if was == DRIFTED else 1)):
            return DRIFTED
        if self.value > max(self.by_chance, watch * (EDGE if was in (WATCH, DRIFTED) else 1)):
            return WATCH
        return STABLE if self.by_chance <= watch else TOO_FEW


def figures(sketch: DriftSketch, reference: Reference) -> list[Figure]:
    """All figures of an adapter that there can be; of one without labels or states, fewer.

    Args:
        sketch: of late.
        reference: what it is held against.
    """
    there, n = reference.sketch, len(reference.labels)
    return [
        *_figure("labels", index.stability_index, sketch.labels, there.labels, n - 1),
        *_figure("lengths", index.stability_index, sketch.lengths, there.lengths, len(EDGES)),
        *_figure("states", distance, sketch.states, there.states, reference.freedom),
    ]


def _figure(
    of: str, far: Callable[[Rows, Rows], float], late: RunningSum, known: RunningSum, free: float
) -> Iterator[Figure]:
    if known.records and free:  # one label, or records that are all alike, cannot drift
        chance = index.by_chance(free, late.records, known.records)
        yield Figure(
            of=of,
            value=far(late.mean, known.mean) if late.records else None,
            by_chance=chance * _BOTH / free if of == "states" else chance,
            records=late.records,
        )


def distance(moments: Rows, reference: Rows) -> float:
    """The relative Fréchet distance of two rows of means and mean squares, side by side."""
    (mean, spread), (mean_there, spread_there) = map(_gaussian, (moments, reference))
    apart = ((mean - mean_there) ** 2).sum() + ((spread - spread_there) ** 2).sum()
    return float(apart / (spread_there**2).sum())


def freedom(states: Rows) -> float:
    """How many independent, equal dimensions have a sum of squares that varies as these do.

    Args:
        states: of length one, (records, dimensions); 0 where they are all alike.
    """
    product = np.cov(states, rowvar=False)
    total = float(np.trace(product))
    return total**2 / float((product**2).sum()) if total > _ALIKE else 0.0


def _gaussian(moments: Rows) -> tuple[Rows, Rows]:
    mean, square = np.split(moments, 2)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))
