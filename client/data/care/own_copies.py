"""More records of readers who have few: copies of their own texts in other words.

Invariants:
    * What a reader gets depends on that reader's records and the operator's files alone, and is
      filed under that reader. So a reader's records, copies and all, are one unit still: a step
      clips their gradient as a whole, and one reader more or less moves nobody else's records.
    * No copy brings a reader above the cap. Who has as many records as that gets none; no record
      makes room for a copy.
    * A copy says nothing that its reader has said already, and it has no day: counts over time
      count what readers wrote.
    * Memory is bounded by the cap: of a reader who reaches it nothing is held.

Example:
    >>> own = OwnCopies(AugmentTable(most_records=2, typos=True))
    >>> for who, text in [("ann", "Gold rises"), ("bob", "Rain"), ("bob", "Snow")]:
    ...     own.note(who, text, "news")
    >>> [(copy.reader, copy.how) for copy in own.made()]
    [('ann', 'typo')]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from presspool.client.data.care.text_copies import Copied, How, read_substitutes, text_copies
from presspool.client.identity.care_table import AugmentTable
from presspool.common.base.errors import InputError

COLUMNS = ("text", "label")
WHERE = "outlet.toml [care.augment]"


@dataclass(frozen=True, kw_only=True)
class OwnCopy:
    """A record that is added for a reader, and how it was made."""

    reader: str
    text: str
    label: str
    how: How


class OwnCopies:
    """The copies of one reading of a source.

    Args:
        table: the operator's.
        home: the folder from which its files are named.

    Raises:
        InputError: a file of substitutes is none.
    """

    def __init__(self, table: AugmentTable, home: Path = Path()) -> None:
        self._table = table
        self._synonyms, self._paraphrases = (
            read_substitutes(home / file, where=f"{WHERE} {key}", words=key == "synonyms")
            if file
            else None
            for key, file in (("synonyms", table.synonyms), ("paraphrases", table.paraphrases))
        )
        self._held: dict[str, list[tuple[str, str]] | None] = {}  # None: at the cap

    def note(self, reader: str, text: str, label: str) -> None:
        """A record that is written, as it is written."""
        held = self._held.setdefault(reader, [])
        if held is not None:
            held.append((text, label))
            if len(held) >= self._table.most_records:
                self._held[reader] = None

    def made(self) -> Iterator[OwnCopy]:
        """The copies, a reader after the other, once all records are noted."""
        for reader, held in self._held.items():
            yield from self._of(reader, held or [])

    def _of(self, reader: str, held: Sequence[tuple[str, str]]) -> Iterator[OwnCopy]:
        said = {text for text, _ in held}
        room = self._table.most_records - len(held)
        copies = [list(islice(self._copied(text), self._table.copies)) for text, _ in held]
        for turn in range(self._table.copies):
            for (_, label), found in zip(held, copies, strict=True):
                if room and len(found) > turn and found[turn].text not in said:
                    said.add(found[turn].text)
                    room -= 1
                    yield OwnCopy(
                        reader=reader, text=found[turn].text, label=label, how=found[turn].how
                    )

    def _copied(self, text: str) -> Iterator[Copied]:
        return text_copies(
            text,
            paraphrases=self._paraphrases,
            synonyms=self._synonyms,
            typos=self._table.typos,
        )


def require_columns_of_copies(names: Sequence[str]) -> None:
    """Raise `InputError` for columns of which a copy would say something else than its record.

    Args:
        names: the task's columns.
    """
    if set(names) != set(COLUMNS):
        raise InputError(
            "records whose copies would be wrong: what is to be said stands in their texts",
            where=WHERE,
            expected="a text and its label: a task such as classification",
            got=", ".join(names),
            advice="leave the table out",
        )
