"""Reads a `[data]` table as Arrow: PostgreSQL by ADBC; Parquet and DuckDB files by DuckDB.

Invariants:
    * Nothing is written: DuckDB opens a file read-only and may touch no other, PostgreSQL is asked
      in one READ ONLY, REPEATABLE READ transaction, so that one import sees one state.
    * Batches stream. What DuckDB sorts beyond its memory it spills into a folder for its owner
      alone, which goes with the import; what a kill leaves of it goes with the next one.
    * A message holds what a source says of the operator's statement, and never what it says of a
      record, nor a password.

Example::

    with opened(settings.data, settings.home) as source:  # a file's path, or its records
        made = freeze(source, snapshot, columns=settings.columns, kept=("text", "label"))
"""

from __future__ import annotations

import glob
import logging
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa

from presspool.client.data import statements
from presspool.client.data.presets import PRESETS
from presspool.client.identity.data_table import DataTable
from presspool.common.base.errors import DataError, InputError
from presspool.common.base.extras import from_extra
from presspool.common.data.decoders import BATCH_ROWS
from presspool.common.data.records import Records

log = logging.getLogger(__name__)

STATEMENT_SECONDS: Final = 3600  # PostgreSQL may take for one statement
CONNECT_SECONDS: Final = 20
SECONDS_BETWEEN_LINES: Final = 5.0
_SPILL: Final = ".import-"  # begins the name of DuckDB's folder beside outlet.toml
_LIMITS: Final[dict[str, Any]] = {
    "threads": 1,  # a join's step on another thread would not hear Ctrl-C before its end
    "memory_limit": "1GB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_BOOLEAN = (pa.types.is_boolean, "a predicate, true or false of each record")
_TIME = (
    lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind),
    "days or timestamps; cast what is not in the query",
)


class _Engine(Protocol):
    """What reads a source: the columns of a statement, and its rows."""

    def schema(self, sql: str) -> pa.Schema: ...

    def read(self, sql: str) -> pa.RecordBatchReader: ...


