r"""An outlet's data set, frozen: one Parquet file beside the ledger, which rounds are trained on.

`freeze` reads the operator's own file (CSV, JSON lines, Parquet) or query once, by a person's
command, and judges each record alone. What it writes holds the ids of readers and a task's columns
as text, a row a record, in the source's order, and a `Manifest` of how it came about in the file's
own footer, so that the two can never disagree. Values that a contract does not know are left to
each run; a record that no run of the task could use is damaged as one that cannot be read.

Invariants:
    * A record is dropped for what it is itself, whatever stands beside it; where a file cannot be
      parted into records, or somebody has not agreed to drop damaged ones, nothing is written.
    * The snapshot is the old one or the whole new one, and readable by its owner alone.
    * An erased reader is in no new snapshot, whatever the source holds.
    * Nothing of a snapshot is sent or put into the ledger: a digest of the data would tell a
      stranger who knows all but one reader whether that one is there. Of a query's records the
      ledger has a commitment, whose nonce stands here alone
      (`presspool.common.ledger.frozen_data`).

Example:
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "clicks.csv").write_text("user,text,label,more\nann,Gold,sport,x\n")
    >>> made = freeze(folder / "clicks.csv", folder / SNAPSHOT, columns=Columns(reader="user"),
    ...               kept=("text", "label"))
    >>> made.records, pq.read_table(folder / SNAPSHOT).to_pylist()
    (1, [{'reader': 'ann', 'text': 'Gold', 'label': 'sport'}])
    >>> manifest_of(folder / SNAPSHOT) == made
    True
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from presspool.client.data.care.import_care import DAY, ImportCare
from presspool.client.data.query_sources import QueryRecords
from presspool.client.data.readers import UNSOUND, refuse_unsound, sound
from presspool.client.data.statements import consents, statement
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.identity.care_table import CareTable
from presspool.client.identity.data_table import DataTable
from presspool.client.identity.settings import OutletSettings
from presspool.common.base.errors import DataError
from presspool.common.base.files import file_sha256, replacing
from presspool.common.base.validation import unread
from presspool.common.data.column_text import Mask, as_mask
from presspool.common.data.decoders import Moved, Tally
from presspool.common.data.judging import Rows, faults
from presspool.common.data.records import Source
from presspool.common.data.rows_digest import RowsDigest
from presspool.common.data.table_refusals import refuse_faults, require_columns
from presspool.common.data.tables import Columns, batches, lists_in
from presspool.common.ledger.frozen_data import FOOTER, Opening

SNAPSHOT = "snapshot.parquet"  # beside the ledger
ERASED = "reader was erased"
TO_DO = "presspool outlet import"

Erased = Callable[[pa.Array], Mask]
"""From the ids of a batch, `large_string` (rows,), to which of them are an erased reader's."""


