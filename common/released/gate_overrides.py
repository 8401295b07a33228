"""`overrides.json` beside a privacy card: who let the adapter into use without its release gate.

A registry writes it into every folder that leaves it, from the log of its moves; the card's own
bytes are signed and stay. A folder that no registry handed out has none.

Invariant: whoever shows the card shows these lines, for as long as the file lies there.

Example:
    >>> Override(time="2026-11-30T08:00:00Z", by="B. Chief", reason="election night").sentence
    'Put into production without its release gate by B. Chief on 2026-11-30: election night'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from presspool.common.base.errors import FolderError
from presspool.common.base.files import read_most, replace_file
from presspool.common.base.foreign_text import one_line
from presspool.common.base.validation import StrictDocument

OVERRIDES: Final = "overrides.json"
_MOST = 1 << 20
_Said = Annotated[str, Field(min_length=1, max_length=2000)]


class Override(StrictDocument):
    """One of them.

    Attributes:
        time: UTC.
        by: who answers for it.
        reason: why.
    """

    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z")]
    by: _Said
    reason: _Said

    @property
    def sentence(self) -> str:
        """What is printed with the card."""
        who, why = one_line(self.by), one_line(self.reason)
        return f"Put into production without its release gate by {who} on {self.time[:10]}: {why}"


class _Overrides(StrictDocument):
    format: Literal["presspool-overrides/1"] = "presspool-overrides/1"
    overrides: Annotated[tuple[Override, ...], Field(min_length=1, max_length=1000)]


def write_overrides(adapter: Path, overrides: Sequence[Override]) -> None:
    """Put them beside the card, where there are any."""
    if overrides:
        said = _Overrides(overrides=tuple(overrides))
        replace_file(adapter / OVERRIDES, said.model_dump_json(indent=1).encode() + b"\n")


def read_overrides(adapter: Path) -> tuple[str, ...]:
    """What must be said with the card of an adapter's folder, a sentence each.

    Raises:
        FolderError: the file is damaged: what it said must not be lost silently.
    """
    path = adapter / OVERRIDES
    try:
        said = _Overrides.model_validate_json(read_most(path, _MOST))
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError, RecursionError):
        raise FolderError(
            "cannot be read",
            where=str(path),
            expected="presspool-overrides/1",
            advice="get the adapter's folder from its registry again",
        ) from None
    return tuple(one.sentence for one in said.overrides)
