r"""The statement that reads a `[data]` table: window, consent and cap stand around its query.

Invariants:
    * What is said to be enforced is in the statement. A predicate that is NULL is not true.
    * Which of a reader's records are kept, and in which order they come, depends on that reader's
      records alone: readers are told apart by the bytes of their ids, whatever the source's
      collation, and their records are ordered by time, then by hashes of what is read.
    * A query and a predicate that are whole by themselves cannot close the brackets around them.

Example:
    >>> table = DataTable(source="duckdb", location="x", query="FROM clicks", consent="agreed")
    >>> print(statement(table, ["user", "text"]).partition("FROM (\nFROM")[2])
     clicks
    ) AS data
    WHERE (agreed
    ) IS TRUE) AS kept
    ORDER BY r, place
"""

from __future__ import annotations

from collections.abc import Sequence

from presspool.client.data.presets import PRESETS
from presspool.client.identity.data_table import DataTable

# What a source calls the UTF-8 bytes of a text.
_BYTES = {"postgres": "convert_to({}, 'UTF8')", "duckdb": "encode({})", "parquet": "encode({})"}


def inner(table: DataTable) -> str:
    """The operator's own query, or all records of the table's documented place."""
    if table.query:
        return table.query.strip().removesuffix(";")
    return "SELECT * FROM data" if table.source == "parquet" else "SELECT * FROM atomic.events"


def rows(table: DataTable, expression: str) -> str:
    """One expression over the query's rows; whole by itself only where the expression is."""
    return f"SELECT {expression}\nFROM (\n{inner(table)}\n) AS data"


def quoted_name(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def time_of(table: DataTable) -> str | None:
    """The expression for when a record happened, if there is one."""
    if table.preset:
        return PRESETS[table.preset].time
    return quoted_name(table.time) if table.time else None


def statement(table: DataTable, names: Sequence[str]) -> str:
    """What is sent to the source.

    Args:
        table: the operator's.
        names: columns to read; the first tells whose a record is.
    """
    made = PRESETS[table.preset].columns if table.preset else {}
    columns = [made.get(name, quoted_name(name)) for name in names]
    if table.source == "postgres":  # JSON, numbers and the like in PostgreSQL's own spelling
        columns = [f"CAST({column} AS text)" for column in columns]
    reader = _BYTES[table.source].format(f"CAST({columns[0]} AS text)")
    order = [f"{time} DESC NULLS LAST"] if (time := time_of(table)) else []
    order += [f"md5(CAST({column} AS text)) NULLS LAST" for column in columns]
    where = _conditions(table)
    kept = "" if table.most_records is None else f"\nWHERE place <= {table.most_records}"
    read = ", ".join(f"{column} AS c{i}" for i, column in enumerate(columns))
    place = f"row_number() OVER (PARTITION BY {reader} ORDER BY {', '.join(order)}) AS place"
    return (
        f"SELECT {', '.join(f'c{i}' for i in range(len(names)))}\n"
        f"FROM ({rows(table, f'{read}, {reader} AS r, {place}')}"
        + ("\nWHERE " + "\n  AND ".join(where) if where else "")
        + f") AS kept{kept}\nORDER BY r, place"
    )


def consents(table: DataTable) -> list[str]:
    """The predicates that must be true of a record: the preset's, and the operator's."""
    own = PRESETS[table.preset].consent if table.preset else ""
    return [predicate for predicate in (own, table.consent) if predicate]


def _conditions(table: DataTable) -> list[str]:
    found = [f"({PRESETS[table.preset].events})"] if table.preset else []
    found += [f"({predicate}\n) IS TRUE" for predicate in consents(table)]
    if table.window:
        first, after = table.window
        time = time_of(table)
        found += [f"{time} >= TIMESTAMP '{first}'", f"{time} < TIMESTAMP '{after}'"]
    return found