class Manifest(BaseModel):
    """How a snapshot came about; it stays true when a reader is erased from the snapshot later.

    Attributes:
        source: the file that was read, from the snapshot's folder where it lies in there; or the
            table that says where the records lie.
        sha256: of the file's bytes, or of the rows of a table, in hexadecimal.
        columns: how its columns are called.
        imported: when it was read.
        records: rows that were written.
        dropped: reason to records left out.
        lines: reason to the lines of the first of them, where the file has lines.
        opening: of the ledger's entry; None for a file, which has none.
        care: what was done to the records besides judging them.
        redacted: kind of personal data to how many of it were replaced.
        copied: how copies were made to how many; they are among the records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | DataTable
    sha256: str
    columns: Columns
    imported: AwareDatetime
    records: int
    dropped: Mapping[str, int]
    lines: Mapping[str, Sequence[int]]
    opening: Opening | None = None
    care: CareTable = CareTable()
    redacted: Mapping[str, int] = {}
    copied: Mapping[str, int] = {}


def freeze(
    source: Path | QueryRecords,
    snapshot: Path,
    *,
    columns: Columns,
    kept: Sequence[str],
    damage: Callable[[Rows], pa.Array] | None = None,
    drop_damaged: bool = False,
    erased: Erased | None = None,
    care: CareTable | None = None,
    home: Path = Path(),
    declare: Callable[[Opening], object] = lambda _opening: None,
    watch: Moved = lambda _done, _total: None,
) -> Manifest:
    """Read a source and put its snapshot in the place of an earlier one, or change nothing.

    Args:
        source: a file with one of the suffixes `tables.FORMATS`, or one of them and `.gz`; or a
            query's records.
        snapshot: where it is written.
        columns: how the source calls its columns.
        kept: the task's columns that are taken over; the source must have them.
        damage: the task's; why no run could use a record. Nothing, if not given.
        drop_damaged: leave out records that cannot be read, are nobody's or have such a damage,
            instead of refusing.
        erased: who was erased; nobody, if not given.
        care: what else is done to the records; nothing, if not given.
        home: the folder from which its files are named.
        declare: told of a query's opening before the snapshot is in its place; what it raises
            leaves the old one there.
        watch: told of the bytes of the source that are read.

    Raises:
        DataError: the source is missing, lacks a column, cannot be parted into records, holds a
            damaged one (without `drop_damaged`) or none that is left, or was changed meanwhile.
        InputError: care that cannot be taken of such columns, or here.
        StorageError: the disk refuses.
    """
    care = care or CareTable()
    names = {"reader": columns.reader, **columns.of(kept)} | ({DAY: care.day} if care.day else {})
    require_columns(source, list(names.values()))
    before, tended = _state(source), ImportCare(care, list(names), home)
    digest, written = _sha256(source), RowsDigest(list(names))
    tally, damaged, records = Tally(), dict[str, None](), 0
    with replacing(snapshot, private=True) as stream:
        with _writer(stream, list(names)) as writer:
            lists = lists_in(names)
            for rows in batches(source, list(names.values()), tally, watch, lists=lists):
                keep = _judged(rows, tally, erased)
                if damage is not None:
                    kept_rows = {n: values for n, (values, _) in zip(kept, rows[1:], strict=False)}
                    for reason, bad in faults(damage, kept_rows):
                        tally.drop(reason, keep & bad)
                        damaged |= {reason: None} if (keep & bad).any() else {}
                        keep &= ~bad
                columns_kept = tended.tended([values for values, _ in rows], keep, tally)
                records += len(columns_kept[0])
                written.add(columns_kept)
                writer.write_table(pa.table(columns_kept, names=list(names)))
            for columns_made in tended.copies():
                records += len(columns_made[0])
                written.add(columns_made)
                writer.write_table(pa.table(columns_made, names=list(names)))
            if not drop_damaged:
                _refuse_damaged(source, columns.reader, list(damaged), tally)
            _require_some(source, records, tally)
            if _state(source) != before:
                advice = "try again when nothing writes it"
                raise DataError("changed while it was read", where=str(source), advice=advice)
            manifest = Manifest(
                source=source.table
                if isinstance(source, QueryRecords)
                else _named(source, snapshot),
                sha256=digest or written.value.removeprefix("sha256:"),
                columns=columns,
                imported=datetime.now(UTC),
                records=records,
                dropped=dict(tally.dropped),
                lines=tally.lines,
                opening=_opening(source, list(names.values()), written.value),
                care=care,
                redacted=dict(tended.redacted),
                copied=dict(tended.copied),
            )
            writer.add_key_value_metadata({FOOTER: manifest.model_dump_json().encode()})
        if manifest.opening is not None:
            declare(manifest.opening)
    return manifest


def erased_in(suppression: SuppressionList) -> Erased | None:
    """Who is on a list of erased readers; None where nobody is.

    Raises:
        InputError: they cannot be told apart from the others.
    """
    excluded = suppression.excluded()
    if not excluded:
        return None

    def erased(ids: pa.Array) -> Mask:
        different = ids.dictionary_encode()
        tags = suppression.tags(different.dictionary.to_pylist())
        hit = pa.array([tag in excluded for tag in tags], pa.bool_())
        return as_mask(hit.take(different.indices).fill_null(False))

    return erased


def manifest_of(snapshot: Path) -> Manifest:
    """How a snapshot came about.

    Raises:
        DataError: there is none, or the file is something else.
    """
    try:
        said: Any = (pq.read_metadata(snapshot).metadata or {})[FOOTER]
        return Manifest.model_validate_json(said)
    except FileNotFoundError:
        what, got = "no snapshot of the readers' data", "no such file"
    except (OSError, pa.ArrowException, KeyError, ValidationError) as error:
        what, got = "not a snapshot of the readers' data", unread(error)
    raise DataError(
        what,
        where=str(snapshot),
        expected="the file that `presspool outlet import` makes of the outlet's data",
        got=got,
        advice=TO_DO,
    )


def current(snapshot: Path, settings: OutletSettings) -> Manifest:
    """How the snapshot came about that rounds are trained on.

    Raises:
        DataError: there is none, or it was made of another file, other columns or with other care
            than the settings now say.
    """
    made = manifest_of(snapshot)
    data = settings.data
    for what, was, now in (
        ("data", made.source, _named(data, snapshot) if isinstance(data, Path) else data),
        ("[columns]", dict(made.columns), dict(settings.columns)),
        ("[care]", made.care, settings.care),
    ):
        if was != now:
            raise DataError(
                f"the snapshot was made with another `{what}` than outlet.toml has now",
                where=str(snapshot),
                expected=now,
                got=was,
                advice=TO_DO,
            )
    return made


def _opening(source: Source, names: Sequence[str], digest: str) -> Opening | None:
    """What opens the ledger's entry; None for a file, of which it has none."""
    if not isinstance(source, QueryRecords):
        return None
    table = source.table
    return Opening(
        nonce=secrets.token_hex(32),
        digest=digest,
        source=table.source,
        query=statement(table, names),
        window=table.window and (table.window[0].isoformat(), table.window[1].isoformat()),
        consent=" AND ".join(f"({each})" for each in consents(table)) or None,
        most_records=table.most_records,
    )


