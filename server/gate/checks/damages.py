"""How texts are damaged: as hurried fingers, other keyboards and short screens do.

Invariants:
    * The same text is damaged in the same way every time: the draws hang on its digest.
    * Every word stays in its place, but for those that a cut takes away from the end.

Example:
    >>> mistyped("The minister talks about a treaty")
    'The mniister talks about a treaty'
    >>> cut_short("The minister talks about a treaty")
    'The minister talks'
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from presspool.common.tasks.records.tagged_words import words_in

RATE: Final = 5
"""One word in so many is mistyped, and at least one of a text."""
_WORD = re.compile(r"[^\W\d_]{3,}")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE: Final[Mapping[str, str]] = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, key in enumerate(row)
}


def mistyped(text: str) -> str:
    """With a letter of some words swapped with the next, left out, or hit beside its key."""
    draws = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
    words = list(_WORD.finditer(text))
    chosen = draws.permutation(len(words))[: -(-len(words) // RATE)]
    for place in sorted(chosen.tolist(), reverse=True):
        start, end = words[place].span()
        text = text[:start] + _slipped(words[place].group(), draws) + text[end:]
    return text


def _slipped(word: str, draws: np.random.Generator) -> str:
    """Another word, if there is one: its first letter stays, as most slips leave it."""
    at = int(draws.integers(1, len(word) - 1))
    swapped = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    near = _BESIDE.get(word[at].lower(), "")
    hit = word[:at] + near[int(draws.integers(len(near)))] + word[at + 1 :] if near else word
    ways = [
        way
        for way in (swapped, hit, word[:at] + word[at + 1 :])
        if way != word and len(words_in(way)) == len(words_in(word))  # a Chinese sign is a word
    ]
    return ways[int(draws.integers(len(ways)))] if ways else word


def cut_short(text: str) -> str:
    """The first half of a text's words and signs, at least one."""
    words = words_in(text)
    return text[: words[max(1, len(words) // 2) - 1][1]] if words else text


WAYS: Final[Mapping[str, Mapping[str, Callable[[str], str]]]] = {
    "typos": {"typos": mistyped},
    "case": {"lower case": str.lower, "upper case": str.upper},
    "truncation": {"half the words": cut_short},
}
"""Of each kind of damage the ways in which it is done; the worst one counts."""
