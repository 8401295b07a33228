"""What `[care]` does to the records that an import has judged good, a batch at a time.

In this order: records that their own reader has already are left out, then personal data is
replaced, then the day is evened out. So what is left out depends on what a reader really wrote.
Copies for readers who have few records come last, of the records as they are written.

Invariants:
    * A record is left out for what it is itself, or for its own reader's earlier ones.
    * A copy is its record's own reader's, and is made of that reader's records alone.
    * A day that is none is empty; the record stays. Days serve counts over time alone.

Example:
    >>> care = ImportCare(CareTable(duplicates="exact"), ["reader", "text", "label"])
    >>> rows = [pa.array(["ann", "ann"]), pa.array(["Gold", "Gold"]), pa.array(["sport", "sport"])]
    >>> [column.to_pylist() for column in care.tended(rows, np.array([True, True]), Tally())]
    [['ann'], ['Gold'], ['sport']]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from presspool.client.data.care.own_copies import OwnCopies, require_columns_of_copies
from presspool.client.data.care.own_repeats import OwnRepeats
from presspool.client.data.care.redaction import COLUMNS, redactor_of
from presspool.client.identity.care_table import CareTable
from presspool.common.base.errors import InputError
from presspool.common.data.column_text import Mask
from presspool.common.data.decoders import Tally
from presspool.common.data.personal_data import Redacted
from presspool.common.tasks.records.adverts import CONTEXT

DAY = "day"  # the snapshot's column of days
REPEATED = "record that its reader has already"
_NO_TEXTS = ("label", DAY)
_SAID = ("label", "clicked", *CONTEXT, "clicks", "tags", "spans")  # the same to the letter
COPY_BATCH = 4096  # copies that are Python strings at one time
UNREDACTED = "text that could not be redacted"


class ImportCare:
    """The care for one reading of a source.

    Args:
        care: the operator's table.
        names: the snapshot's columns; the first is the reader's.
        home: the folder from which the table's files are named.

    Raises:
        InputError: redaction of a column that is no plain text, or copies of other records than
            labelled texts; others as `redactor_of` and `OwnCopies`.
    """

    def __init__(self, care: CareTable, names: Sequence[str], home: Path = Path()) -> None:
        self._care, self._names = care, list(names)
        self._own = OwnRepeats(care.duplicates)
        if care.redact and not {*names[1:]} <= {*COLUMNS, *_NO_TEXTS}:
            raise InputError(
                "columns that redaction would leave as they are, or tags that it would move",
                where="outlet.toml [care] redact",
                expected="columns of plain text: " + ", ".join(COLUMNS),
                got=", ".join(names),
                advice="redact before the data gets here, and leave the line out",
            )
        self._redactor = redactor_of(care) if care.redact else None
        self.redacted, self.copied = Counter[str](), Counter[str]()
        self._copies: OwnCopies | None = None
        if care.augment is not None:
            require_columns_of_copies([name for name in names[1:] if name != DAY])
            self._copies = OwnCopies(care.augment, home)

    def tended(self, columns: Sequence[pa.Array], keep: Mask, tally: Tally) -> list[pa.Array]:
        """The columns of the records that are written, as they are written.

        Args:
            columns: all records of a batch, (rows,) each.
            keep: those that are good, (rows,); whatever else is left out is cleared in it.
            tally: told of what is left out.
        """
        if self._care.duplicates != "keep":
            self._drop_repeats(columns, keep, tally)
        made = dict(zip(self._names, columns, strict=True))
        if self._redactor is not None:
            for name in set(COLUMNS).intersection(made):
                made[name] = self._redact(name, made[name], keep, tally)
        kept = {name: values.filter(pa.array(keep)) for name, values in made.items()}
        if DAY in kept and self._care.day is not None:
            days = [day_of(text) for text in kept[DAY].to_pylist()]
            kept[DAY] = pa.array(days, pa.large_string())
        if self._copies is not None:
            noted = (kept[name].to_pylist() for name in (self._names[0], "text", "label"))
            for reader, text, label in zip(*noted, strict=True):
                self._copies.note(reader, text or "", label or "")
        return list(kept.values())

    def copies(self) -> Iterator[list[pa.Array]]:
        """The columns of the copies, a batch at a time, once all records are tended."""
        made = iter(()) if self._copies is None else self._copies.made()
        while batch := list(islice(made, COPY_BATCH)):
            self.copied.update(copy.how for copy in batch)
            said = {
                self._names[0]: [copy.reader for copy in batch],
                "text": [copy.text for copy in batch],
                "label": [copy.label for copy in batch],
                DAY: [""] * len(batch),
            }
            yield [pa.array(said[name], pa.large_string()) for name in self._names]

    def _drop_repeats(self, columns: Sequence[pa.Array], keep: Mask, tally: Tally) -> None:
        hit = np.zeros(len(keep), np.bool_)
        values = dict(zip(self._names, (column.to_pylist() for column in columns), strict=True))
        said = [values[n] for n in self._names[1:] if n in _SAID]
        told = [values[n] for n in self._names[1:] if n not in (*_SAID, DAY)]
        for row in np.flatnonzero(keep).tolist():
            text, label = ("\0".join(c[row] or "" for c in part) for part in (told, said))
            hit[row] = self._own.repeats(values[self._names[0]][row], text, label)
        tally.drop(REPEATED, hit)
        keep &= ~hit

    def _redact(self, name: str, texts: pa.Array, keep: Mask, tally: Tally) -> pa.Array:
        assert self._redactor is not None  # asked only then
        judge = self._redactor.chat if name == "messages" else self._redactor.redacted
        found: list[Redacted | None] = [
            judge(text or "") if good else None
            for text, good in zip(texts.to_pylist(), keep, strict=True)
        ]
        failed = keep & np.array([each is None for each in found], np.bool_)
        tally.drop(UNREDACTED, failed)
        keep &= ~failed
        self.redacted.update(kind for each in found if each for kind in each.kinds)
        return pa.array([each.text if each else None for each in found], pa.large_string())


def day_of(text: str | None) -> str:
    """The day, as "2026-01-31", that a text begins with; "" where it begins with none.

    Example:
        >>> day_of("2026-01-31T08:00:00Z"), day_of("2026-02-31"), day_of(None)
        ('2026-01-31', '', '')
    """
    head = (text or "").strip()[:10]
    try:
        return date.fromisoformat(head).isoformat() if len(head) == 10 else ""
    except ValueError:
        return ""