@dataclass(frozen=True)
class QueryRecords(Records):
    """The records that a `[data]` table stands for, while its source is open.

    Attributes:
        table: the operator's.
    """

    table: DataTable
    _engine: _Engine

    def __str__(self) -> str:
        """The source and its location."""
        return str(self.table)

    def column_names(self) -> list[str]:
        """Of the query, or what its preset makes of them; judges the whole table.

        Raises:
            DataError: a query that is not one SELECT, or does not fit the source; a predicate or
                a time that is none.
        """
        self._schema(statements.inner(self.table), "query")
        there = self._schema(statements.rows(self.table, "*"), "query").names
        time = statements.time_of(self.table)
        asked = [(c, _BOOLEAN, "consent") for c in statements.consents(self.table)]
        for expression, (fits, expected), key in [
            *asked,
            *([(time, _TIME, "time")] if time else []),
        ]:
            found = self._schema(statements.rows(self.table, expression), key)
            if len(found) != 1 or not fits(found.types[0]):
                got = ", ".join(map(str, found.types))
                raise DataError(key, where=f"[data] {key}", expected=expected, got=got)
        if not self.table.preset:
            return list(there)
        names = list(PRESETS[self.table.preset].columns)
        self._schema(statements.statement(self.table, names), "preset")
        return names

    def batches(self, names: Sequence[str]) -> Iterator[Sequence[pa.Array]]:
        """As `Records` says; a line now and then tells how many were read."""
        log.info("%s is asked; it sorts before the first record comes", self.table.source)
        done, said = 0, time.monotonic()
        with self._explained("query"):
            reader = self._engine.read(statements.statement(self.table, names))
        while (batch := self._next(reader)) is not None:
            yield [_plain(column) for column in batch.columns]
            done += len(batch)
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("%s: %d records so far", self.table.source, done)

    def _next(self, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
        with self._explained("query"):
            return next(reader, None)

    def _schema(self, sql: str, key: str) -> pa.Schema:
        with self._explained(key):
            return self._engine.schema(sql)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _STOPPED.search(str(error)):
                raise KeyboardInterrupt from None
            if (said := _said(error)) is None:
                raise
            raise DataError(
                f"{self.table.source} cannot answer",
                where=f"[data] {key} at {self.table.location}",
                expected="one SELECT of tables and columns that are there",
                got=said,
                advice="correct it in outlet.toml; presspool outlet doctor tries it",
            ) from None


@contextmanager
def opened(data: str | Path | DataTable, home: Path) -> Iterator[Path | QueryRecords]:
    """What an outlet's settings name: a file, or records while their source is open.

    Args:
        data: the settings'.
        home: the folder that a table's paths begin at.

    Raises:
        InputError: the extra is missing; a location or password file that is not there or is open
            to others.
        DataError: no connection.
    """
    if isinstance(data, str):
        raise InputError(
            "a URL is read by simulations alone",
            where=f"{home / 'outlet.toml'} data",
            expected="a file's path, or a table [data] for a database",
            got=data,
        )
    if isinstance(data, Path):
        yield data
        return
    connect = _postgres if data.source == "postgres" else _duckdb
    with connect(data, home) as engine:
        yield QueryRecords(data, engine)


@dataclass(frozen=True)
class _DuckDB:
    connection: Any

    def schema(self, sql: str) -> pa.Schema:
        import duckdb

        found = self.connection.extract_statements(sql)
        if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
            raise duckdb.ProgrammingError("not one SELECT")
        none = f"SELECT * FROM (\n{sql}\n) LIMIT 0"  # noqa: S608  the operator's own statement
        return self.connection.sql(none).to_arrow_table().schema

    def read(self, sql: str) -> pa.RecordBatchReader:
        return self.connection.sql(sql).to_arrow_reader(BATCH_ROWS)


@contextmanager
def _duckdb(table: DataTable, home: Path) -> Iterator[_Engine]:
    with from_extra("data", "no DuckDB here", where="[data] source"):
        import duckdb
    place = str(home / table.location)
    files = sorted(glob.glob(place)) if table.source == "parquet" else [place]  # noqa: PTH207
    if not files or not all(Path(file).is_file() for file in files):
        raise InputError(
            "nothing lies there",
            where="[data] location",
            expected="a DuckDB file" if table.source == "duckdb" else "Parquet files",
            got=table.location,
            advice="check the path; it is relative to outlet.toml",
        )
    spill = tempfile.mkdtemp(prefix=_SPILL, dir=home)
    limits = _LIMITS | {"temp_directory": spill}
    parquet = table.source == "parquet"
    try:
        with closing(duckdb.connect(":memory:" if parquet else place, not parquet, limits)) as own:
            names = "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
            if parquet:
                own.execute(f"SET allowed_paths = {names}")
            own.execute("SET enable_external_access = false")
            if parquet:
                own.execute(f"CREATE VIEW data AS FROM read_parquet({names})")
            own.execute("SET TimeZone = 'UTC'")
            own.execute("SET lock_configuration = true")
            yield _DuckDB(own)
    except duckdb.Error as error:
        raise _unreachable(table, _said(error)) from None
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def remove_spilled(home: Path) -> None:
    """Remove what killed imports left of the records that they sorted."""
    for folder in home.glob(f"{_SPILL}*"):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _PostgreSQL:
    cursor: Any

    def schema(self, sql: str) -> pa.Schema:
        return self.cursor.adbc_execute_schema(sql)

    def read(self, sql: str) -> pa.RecordBatchReader:
        self.cursor.execute(sql)
        return self.cursor.fetch_record_batch()


@contextmanager
def _postgres(table: DataTable, home: Path) -> Iterator[_Engine]:
    with from_extra("data", "no PostgreSQL driver", where="[data] source"):
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    named = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "presspool"}
    if table.password_file is not None:
        named["passfile"] = str(_private(home / table.password_file))
    try:
        connection = dbapi.connect(_with(table.location, named), autocommit=True)
    except Error as error:
        raise _unreachable(table, _said(error)) from None
    with closing(connection), closing(connection.cursor()) as cursor:
        for said in (
            f"SET statement_timeout = '{STATEMENT_SECONDS}s'",
            "SET TimeZone = 'UTC'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        ):
            cursor.execute(said)
        connection.adbc_connection.set_autocommit(False)
        yield _PostgreSQL(cursor)


def _with(location: str, named: dict[str, str]) -> str:
    """A location with more of libpq's parameters, in the form that it has."""
    from urllib.parse import quote

    if "://" in location:
        more = "&".join(f"{key}={quote(value, safe='')}" for key, value in named.items())
        return f"{location}{'&' if '?' in location else '?'}{more}"
    escaped = {k: re.sub(r"(['\\])", r"\\\1", value) for k, value in named.items()}
    return " ".join([location, *(f"{key}='{value}'" for key, value in escaped.items())])


def _private(path: Path) -> Path:
    """A password file that its owner alone can read."""
    if path.is_file() and not stat.S_IMODE(path.stat().st_mode) & 0o077:
        return path
    raise InputError(
        "a password file",
        where="[data] password_file",
        expected="a file that nobody but its owner may read (chmod 600)",
        got=f"{path} is open to others" if path.is_file() else f"no file {path}",
        advice="its lines are host:port:database:user:password, as libpq's documentation says",
    )


def _plain(column: pa.Array) -> pa.Array:
    """A source's own kinds, JSON say, as what they are stored as."""
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _unreachable(table: DataTable, said: str | None) -> DataError:
    return DataError(
        f"no way to {table.source}",
        where=f"[data] location {table.location}",
        got=said,
        advice="check location, user, password file and that the source answers",
    )


# Errors about the text of a statement, a name, a right or a connection, which quote no record.
_STATES: Final = ("08", "28", "3D", "3F", "42", "53", "57", "25")
_CANCELLED: Final = re.compile(r"ERROR: +(canceling statement due to [a-z ]+)\s*\Z")
_STOPPED: Final = re.compile(  # by Ctrl-C, in the words of libpq and of DuckDB
    r"ERROR: +canceling statement due to user request\s*\Z|\AQuery interrupted\Z"
)
_KINDS: Final = ("Binder", "Catalog", "Parser", "Permission", "Programming", "Connection", "IO")


def _said(error: Exception) -> str | None:
    """What a source said, in a line; of a record, only what kind of error; None for no source's."""
    kind = type(error).__name__
    module = type(error).__module__.partition(".")[0]
    if module == "adbc_driver_manager":
        state, text = getattr(error, "sqlstate", None), str(error)
        if state is None and "Failed to connect" not in text:
            return "the connection broke off" if kind == "OperationalError" else kind
        if state and not state.startswith(_STATES):
            return f"SQLSTATE {state}; its words may quote a record"
        _, _, words = text.rpartition("ERROR: " if state else "Failed to connect: ")
        return words.strip().splitlines()[0]
    if module in ("duckdb", "_duckdb"):
        words = str(error).strip().splitlines()[0]
        open_words = kind.removesuffix("Exception").removesuffix("Error") in _KINDS
        return words if open_words else f"{kind}; its words may quote a record"
    if cancelled := _CANCELLED.search(str(error)):
        return cancelled[1]
    arrow = isinstance(error, pa.ArrowException | OSError)  # of the stream of rows
    return "a value that it cannot give; its words may quote a record" if arrow else None