def require_declared(made: Manifest, snapshot: Path, commitments: Set[str]) -> None:
    """Raise `DataError` for a snapshot of a table of which the ledger says nothing."""
    if made.opening is not None and made.opening.said()["commitment"] not in commitments:
        raise DataError(
            "the ledger has no entry of this snapshot",
            where=str(snapshot),
            expected="a snapshot that was made beside this ledger",
            advice=TO_DO,
        )


def _named(source: Path, snapshot: Path) -> str:
    """The source's path, from the snapshot's folder where it lies in there: both may move."""
    path, folder = source.absolute(), snapshot.absolute().parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _judged(rows: Sequence[tuple[pa.Array, Mask]], tally: Tally, erased: Erased | None) -> Mask:
    """Which records of a batch are written; the others are tallied."""
    keep = sound(rows, tally)
    if erased is not None:
        (reader, _), *_ = rows
        hit = keep & erased(reader)
        tally.drop(ERASED, hit)
        keep &= ~hit
    return keep


def _writer(stream: BinaryIO, names: Sequence[str]) -> pq.ParquetWriter:
    schema = pa.schema([(name, pa.large_string()) for name in names])
    return pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True)


def _refuse_damaged(source: Source, reader: str, damaged: Sequence[str], tally: Tally) -> None:
    """Raise `DataError` if a damaged record was met: all kinds of damage in one message."""
    kinds = [kind for kind in (*UNSOUND, *damaged) if kind in tally.dropped]
    try:
        if len(kinds) == 1:
            refuse_unsound(source, reader, tally)
        refuse_faults(source, kinds, tally)
    except DataError as error:
        advice = f"{error.advice}; or leave them all out: {TO_DO} --drop-damaged"
        raise DataError(error.what, **error.parts | {"advice": advice}) from None


def _require_some(source: Source, records: int, tally: Tally) -> None:
    if not records:
        left_out = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items())
        got = f"0; of {tally.seen} records were left out: {left_out or 'none'}"
        raise DataError("no records", where=str(source), expected="one record or more", got=got)


def _state(source: Source) -> tuple[int, int, int] | None:
    """What changes when a file does; a query has one state by itself."""
    if not isinstance(source, Path):
        return None
    found = source.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _sha256(source: Source) -> str:
    """Of a file's bytes; "" of a query, which has none."""
    return file_sha256(source) if isinstance(source, Path) else ""
