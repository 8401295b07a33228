"""What `[care] redact` would do to a file: some texts before and after, and how many of which kind.

Invariant: only read; what is shown are readers' texts, for the operator's screen alone.

Example: ``preview(path, columns=Columns(), names=["text"], care=care, rows=5).kinds``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from presspool.client.data.care.redaction import COLUMNS, redactor_of
from presspool.client.identity.care_table import CareTable
from presspool.common.base.errors import InputError
from presspool.common.data.decoders import Tally
from presspool.common.data.records import Source
from presspool.common.data.table_refusals import require_columns
from presspool.common.data.tables import Columns, batches

MOST_LOOKED_AT = 1000  # records


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What was found in the first records of a file.

    Attributes:
        looked_at: texts.
        changed: those of them in which something was found.
        failed: those over which the finder failed; an import leaves such records out.
        kinds: kind of personal data to how often it was found.
        shown: some of the changed texts, before and after.
    """

    looked_at: int
    changed: int
    failed: int
    kinds: Mapping[str, int]
    shown: Sequence[tuple[str, str]]


def preview(
    source: Source, *, columns: Columns, names: Sequence[str], care: CareTable, rows: int
) -> Preview:
    """Look at the first `MOST_LOOKED_AT` records.

    Args:
        source: the readers' data.
        columns: how its columns are called.
        names: the task's columns in it.
        care: what is looked for.
        rows: how many changed texts are kept.

    Raises:
        InputError: nothing to look for, no column of plain text; others as `redactor_of`.
        DataError: the source cannot be read.
    """
    read = {n: column for n, column in columns.of(names).items() if n in COLUMNS}
    if not care.redact or not read:
        raise InputError(
            "nothing to redact",
            where="outlet.toml [care] redact",
            expected='kinds, as in redact = ["EMAIL_ADDRESS"], and a column of plain text',
            got=", ".join(care.redact) or "no kinds",
        )
    require_columns(source, list(read.values()))
    redactor, kinds, shown = redactor_of(care), Counter[str](), list[tuple[str, str]]()
    looked_at = changed = failed = 0
    for name, text in _texts(source, read):
        looked_at += 1
        found = redactor.chat(text) if name == "messages" else redactor.redacted(text)
        if found is None:
            failed += 1
        elif found.kinds:
            changed += 1
            kinds.update(found.kinds)
            shown += [(text, found.text)] if len(shown) < rows else []
    return Preview(
        looked_at=looked_at,
        changed=changed,
        failed=failed,
        kinds=dict(kinds.most_common()),
        shown=shown,
    )


def _texts(source: Source, read: Mapping[str, str]) -> list[tuple[str, str]]:
    """The texts of the first records, each with its column's name."""
    first = islice(batches(source, list(read.values()), Tally()), 1)
    return [
        (name, text)
        for batch in first
        for name, (values, _) in zip(read, batch, strict=True)
        for text in values[:MOST_LOOKED_AT].to_pylist()
        if text
    ]
