"""A round's updates combined so that some outlets, who lie, cannot take the adapter with them.

`[federation] robust` names the rule, `attackers` how many outlets it is to stand, f. Every outlet
has one voice: what it declares about its readers gives it no more. What is made here of noisy
updates is post-processing and costs no privacy; but most of it is noisier than their mean.

* `trimmed-mean`: of each coordinate the f largest and the f smallest are left out, the rest is
  averaged; `median`: of each coordinate the median (Yin, Chen, Ramchandran & Bartlett, ICML 2018,
  definitions 1 and 2).
* `krum`: multi-Krum, the mean of the n − f updates with the least sum of squared distances to their
  n − f − 2 nearest (Blanchard, El Mhamdi, Guerraoui & Stainer, NeurIPS 2017, section 4).
* `rfa`: the geometric median, by smoothed Weiszfeld steps (Pillutla, Kakade & Harchaoui, IEEE TSP
  2022, algorithm 2).

Invariants:
    * Order of arrival decides nothing: outlets are taken in the order of their names.
    * The quorum is at least what a rule needs (`Contract` sees to it), so n is large enough here.
    * One array at a time: distances are sums over arrays of their inner products.

Example:
    >>> from types import SimpleNamespace
    >>> said = {o: SimpleNamespace(delta={"w": np.full(1, v)}) for o, v in zip("abc", (1, 2, 99))}
    >>> float(Median(said, 1)["w"][0])
    2.0
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from presspool.common.wire.update import AdapterUpdate
from presspool.server.rounds.aggregators.aggregator import Change, WeightedMean

Rows = NDArray[np.float64]
# Of Weiszfeld's steps; nearer to an update than so much of the first distances counts as there.
_STEPS, _NEAR = 100, 1e-6


class _Coordinates(Mapping[str, NDArray[np.float64]]):
    """Updates combined coordinate by coordinate, an array when it is asked for.

    Args:
        updates: outlet to admitted update, more than 2f.
        attackers: f.
    """

    def __init__(self, updates: Mapping[str, AdapterUpdate], attackers: int) -> None:
        self._deltas = [updates[outlet].delta for outlet in sorted(updates)]
        self._attackers = attackers

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        rows = np.stack([delta[name] for delta in self._deltas]).astype(np.float64)
        return self._of(np.sort(rows, axis=0))

    def __iter__(self) -> Iterator[str]:
        return iter(self._deltas[0])

    def __len__(self) -> int:
        return len(self._deltas[0])

    @abstractmethod
    def _of(self, ordered: Rows) -> NDArray[np.float64]:
        """(outlets, ...) in ascending order to (...)."""


class TrimmedMean(_Coordinates):
    """The mean of what is left without f at either end."""

    def _of(self, ordered: Rows) -> NDArray[np.float64]:
        kept = ordered[self._attackers : len(ordered) - self._attackers]
        return np.asarray(kept.mean(axis=0))


class Median(_Coordinates):
    """The median."""

    def _of(self, ordered: Rows) -> NDArray[np.float64]:
        return np.asarray((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def krum(updates: Mapping[str, AdapterUpdate], attackers: int) -> Change:
    """The mean of the n − f updates that are nearest to their neighbours.

    Args:
        updates: outlet to admitted update, at least 2f + 3.
        attackers: f.
    """
    outlets, squares = sorted(updates), _squared_distances(_inner(updates))
    near = len(outlets) - attackers - 2
    scores = np.sort(squares, axis=1)[:, 1 : near + 1].sum(axis=1)  # the first is its own
    kept = np.argsort(scores, kind="stable")[: len(outlets) - attackers]
    return WeightedMean({outlets[i]: updates[outlets[i]] for i in kept}, dict.fromkeys(outlets, 1))


def geometric_median(updates: Mapping[str, AdapterUpdate], attackers: int) -> Change:  # noqa: ARG001
    """The point with the least sum of distances to all updates.

    It is a weighted mean of them, and so are all of Weiszfeld's steps: only weights are moved, and
    distances come from inner products.

    Args:
        updates: outlet to admitted update, at least one.
        attackers: f, fewer than half of them.
    """
    inner, outlets = _inner(updates), sorted(updates)
    weights = np.full(len(outlets), 1 / len(outlets))
    nearest = _NEAR * float(_distances(inner, weights).max())
    for _ in range(_STEPS if nearest > 0 else 0):
        pulls = 1 / np.maximum(_distances(inner, weights), nearest)
        before, weights = weights, pulls / pulls.sum()
        if float(np.abs(weights - before).max()) < _NEAR:
            break
    return WeightedMean(updates, dict(zip(outlets, weights.tolist(), strict=True)))


def _inner(updates: Mapping[str, AdapterUpdate]) -> Rows:
    """(outlets, outlets): inner products of updates less their mean, which keeps digits."""
    deltas = [updates[outlet].delta for outlet in sorted(updates)]
    total = np.zeros((len(deltas), len(deltas)))
    for name in deltas[0]:
        rows = np.stack([delta[name].ravel() for delta in deltas]).astype(np.float64)
        rows -= rows.mean(axis=0)
        total += rows @ rows.T
    return total


def _squared_distances(inner: Rows) -> Rows:
    own = np.diag(inner)
    return np.maximum(own[:, None] + own[None, :] - 2 * inner, 0.0)


def _distances(inner: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each update to the weighted mean."""
    squares = np.diag(inner) - 2 * inner @ weights + weights @ inner @ weights
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))
