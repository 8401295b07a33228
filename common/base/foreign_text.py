r"""Text that came from others, as it may be shown: what a terminal would obey is spelt out.

Contracts, names, notes and errors hold words of a coordinator, a peer or a data file. A terminal
obeys control characters (it moves the cursor, rewrites lines, sets its title), and a reader's eye
obeys marks that reorder or hide letters. Both are shown as JSON's escapes, which JSON reads back.

Example:
    >>> print(visible("fine\x1b[2Jgone \u202e!"))
    fine\u001b[2Jgone \u202e!
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

_ORDERS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # of Unicode's bidi


def visible(text: str) -> str:
    """The text with everything spelt out that is not seen as it stands, but for line ends."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or _is_seen(c) else json.dumps(c)[1:-1] for c in text)


def one_line(value: object) -> str:
    """A value among words of ours on one line, where a line end of its own could pass for ours."""
    return visible(str(value)).replace("\n", "\\n")


def indented(text: str, by: int) -> str:
    """The text with its further lines moved in, so that none passes for a line of ours."""
    return text.replace("\n", "\n" + " " * by)


def commands_in(value: Any, key: str = "") -> Iterator[str]:
    r"""Keys of a document's strings, and of its names, that hold what no name needs to hold.

    Example:
        >>> list(commands_in({"task": {"labels": ["a", "b\x07"]}}))
        ['task.labels']
    """
    if isinstance(value, str):
        if any(_is_command(c) for c in value):
            yield key
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            place = f"{key}.{name}" if key else name
            yield from commands_in(name, place)
            yield from commands_in(inner, place)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from commands_in(inner, key)


def _is_seen(c: str) -> bool:
    return c.isprintable() or unicodedata.category(c) == "Zs"


def _is_command(c: str) -> bool:
    reorders = unicodedata.bidirectional(c) in _ORDERS
    return reorders or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
