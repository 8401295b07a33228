"""What `presspool new run` finds in files of somebody's own.

The data is a folder with a file for each outlet, or one file with a column that says the outlet; a
held-out file may lie beside them (`held_out.*`, `test.*`, …). Columns are guessed (`guessing`),
outlets' readers and labels are counted by the code that reads them in a run, so that whatever would
stop a simulation because of the data is told here.

Example: `draft(RunRequest(data=Path("clicks"))).outlets`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from presspool.client.data.readers import distinct, read_readers
from presspool.common.base.errors import DataError
from presspool.common.contract.contract_schema import TaskTable
from presspool.common.contract.doors import TASKS
from presspool.common.data.decoders import Tally
from presspool.common.data.table_refusals import column_names, require_columns
from presspool.common.data.tables import Columns, batches, lists_in, read_records, read_table
from presspool.common.runs.named_files import stem, table_files
from presspool.common.runs.run_file import slug
from presspool.common.tasks.records.tagged_words import listed, named
from presspool.simulations.newsroom.guessing import Guess, guess
from presspool.simulations.newsroom.shapes import Shape, shape_of

SAMPLE_ROWS = 5000
# By how surely a file of this name is held out.
HELD_OUT = (
    "heldout",
    "holdout",
    "test",
    "testset",
    "eval",
    "evaluation",
    "validation",
    "valid",
    "dev",
)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the person said.

    Attributes:
        data: a folder or a file.
        held_out: the public held-out file; None to look for one in the folder.
        epsilon: the run's ε.
        cohort: outlets in a round; None for all.
        named: role (`guessing.WORDS`) to column.
    """

    data: Path
    held_out: Path | None = None
    epsilon: float = 3.0
    cohort: int | None = None
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What was found.

    Attributes:
        request: what was asked.
        shape: what records there are, and of which task.
        files: the readers' files.
        guesses: role to its column; with "outlet" where one file holds all outlets.
        labels: in order; none for a task that writes.
        outlets: outlet to readers.
        held_out: the public held-out file, if there is one.
        unused: files of the folder that are neither.
    """

    request: RunRequest
    shape: Shape
    files: tuple[Path, ...]
    guesses: Mapping[str, Guess]
    labels: tuple[str, ...]
    outlets: Mapping[str, int]
    held_out: Path | None
    unused: tuple[Path, ...]

    @property
    def columns(self) -> dict[str, str]:
        """The task's columns and the reader's, as the files call them."""
        names = ("reader", *self.shape.roles)
        return {name: self.guesses[name].column for name in names}


def draft(request: RunRequest) -> Draft:
    """Look at the files.

    Raises:
        DataError: no files, no column that can be guessed, or data that a run could not use.
    """
    files, held_out, unused = _files(request)
    sample = _sample(files)
    shape = shape_of(list(sample), request.named)
    guesses = _guesses(sample, shape, request.named, one_file=len(files) == 1)
    for file in files:
        require_columns(file, [each.column for each in guesses.values()])
    labels = _labels([*files, held_out] if held_out else files, guesses, shape)
    found = Draft(
        request=request,
        shape=shape,
        files=files,
        guesses=guesses,
        labels=labels,
        outlets={},
        held_out=held_out,
        unused=unused,
    )
    return replace(found, outlets=_outlets(found))


# --- Files ---------------------------------------------------------------------------------------


def _files(request: RunRequest) -> tuple[tuple[Path, ...], Path | None, tuple[Path, ...]]:
    """Readers' files, the held-out one, and what is neither."""
    if request.data.is_file():
        return (request.data,), request.held_out, ()
    there = table_files(request.data)
    by_rank = sorted((_held_out_rank(path), path) for path in there)
    aside = [path for rank, path in by_rank if rank < len(HELD_OUT)]
    held_out = request.held_out or next(iter(aside), None)
    known = {path.resolve() for path in (*aside, held_out or request.data)}
    files = tuple(path for path in there if path.resolve() not in known)
    if not files:
        raise DataError(
            "no files of readers",
            where=str(request.data),
            expected="a folder of .csv, .jsonl or .parquet files, or one such file",
            got=", ".join(f"{path.name} (held out, by its name)" for path in there) or "none",
            advice="one file for each outlet, or one file with a column that says the outlet",
        )
    return files, held_out, tuple(path for path in aside if path != held_out)


def _held_out_rank(path: Path) -> int:
    """By the last words of its name: `clicks_test` is held out, the Test Valley Times is not."""
    words = re.findall(r"[a-z]+", stem(path).lower())
    words = [word for word in words if word not in ("data", "set")]
    ends = {"".join(words[-count:]) for count in (1, 2)}  # held-out
    return next((rank for rank, word in enumerate(HELD_OUT) if word in ends), len(HELD_OUT))


