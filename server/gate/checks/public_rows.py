"""What behaviour is looked at on: the policy's public rows, and the lists that it names.

Rows are read as strictly as a run's own held-out file: one that the task cannot use refuses the
file by its line. Groups stand beside the task's columns, as text.

Invariants:
    * Row by row the groups are those of the same records: nothing is left out of either.
    * A list is small, is UTF-8 and holds something.

Example: `public_rows(policy.public, Path("policies"), task)["place"]`.
"""

from __future__ import annotations

import re
from errno import ENOENT
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from presspool.common.base.errors import DataError, InputError
from presspool.common.base.files import read_most
from presspool.common.data.tables import Mapped, read_records, read_table
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.runs.shown_metrics import merit
from presspool.common.tasks.task import Task
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.release_policy import Public

HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
"""A sign that is a word of its own."""
MOST_BYTES: Final = 1 << 20
"""Of a list."""
MOST_GROUPS: Final = 100
"""Of a column; the page has a line of each."""
LONGEST_GROUP: Final = 100


def public_rows(asked: Public, beside: Path, task: Task[Any]) -> pa.Table:
    """The first of a file's rows, with the task's columns as it parses them, and the groups.

    Args:
        asked: what the policy says of them.
        beside: the policy's folder.
        task: of the adapter that is judged.

    Raises:
        DataError: a file, a column or a row that cannot be used.
    """
    path = beside / asked.file
    rows = read_records(path, task, Mapped())[: asked.most_rows]
    others = {name: name for name in asked.groups if name not in rows.column_names}
    groups = read_table(path, others)[: asked.most_rows] if others else rows
    for name in others:
        rows = rows.append_column(name, groups[name])
    for name in asked.groups:
        _require_groups(rows[name], where=f"{path}, column {name!a}")
    return rows


def _require_groups(column: pa.ChunkedArray, *, where: str) -> None:
    """Refuse a column in which nobody could be compared: ids, or texts."""
    names = {str(name) for name in column.unique().to_pylist()}
    longest = max(map(len, names))
    if len(names) > MOST_GROUPS or longest > LONGEST_GROUP:
        raise DataError(
            "not a column of groups",
            where=where,
            expected=f"{MOST_GROUPS} names at most, of {LONGEST_GROUP} letters",
            got=f"{len(names)} names, the longest of {longest} letters",
        )


def listed(path: Path, *, where: str) -> dict[int, str]:
    """The lines of a list by their numbers, without empty ones and white space around them.

    What is wrong with a line is told by its number alone: such lists are an outlet's secrets.

    Args:
        path: the file.
        where: the policy's key that names it.

    Raises:
        InputError: a file that cannot be read, that is too large, that has no line, or one that
            says nothing: fewer than two letters, digits or signs that are a word.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(ENOENT, "no such file")
        body = read_most(path, MOST_BYTES + 1)
        lines = [line.strip() for line in body.decode("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:  # no UTF-8, or a name with a NUL
        got = getattr(error, "strerror", None) or error
        raise InputError("cannot read the list", where=f"{where}: {path}", got=got) from None
    found = {number: line for number, line in enumerate(lines, start=1) if line}
    if not found or len(body) > MOST_BYTES:
        raise InputError(
            "not a list",
            where=f"{where}: {path}",
            expected=f"one line or more, {MOST_BYTES:,} bytes at most",
            got=f"{len(found)} lines, {len(body):,} bytes or more",
        )
    for number, line in found.items():
        require_words(line, where=f"{where}: {path}, line {number}")
    return found


def require_words(entry: str, *, where: str) -> None:
    """Refuse what stands in a list and says nothing, as a blank that is not seen or one letter."""
    if sum(map(str.isalnum, entry)) < 2 and not HAN.search(entry):
        raise InputError("says nothing", where=where, expected="two letters or digits at least")


def without_rows(check: str) -> Finding:
    """What a check says that has no rows to look at."""
    advice = "name some in [public] of the policy"
    return finding(check, "public rows", "there are no public rows to look at", advice)


def first_metric(model: AdapterModel, rows: pa.Table) -> float:
    """The task's first metric of an adapter on rows, the higher the better; NaN where it has none.

    Args:
        model: the adapter.
        rows: with all of the task's columns.
    """
    metric = model.task.primary
    value = model.task.score(model.judged(rows), rows)[metric.name]
    return float("nan") if value is None else merit(metric, value)
