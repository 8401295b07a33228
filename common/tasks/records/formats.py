"""Which of a task's several forms of records a file has, where there is no run to say so.

Example:
    >>> one_format("generation", {"text": ("text",), "prompt": ("prompt", "answer")}, ["text"])
    ('text',)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from presspool.common.base.errors import InputError


def one_format(
    kind: str, formats: Mapping[str, tuple[str, ...]], there: Collection[str]
) -> tuple[str, ...]:
    """The columns of the one format of a task that a file has; as `Task.columns_in`.

    Args:
        kind: the task's name.
        formats: each format's columns.
        there: the file's.

    Raises:
        InputError: it has those of none or of several.
    """
    found = [columns for columns in formats.values() if set(columns) <= set(there)]
    if len(found) == 1:
        return found[0]
    known = {column for columns in formats.values() for column in columns}
    said = "; ".join(", ".join(columns) for columns in formats.values())
    raise InputError(
        f"columns of a file for {kind}",
        expected=f"those of one format: {said}",
        got=", ".join(sorted(set(there) & known)) or "none of them",
        advice="map the columns of one format, and of no other",
    )
