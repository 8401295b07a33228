r"""Other ways to say a text: the operator's own, another word for one in it, or a slip of the keys.

`Substitutes` are read from a file of the operator's, a line each, its parts divided by tabs: what
is there, then whatever may take its place. For words these are synonyms; for whole texts they are
paraphrases, such as a translation there and back that the operator's own programme has made.

Invariants:
    * The copies of a text depend on that text and the operator's files alone: no chance, no other
      record. The same text has the same copies everywhere.
    * Nothing is asked of a network, and no placeholder of a redaction is touched.

Slips are made in words of letters that have a capital form: in Han or Arabic they would be other
words.

Example:
    >>> list(text_copies("Gold rises", synonyms={"gold": ("bullion",)}))
    [Copied(text='Bullion rises', how='synonym')]
    >>> [copy.how for copy in text_copies("Gold rises", typos=True)]
    ['typo']
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from presspool.common.base.errors import InputError
from presspool.common.data.csv_lines import RECORD_BYTES

How = Literal["paraphrase", "synonym", "typo"]
Substitutes = Mapping[str, Sequence[str]]

MOST_BYTES = 256 << 20  # of a file of substitutes
_PLACEHOLDER = r"<[A-Z][A-Z0-9_]*>"
_WORD = re.compile(rf"{_PLACEHOLDER}|[^\W\d_]+")
_SLIPPED = 4  # letters from which a word may have a slip


@dataclass(frozen=True)
class Copied:
    """A copy of a text, and how it was made."""

    text: str
    how: How


def text_copies(
    text: str,
    *,
    paraphrases: Substitutes | None = None,
    synonyms: Substitutes | None = None,
    typos: bool = False,
) -> Iterator[Copied]:
    """The copies of a text: its paraphrases, then one with a synonym, then one with a slip.

    One that would be longer than a record may be is none: no run could read it.

    Args:
        text: a record's.
        paraphrases: whole text to others.
        synonyms: word in lower case to others.
        typos: whether there is one with a slip.
    """
    for other in (paraphrases or {}).get(text, ()):
        yield Copied(other, "paraphrase")
    if synonyms and (made := _with_synonym(text, synonyms)) is not None and _fits(made):
        yield Copied(made, "synonym")
    if typos and (made := _with_slip(text)) is not None and _fits(made):
        yield Copied(made, "typo")


def read_substitutes(path: Path, *, where: str, words: bool = False) -> Substitutes:
    """Read the operator's file.

    Args:
        path: UTF-8, "what is there<TAB>what may take its place<TAB>..." a line.
        where: the key that names it.
        words: what is there are words, whose case does not matter.

    Raises:
        InputError: it cannot be read, is too large, or a line is none, with its number.
    """
    found = dict[str, tuple[str, ...]]()
    for number, line in enumerate(_text(path, where).split("\n"), start=1):
        if not (line := line.removesuffix("\r")):
            continue
        what, *others = (part.strip() if words else part for part in line.split("\t"))
        if why := _fault(what, others, found, words=words):
            _refuse(path, where, f"line {number}: {why}")
        found[what.casefold() if words else what] = tuple(dict.fromkeys(others))
    return found


def _text(path: Path, where: str) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            _refuse(path, where, f"more than {MOST_BYTES:,} bytes")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(path, where, f"cannot be read as UTF-8 ({type(error).__name__})")


def _fits(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) <= RECORD_BYTES


def _fault(what: str, others: Sequence[str], found: Substitutes, *, words: bool) -> str:
    """Why a line is none, or ""."""
    if not others:
        return "nothing behind a tab"
    if not all(part.strip() for part in (what, *others)):
        return "an empty part"
    if any("\0" in part or not _fits(part) for part in (what, *others)):
        return f"a NUL, or more than {RECORD_BYTES:,} bytes"
    if words and (what[0] == "<" or not _WORD.fullmatch(what)):
        return "not one word of letters"  # before its case goes: "İ" has two signs then
    key = what.casefold() if words else what
    return "what an earlier line has already" if key in found else ""


def _refuse(path: Path, where: str, why: str) -> NoReturn:
    raise InputError(
        "not a file of substitutes",
        where=f"{where}: {path}",
        expected="lines of what is there, a tab, and what may take its place, in UTF-8",
        got=why,
    )


def _with_synonym(text: str, synonyms: Substitutes) -> str | None:
    places = [m for m in _WORD.finditer(text) if m[0].casefold() in synonyms]
    if not places:
        return None
    place = places[_drawn("word", text, len(places))]
    others = synonyms[place[0].casefold()]
    other = others[_drawn("synonym", text, len(others))]
    if place[0][0].isupper():
        other = other[0].upper() + other[1:]
    return text[: place.start()] + other + text[place.end() :]


def _with_slip(text: str) -> str | None:
    """With two letters swapped, one left out or one doubled, inside one word."""
    places = [m for m in _WORD.finditer(text) if len(m[0]) >= _SLIPPED and _typed(m[0])]
    if not places:
        return None
    place = places[_drawn("word", text, len(places))]
    word, at = place[0], 1 + _drawn("letter", text, len(place[0]) - 2)
    slips = [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]]
    if at + 2 < len(word) and word[at] != word[at + 1]:
        slips.append(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    slip = slips[_drawn("slip", text, len(slips))]
    return text[: place.start()] + slip + text[place.end() :]


def _typed(word: str) -> bool:
    return word[0] != "<" and all(letter.lower() != letter.upper() for letter in word)


def _drawn(what: str, text: str, most: int) -> int:
    """A number below `most` that is the text's own."""
    digest = hashlib.sha256(f"{what}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % most
