"""The files that a run.toml names for a simulation: where each is, and what is missing there.

`[simulation]` and `[evaluation]` stand outside a contract, and whoever only checks one need not
have their files. So what is missing is told by `missing`, and never raised; a simulation raises it.

Invariant: no record is read, only which files and columns there are.

Example: `[fault.what for fault in missing(read_run_file(Path("run.toml"))).values()]`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from presspool.common.base.errors import DataError
from presspool.common.contract.doors import task_of
from presspool.common.data.decoders import FORMATS
from presspool.common.data.remote_file import File, RemoteFile
from presspool.common.data.table_refusals import require_columns
from presspool.common.runs.run_file import RunFile, slug


def missing(run: RunFile) -> dict[str, DataError]:
    """Of each table of a run.toml that names files the first fault of theirs, if there is one."""
    checks: dict[str, Callable[[RunFile], None]] = {
        "[simulation]": _simulation,
        "[evaluation]": _evaluation,
    }
    found = dict[str, DataError]()
    for table, check in checks.items():
        try:
            check(run)
        except DataError as fault:
            found[table] = fault
    return found


def _evaluation(run: RunFile) -> None:
    if (table := run.evaluation) is not None:
        columns = task_of(run.contract).columns
        require_columns(table.data, list(table.columns.of(columns).values()))


def _simulation(run: RunFile) -> None:
    if (table := run.simulation) is None:
        return
    names = [table.columns.reader, *table.columns.of(task_of(run.contract).columns).values()]
    kind, _, column = table.partition.partition(":")
    if isinstance(table.data, str):
        return  # read where the outlets are
    if kind == "files":
        for outlet in list(run.contract.outlets)[: table.outlets]:
            require_columns(own_file(table.data, outlet), names)
    else:
        require_columns(table.data, [*names, column] if kind == "column" else names)


def own_file(folder: Path | str, name: str) -> File:
    """An outlet's file in a folder of one for each, or where a URL with `{outlet}` says.

    Raises:
        DataError: there is none in the folder.
    """
    if isinstance(folder, str):
        return RemoteFile(folder.replace("{outlet}", name))
    found = [
        path
        for suffix in FORMATS
        for path in (folder / f"{name}{suffix}", folder / f"{name}{suffix}.gz")
        if path.exists()
    ]
    if not found:
        found = [path for path in table_files(folder) if slug(stem(path)) == name]
    if not found:
        raise DataError(
            f"no data for {name}",
            where=str(folder),
            expected=f"{name}.parquet, .csv or .jsonl",
            advice="add the file, or choose another [simulation] partition",
        )
    return found[0]


def table_files(folder: Path) -> list[Path]:
    """The files of a folder that PressPool can read, by name; none where it is no folder."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    ends = (*FORMATS, *(f"{suffix}.gz" for suffix in FORMATS))
    return [path for path in names if path.name.lower().endswith(ends) and path.is_file()]


def stem(path: Path) -> str:
    """A table file's name without what says its format."""
    name = path.name
    for end in (".gz", *FORMATS):
        name = name[: -len(end)] if name.lower().endswith(end) else name
    return name