def _sample(files: Sequence[Path]) -> dict[str, list[str]]:
    """Some rows of the columns that all files have and that hold text."""
    names = [
        name
        for name in dict.fromkeys(column_names(files[0]))
        if all(column_names(file).count(name) == 1 for file in files)
    ]
    rows = max(100, SAMPLE_ROWS // len(files))
    parts = [_rows(file, names, rows) for file in files]
    whole = {
        name: [value for part in parts for value in part[name]]
        for name in names
        if all(name in part for part in parts)
    }
    for name in () if whole else names:  # what is wrong with them is told by a strict reading
        read_table(files[0], {name: name})
    return whole


def _rows(file: Path, names: Sequence[str], rows: int) -> dict[str, list[str]]:
    """Rows from all over the file, which may be sorted by outlet.

    Columns whose values are no text, as nested ones are not, are left out.
    """
    tally, parts = Tally(), list[list[pa.Array]]()
    try:
        for batch in batches(file, names, tally, lists=lists_in({name: name for name in names})):
            step = max(1, len(batch[0][0]) // rows)
            parts.append([pc.fill_null(values[::step], "") for values, _ in batch])
    except DataError:
        parts.clear()
    if (not parts or tally.dropped) and len(names) > 1:
        return {key: said for name in names for key, said in _rows(file, [name], rows).items()}
    whole = [pa.chunked_array(column) for column in zip(*parts, strict=True)]
    step = max(1, len(whole[0]) // rows) if whole else 1
    return {
        name: column.combine_chunks()[::step].to_pylist()
        for name, column in zip(names, whole, strict=False)
    }


def _guesses(
    sample: Mapping[str, list[str]], shape: Shape, named: Mapping[str, str], *, one_file: bool
) -> dict[str, Guess]:
    """A column for each role; those of a shape that is known by its names are not guessed."""
    others = ("reader", *(("outlet",) if one_file else ()))
    if shape.guessed:
        return guess(sample, (*shape.roles, *others), named)
    own = {role: Guess(column=role, why="its name says so") for role in shape.roles}
    rest = {column: values for column, values in sample.items() if column not in own}
    return {**own, **guess(rest, others, named)}


# --- What is in them -----------------------------------------------------------------------------


def _labels(files: Sequence[Path], guesses: Mapping[str, Guess], shape: Shape) -> tuple[str, ...]:
    """All that occur, in order of code points; whole numbers in their own."""
    if shape.kind == "tagging":
        return _types(files, shape.roles[-1])
    if "label" not in guesses:
        return ()
    found = {label for file in files for label in distinct(file, guesses["label"].column)}
    numbers = all(re.fullmatch(r"-?\d+", label) for label in found)
    return tuple(sorted(found, key=(lambda label: (int(label), label)) if numbers else None))


def _types(files: Sequence[Path], name: str) -> tuple[str, ...]:
    """The types of entities in a column of tags or of spans."""
    found = {one for file in files for said in _column(file, name) for one in named(said, name)}
    if name == "tags":
        found = {tag.partition("-")[2] for tag in found} - {""}
    return tuple(sorted(found))


def _column(file: Path, name: str) -> list[str]:
    values: list[str] = read_table(file, {name: name})[name].to_pylist()
    return values


def _outlets(found: Draft) -> dict[str, int]:
    """Readers of each outlet, and every file read as a run would."""
    columns = Columns(**found.columns)
    task = TASKS[found.shape.kind](_table(found))
    counted = {f: read_readers(f, columns=columns, task=task, strict=True) for f in found.files}
    if found.held_out:
        read_records(found.held_out, task, columns)
    if "outlet" not in found.guesses:
        names = [stem(file) for file in found.files]
        readers = [counted[file].readers for file in found.files]
    else:
        pairs = {"outlet": found.guesses["outlet"].column, "reader": columns.reader}
        table = read_table(found.files[0], pairs).group_by(["outlet", "reader"]).aggregate([])
        named = zip(*(table[column].to_pylist() for column in pairs), strict=True)
        counts = Counter(outlet for outlet, _ in {(slug(name), reader) for name, reader in named})
        names, readers = list(counts), list(counts.values())
    _require_slugs(names)
    return dict(sorted(zip(map(slug, names), readers, strict=True)))


def _table(found: Draft) -> TaskTable:
    return TaskTable.narrowed(task_of_draft(found)).model_validate(task_of_draft(found))


def task_of_draft(found: Draft) -> dict[str, object]:
    """The run file's [task]."""
    table: dict[str, object] = {**found.shape.table}
    if found.labels:
        table["labels"] = list(found.labels)
    if found.shape.kind == "recommendation":
        table["candidates"] = max(2, _most(found, "candidates"))
    return table


def _most(found: Draft, name: str) -> int:
    """The longest list that stands in a column of the readers' files."""
    return max(len(listed(value) or ()) for file in found.files for value in _column(file, name))


def _require_slugs(names: Sequence[str]) -> None:
    slugs = Counter(map(slug, names))
    for name in names:
        if not slug(name) or slugs[slug(name)] > 1:
            raise DataError(
                "outlets' names must differ in letters and digits",
                where="--data",
                expected="names that keep a-z, 0-9 or - in lower case, each another",
                got=", ".join(repr(n) for n in names if slug(n) == slug(name)),
                advice="rename them in the data, or name another column: --outlet COLUMN",
            )
