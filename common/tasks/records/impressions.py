r"""From a record of the task `recommendation` to its titles and clicks, and what is wrong with it.

A record is one impression of a reader: the titles clicked before, oldest first, those shown now,
and for each of these 1 where it was clicked, else 0. Each column is a list; in CSV it stands as
JSON, and clicks also with white space between.

Invariant: a record is judged alone, and a reason never quotes it.

Example:
    >>> fault('["Cup final"]', '["Derby won", "Rates rise"]', "1 0") is None
    True
    >>> fault("[]", '["Derby won", "Rates rise"]', "[0, 0]")
    'candidates without a click'
    >>> read('["Cup final"]', '["Derby won", "Rates rise"]', "[1,0]")
    Impression(history=['Cup final'], candidates=['Derby won', 'Rates rise'], clicks=[1, 0])
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from presspool.common.tasks.records.tagged_words import listed

ASKED = ("history", "candidates")
COLUMNS = (*ASKED, "clicks")
NO_TITLES = {
    "history": "history that is no list of titles",
    "candidates": "candidates that are no list of titles",
}
NO_CLICKS = "clicks that are no list of 0 and 1"


class Impression(NamedTuple):
    """What one reader was shown once.

    Attributes:
        history: titles clicked before, oldest first.
        candidates: titles shown.
        clicks: of each candidate 1 where it was clicked, else 0; empty where nobody says.
    """

    history: list[str]
    candidates: list[str]
    clicks: list[int]


def read(history: str, candidates: str, clicks: str = "[]") -> Impression:
    """A good record's."""
    return Impression(json.loads(history), json.loads(candidates), clicks_in(clicks) or [])


def clicks_in(said: str) -> list[int] | None:
    """Zeros and ones, also as digits; None where a value is no list of them."""
    found = listed(said) if said.lstrip().startswith("[") else said.split()
    if found is None or not all(_is_bit(value) for value in found):
        return None
    return [int(value) for value in found]


def _is_bit(value: Any) -> bool:
    return not isinstance(value, bool | float) and value in (0, 1, "0", "1")


def fault_of_titles(said: str, name: str) -> str | None:
    """Why nothing can be made of a list of titles, or None; "history" may be an empty list."""
    if not said.strip():
        return f"{name} without text"
    titles = listed(said)
    if titles is None or not all(isinstance(title, str) for title in titles):
        return NO_TITLES[name]
    if not titles and name == "candidates":
        return "no candidates"
    return next((why for title in titles if (why := _fault_of_title(title, name))), None)


def _fault_of_title(title: str, name: str) -> str | None:
    if "\0" in title:
        return f"NUL in {name}"
    if not title.strip():
        return f"{name} with a title without text"
    try:
        title.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell, has no bytes
        return f"half a character in {name}"
    return None


def fault_of_asked(history: str, candidates: str) -> str | None:
    """Why candidates cannot be ranked, or None."""
    return fault_of_titles(history, "history") or fault_of_titles(candidates, "candidates")


def fault(history: str, candidates: str, clicks: str) -> str | None:
    """Why an impression cannot be learned from, or None."""
    if why := fault_of_asked(history, candidates):
        return why
    said = clicks_in(clicks)
    if said is None:
        return NO_CLICKS
    if len(said) != len(listed(candidates) or ()):
        return "another number of clicks than of candidates"
    if 1 not in said:
        return "candidates without a click"
    return None if 0 in said else "candidates that were all clicked"
