"""The discrete Gaussian, exactly: P(k) ∝ exp(-k²/2s²) over all whole numbers k.

Noise on a grid needs a law on the grid. What stands in the tail of a rounded Box-Muller draw are
the few radii that a 53-bit uniform can reach, and they tell where the centre is; here every whole
number has its own probability, to the last bit.

A draw proposes |k| = V·t + U: a block V with P(V) ∝ exp(-V²t²/2s²), by the inverse of its
distribution function, and a place U uniform in [0, t), t a power of two with s/t in [8, 16). It is
kept with probability exp(-(|k|² - V²t²)/2s²), 0.95 on average; a sign is drawn, and -0 is thrown
away so that 0 does not count twice. What is kept has the law above (rejection sampling; Canonne,
Kamath and Steinke 2020, section 5, with another proposal).

Exact although computed in floating point: a uniform is compared with a threshold that is known
only to within an interval. Where the uniform lies outside the interval, and but for a chance of
2⁻⁴⁴ it does, the decision is the right one whatever the error was; where it lies inside, more bits
of both are made until it no longer does (`_exactly`).

Invariants:
    * What is left of finite precision is the tail that the table of blocks ends at: a total
      variation distance below 2⁻¹⁸⁰ a draw, `TAIL`.
    * How many draws are thrown away does not depend on what is kept, so the time says nothing.

Example:
    >>> draws = discrete_gaussian(5, 2.0**40, SecureRandom.deterministic(1))
    >>> draws.dtype, bool((abs(draws) < 10 * 2.0**40).all())
    (dtype('int64'), True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import PlanError

TAIL = 2.0**-180
_DIGITS = 80  # of decimals that thresholds are known to: 265 bits
_TABLE_ENDS = 16.5  # standard deviations; beyond lies less than `TAIL`
_WORD = 64
_DOUBT = 2.0**-46  # above the error of an acceptance probability in float64

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


def discrete_gaussian(count: int, scale: float, random: SecureRandom) -> Integers:
    """Independent draws.

    Args:
        count: how many.
        scale: s, in units of the grid, 0 < s <= 2⁵⁶. The variance is s² from s = 2 on to within
            parts in 10³⁰.
        random: the outlet's secret stream.

    Returns:
        (count,) int64.

    Raises:
        PlanError: another scale, for which whole numbers of 64 bits do not do.
    """
    if not 0 < scale <= 2.0**56:
        raise PlanError("the noise's scale on its grid", expected="0 < s <= 2^56", got=scale)
    kept, missing = [np.empty(0, np.int64)], count
    while missing > 0:
        drawn = _proposals(missing + missing // 16 + 8, scale, random)[:missing]
        kept.append(drawn)
        missing -= len(drawn)
    return np.concatenate(kept)


def _proposals(count: int, scale: float, random: SecureRandom) -> Integers:
    """So many proposals, less those that are thrown away."""
    bits = max(0, math.frexp(scale)[1] - 4)  # t = 2^bits
    block = _blocks(random.words(count), scale, bits, random)
    words = random.words(count)
    place = (words & np.uint64((1 << bits) - 1)).astype(np.int64)
    negative = words >> np.uint64(_WORD - 1) == 1
    size = (block << bits) + place
    twice = place.astype(np.float64) * (size + (block << bits)).astype(np.float64)
    chance = np.exp(-twice / (2 * scale * scale))
    keep = _coins(chance, random, lambda i: _exponent(int(size[i]), int(block[i]), bits, scale))
    keep &= ~negative | (size != 0)
    return np.where(negative, -size, size)[keep]


def _blocks(words: Words, scale: float, bits: int, random: SecureRandom) -> Integers:
    """V by the inverse of its distribution function; a word on a threshold gets more bits."""
    whole, exact = _thresholds(scale, bits)
    block = np.searchsorted(whole, words, side="right")
    # Equal to a threshold's first 64 bits: the threshold lies within this word's interval.
    for i in np.flatnonzero(whole[block - 1] == words):
        block[i] = _exactly(int(words[i]), _first_bits(exact), random)
    return block.astype(np.int64)


def _coins(
    chance: NDArray[np.float64], random: SecureRandom, exponent: Callable[[int], Decimal]
) -> NDArray[np.bool_]:
    """True with probability exp(-x); `chance` is that in float64, `exponent(i)` is x exactly."""
    words = random.words(len(chance))
    uniform = words.astype(np.float64) * 2.0**-_WORD
    heads = uniform < chance
    for i in np.flatnonzero(np.abs(uniform - chance) < _DOUBT):
        with localcontext(Context(prec=_DIGITS)):
            threshold = Fraction((-exponent(int(i))).exp())
        heads[i] = _exactly(int(words[i]), _first_bits([threshold]), random) == 0
    return heads


def _first_bits(thresholds: Sequence[Fraction]) -> Callable[[int], list[int]]:
    """From n to the first n bits of each."""
    return lambda n: [int(threshold * (1 << n)) for threshold in thresholds]


def _exactly(word: int, thresholds: Callable[[int], list[int]], random: SecureRandom) -> int:
    """How many of the thresholds are at most a uniform number that begins with a word's bits.

    Args:
        word: its first 64 bits.
        thresholds: their first n bits, rising, as whole numbers.
        random: further bits.
    """
    bits = _WORD
    while word in (known := thresholds(bits)) and bits < 4 * _WORD:
        word, bits = (word << _WORD) | int(random.words(1)[0]), bits + _WORD
    return sum(threshold <= word for threshold in known)


@lru_cache(maxsize=16)
def _thresholds(scale: float, bits: int) -> tuple[Words, tuple[Fraction, ...]]:
    """P(V < v) for v = 1, 2, …: the first 64 bits of each, below a last one that none reaches."""
    with localcontext(Context(prec=_DIGITS)):
        ratio = _decimal(Fraction(1 << bits) ** 2 / Fraction(scale) ** 2)
        ends = math.ceil(_TABLE_ENDS * scale / (1 << bits)) + 1
        weights = [(-ratio * v * v / 2).exp() for v in range(ends)]
        total, running, exact = sum(weights), Decimal(0), []
        for weight in weights[:-1]:
            running += weight
            exact.append(Fraction(running / total))
    whole = np.array([int(x * (1 << _WORD)) for x in exact], np.uint64)
    return whole, tuple(exact)


def _exponent(size: int, block: int, bits: int, scale: float) -> Decimal:
    """(|k|² - V²t²)/2s²; within a decimal context."""
    start = block << bits
    return _decimal(Fraction(size * size - start * start) / (2 * Fraction(scale) ** 2))


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)
