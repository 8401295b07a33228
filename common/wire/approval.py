"""The file in which a person of an outlet approves a run: for whom it may be asked later.

The outlet writes it beside its policy; a report reads it. It never leaves the outlet by itself.

Invariant: an empty file approves as well (somebody touched it); then nobody is named.

Example:
    >>> said = Approval(run="sha256:" + "0" * 64, by="A. Editor", day="2026-01-05")
    >>> Approval.decode(said.run, said.encode()) == said
    True
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date

import rfc8785

from presspool.common.runs.result_fields import shows_safely

LONGEST = 4096  # bytes of a file
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Approval:
    """That a run was approved.

    Attributes:
        run: digest of its contract.
        by: who approved, in their own words; "" where the file names nobody.
        day: ISO date, UTC; "" where the file has none.
    """

    run: str
    by: str
    day: str

    def encode(self) -> bytes:
        """The file's content."""
        return rfc8785.dumps({"by": self.by, "day": self.day}) + b"\n"

    @classmethod
    def decode(cls, run: str, data: bytes) -> Approval:
        """What a file's content says; anything that is not ours names nobody."""
        try:
            body = json.loads(data[: LONGEST + 1])
            by, day = str(body["by"]), str(body["day"])
            date.fromisoformat(day)
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls(run=run, by="", day="")
        shown = len(by) <= LONGEST_NAME and shows_safely(by)
        return cls(run=run, by=by if shown else "", day=day)
