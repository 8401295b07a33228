r"""From a record of the task `tagging` to its words and their tags, and what is wrong with it.

Two forms come down to the same: tokens that an outlet has cut itself, each with a BIO tag (B-
begins an entity, I- goes on with it, O is none); and a text with spans, from a first character to
one behind the last. A list stands in its column as JSON, or with white space between its parts.

Invariants:
    * A record is judged alone, and a reason never quotes it.
    * Characters are Unicode code points, as Python, JSON and the tokenizers count them.
    * Where each entity begins is said once: an I- tag that goes on with nothing is read as a B-
      tag, as the older notation IOB1 has it and as seqeval counts.

Example:
    >>> read('["Angela", "Merkel", "spoke"]', "tokens")
    ('Angela Merkel spoke', [(0, 6), (7, 13), (14, 19)])
    >>> entities(["I-PER", "I-PER", "O"])
    [('PER', 0, 2)]
    >>> tags_of(words_in("Merkel-led talks"), [Span(0, 6, "PER")])
    ['B-PER', 'O', 'O', 'O']
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

OUTSIDE = "O"
Words = list[tuple[int, int]]
"""Of each word the first character, and the one behind the last."""

NO_TOKENS = "tokens that are no list of texts"
NO_TAGS = "tags that are no list of texts"
NO_SPANS = "spans that are no list of {start, end, type}"
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JOINERS = "\u200c\u200d"


class Span(NamedTuple):
    """An entity in a text.

    Attributes:
        start: its first character, from 0.
        end: the one behind its last.
        type: of the contract's labels.
    """

    start: int
    end: int
    type: str


def listed(said: str) -> list[Any] | None:
    """The parts of a JSON list; None where a value is none."""
    if not said.lstrip().startswith("["):
        return None
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def parts_of(said: str) -> list[str] | None:
    """Tokens or tags, without white space around them; None where a list holds something else."""
    found = listed(said)
    if found is None:
        return said.split()
    return [part.strip() for part in found] if all(isinstance(p, str) for p in found) else None


def kept(parts: Sequence[str]) -> str:
    """Tokens or tags as a parsed record has them."""
    return json.dumps(list(parts), ensure_ascii=False, separators=(",", ":"))


def read(said: str, name: str) -> tuple[str, Words]:
    """What the model reads of a column, and its words: a list's tokens with one space between.

    Args:
        said: the value.
        name: of the column; in "tokens" a text that is no list is cut into words as one in "text".
    """
    tokens = parts_of(said) if name == "tokens" and listed(said) is not None else None
    if tokens is None:
        return said, words_in(said)
    text = " ".join(tokens)
    return text, [match.span() for match in re.finditer(r"\S+", text)]


def words_in(text: str) -> Words:
    """A text's words, and its signs one by one; white space is in none."""
    return [match.span() for match in _word().finditer(text)]


@lru_cache
def _word() -> re.Pattern[str]:
    """A run of letters and digits with their marks, one Chinese or Japanese sign, or another."""
    marks = (sign for sign in map(chr, range(0x10000)) if unicodedata.category(sign)[0] == "M")
    inside = _JOINERS + "".join(map(re.escape, marks))
    return re.compile(rf"[{_CJK}]|(?:[^\W{_CJK}]|[{inside}])+|[^\w\s]")


# --- Tags -----------------------------------------------------------------------------------------


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first word, and the one behind the last, of each entity in a record's BIO tags."""
    found: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        mark, _, kind = tag.partition("-")
        if tag == OUTSIDE:
            continue
        if mark == "I" and found and found[-1][0] == kind and found[-1][2] == place:
            found[-1] = (kind, found[-1][1], place + 1)
        else:
            found.append((kind, place, place + 1))
    return found


def tags_of(words: Words, spans: Sequence[Span]) -> list[str] | None:
    """A tag for each word: one that has some of a span is in it.

    None where a word has some of two spans, or a span has no word.
    """
    tags = [OUTSIDE] * len(words)
    for span in spans:
        inside = [
            i for i, (start, end) in enumerate(words) if start < span.end and span.start < end
        ]
        if not inside or any(tags[i] != OUTSIDE for i in inside):
            return None
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.type}"
    return tags


def begun(tags: Sequence[str]) -> list[str]:
    """The same entities, each with a B- tag where it begins."""
    whole = [OUTSIDE] * len(tags)
    for kind, first, end in entities(tags):
        whole[first:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - first - 1)]
    return whole


def named(said: str, name: str) -> list[str]:
    """The tags that stand in a column "tags", or the types in a column "spans"; none if damaged."""
    if name == "tags":
        return parts_of(said) or []
    return [span.type for span in spans_of(said) or ()]


def tags_in(given: str, said: str, name: str) -> list[str] | None:
    """A tag for each word of a good record, whose second column is "tags" or "spans"."""
    if name == "tags":
        return begun(parts_of(said) or ())
    return tags_of(words_in(given), spans_of(said) or ())


def spans_of(said: str) -> list[Span] | None:
    """A record's spans by their beginning; None where the value is no list of them."""
    found = [_span(part) for part in listed(said) or ()]
    if listed(said) is None or None in found:
        return None
    return sorted(span for span in found if span is not None)


def _span(part: Any) -> Span | None:
    """One of them; other keys are left alone. Digits are what JSON lines make of numbers."""
    if not isinstance(part, dict):
        return None
    places, kind = [_place(part.get(key)) for key in ("start", "end")], part.get("type")
    if None in places or not isinstance(kind, str):
        return None
    return Span(places[0] or 0, places[1] or 0, kind.strip())


def _place(said: object) -> int | None:
    if isinstance(said, int) and not isinstance(said, bool):
        return said
    return int(said) if isinstance(said, str) and re.fullmatch(r"-?[0-9]{1,9}", said) else None


# --- What is wrong --------------------------------------------------------------------------------


def fault_of_asked(said: str, name: str) -> str | None:
    """Why nothing can be said of a text or of tokens, or None; arguments as for `read`."""
    if name == "tokens" and parts_of(said) is None:
        return NO_TOKENS
    text, _ = read(said, name)
    if "\0" in text:
        return f"NUL in {name}"
    if not text.strip():
        return f"empty {name}"
    if (
        name == "tokens"
        and listed(said) is not None
        and not all(map(_is_token, parts_of(said) or ()))
    ):
        return "token that is empty or has white space in it"
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell, has no bytes
        return f"half a character in {name}"
    return None


def _is_token(token: str) -> bool:
    return token.split() == [token]


def fault_of_tags(tokens: str, tags: str) -> str | None:
    """Why tokens and tags cannot be learned from, or None."""
    if fault := fault_of_asked(tokens, "tokens"):
        return fault
    cut, said = parts_of(tokens), parts_of(tags)
    if said is None:
        return NO_TAGS
    return None if len(cut or ()) == len(said) else "another number of tags than of tokens"


def fault_of_spans(text: str, said: str) -> str | None:
    """Why a text and its spans cannot be learned from, or None."""
    if fault := fault_of_asked(text, "text"):
        return fault
    spans = spans_of(said)
    if spans is None:
        return NO_SPANS
    if not all(0 <= span.start < span.end <= len(text) for span in spans):
        return "span that is empty or outside its text"
    if tags_of(words_in(text), spans) is None:
        return "spans that overlap or share a word, or one without a word"
    return None
