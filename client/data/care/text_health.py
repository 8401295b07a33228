"""Which scripts texts are written in, which look broken, and whether a base model knows them.

Invariants:
    * Counts for the operator's screen; nothing here changes or leaves out a record.
    * Each text is looked at alone.

A text is *garbled* where characters stand in it that UTF-8 becomes when it is read as Windows-1252
(`Ã©` for `é`). Windows-1252 is tried alone: it is what nearly all such accidents are.

Example:
    >>> found = text_health(pa.array(["Gold für alle", "金牌", "CafÃ©", "a\ufffdb"]))
    >>> found.scripts
    {'Latin': 3, 'Han': 1}
    >>> found.garbled, found.replaced
    (1, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

BATCH = 4096  # texts that are Python strings at one time
MOSTLY = 0.5  # share of unknown tokens from which a base model is the wrong one
_SCRIPTS = (
    "Latin Han Hiragana Katakana Hangul Cyrillic Greek Arabic Hebrew Devanagari Bengali Tamil "
    "Telugu Gujarati Gurmukhi Kannada Malayalam Sinhala Thai Lao Khmer Myanmar Tibetan Georgian "
    "Armenian Ethiopic Mongolian"
)
SCRIPTS = _SCRIPTS.split()
REPLACED = "\ufffd"

Unknown = Callable[[list[str]], tuple[int, int]]
"""From texts to their unknown tokens, and to all their tokens."""

# What Windows-1252 shows for the bytes 80 to BF, which go on a character in UTF-8.
_REST = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(0x80, 0xC0))
_REST_CLASS = "[" + "".join(f"\\x{{{ord(c):x}}}" for c in _REST) + "]"
# Of the two-byte leads only those that begin Latin-1's, Greek's, Cyrillic's, Hebrew's and Arabic's
# letters: `É…` and its like stand in real texts.
_GARBLED = f"(?:[ÂÃÎÏÐÑ×ØÙ]{_REST_CLASS}|[à-ï]{_REST_CLASS}{{2}}|ð{_REST_CLASS}{{3}})"


@dataclass(frozen=True, kw_only=True)
class TextHealth:
    """What was found in some texts.

    Attributes:
        scripts: script to texts that hold a letter of it, the commonest first.
        other: texts that hold letters, but none of a script known here.
        garbled: texts that look as if their encoding had been mistaken.
        replaced: texts with a replacement character: something was lost before.
        nul: texts with the character 0, which says nothing and is often a broken export's.
        unknown: unknown tokens, and
        tokens: all tokens, by the run's base model; None without one, or where it has no such.
    """

    scripts: Mapping[str, int]
    other: int
    garbled: int
    replaced: int
    nul: int = 0
    unknown: int | None = None
    tokens: int | None = None

    @property
    def unknown_share(self) -> float | None:
        """The share of unknown tokens, if it is known."""
        return None if self.unknown is None else self.unknown / max(1, self.tokens or 0)

    @property
    def strange(self) -> bool:
        """Whether the base model does not know most of the texts."""
        return (self.unknown_share or 0.0) >= MOSTLY


def text_health(texts: pa.Array, unknown: Unknown | None = None) -> TextHealth:
    """Look at texts.

    Args:
        texts: (n,), `large_string` without nulls.
        unknown: of the run's base model, if it has an unknown token.
    """
    holds = {name: pc.match_substring_regex(texts, rf"\p{{{name}}}") for name in SCRIPTS}
    counts = {name: _count(mask) for name, mask in holds.items()}
    known = "".join(rf"\p{{{name}}}" for name in SCRIPTS)
    letters = pc.match_substring_regex(texts, r"\p{L}")
    some = pc.match_substring_regex(texts, f"[{known}]")
    missed, tokens = (None, None) if unknown is None else _unknown(texts, unknown)
    return TextHealth(
        scripts=dict(sorted(((n, c) for n, c in counts.items() if c), key=lambda pair: -pair[1])),
        other=_count(pc.and_not(letters, some)),
        garbled=_count(pc.match_substring_regex(texts, _GARBLED)),
        replaced=_count(pc.match_substring(texts, REPLACED)),
        nul=_count(pc.match_substring_regex(texts, r"\x00")),
        unknown=missed,
        tokens=tokens,
    )


def unknown_of(tokenizer: Any) -> Unknown | None:
    """How a tokenizer counts what it does not know; None for one that knows every byte."""
    mark = tokenizer.unk_token_id
    if mark is None or mark == tokenizer.eos_token_id:  # GPT-like: the mark is never made
        return None

    def counted(texts: list[str]) -> tuple[int, int]:
        rows = tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)
        ids = rows["input_ids"]
        return sum(row.count(mark) for row in ids), sum(map(len, ids))

    return counted


def _unknown(texts: pa.Array, unknown: Unknown) -> tuple[int, int]:
    batches = (texts[at : at + BATCH].to_pylist() for at in range(0, len(texts), BATCH))
    missed, tokens = zip(*map(unknown, batches), strict=True)
    return sum(missed), sum(tokens)


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
