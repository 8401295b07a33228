"""A pool: real rows as outlets, readers and a test file, in the layout that simulations read.

Example: `write_pool(records, folder, name="4 x 1,500", max_length=48)` writes `OUTLET.parquet` for
each outlet, `everybody.parquet` with all training records, and `test.parquet`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.errors import DataError
from presspool.simulations.newsroom.few_shot import preceded

EVERYBODY = "everybody"
_PARTS = ("outlet", "reader", "text", "label", "clicks")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a data set.

    Attributes:
        outlet: where it was read; a slug.
        reader: whose it is, unique over all outlets.
        text: what was read; what a generating model is asked; titles clicked before.
        label: what it is about; what a generating model should write; titles shown.
        test: whether it is kept for testing.
        clicks: which of the titles shown were clicked, where a record is of titles.
    """

    outlet: str
    reader: str
    text: str
    label: str
    test: bool
    clicks: str = ""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A data set as a federation of outlets.

    Attributes:
        name: for tables.
        folder: its files.
        readers: outlet to number of training readers.
        records: outlet to number of training records.
        labels: in a fixed order; none where nothing is classified.
        max_length: tokens a record is cut to; 0 where [task] has no such key.
        task: what else the contract's [task] says.
        attack: what some of its outlets do, one of `lies.ATTACKS`; "" for nothing.
        liars: which of them.
        base: folder of the base model that all arms use; None for that of their recipe.
    """

    name: str
    folder: Path
    readers: Mapping[str, int]
    records: Mapping[str, int]
    labels: tuple[str, ...]
    max_length: int
    task: Mapping[str, Any] = field(default_factory=dict)
    attack: str = ""
    liars: tuple[str, ...] = ()
    base: Path | None = None

    @property
    def test(self) -> Path:
        """The file of test records, with the column `outlet`."""
        return self.folder / "test.parquet"

    @property
    def few_shot(self) -> Path:
        """The test records with public examples before each; see `write_few_shot`."""
        return self.folder / "few-shot.parquet"


def write_pool(
    records: Sequence[Record],
    folder: Path,
    *,
    name: str,
    max_length: int,
    labels: Sequence[str] = (),
    task: Mapping[str, Any] | None = None,
    columns: Sequence[str] = (),
) -> Pool:
    """Write the files of a pool.

    Args:
        records: of training and of testing.
        folder: where.
        name: for tables.
        max_length: tokens a record is cut to; 0 where [task] has no such key.
        labels: of the task, if it has any.
        task: what else the contract's [task] says.
        columns: what a record's text, label and clicks, if wanted, are called; text and label,
            or prompt and answer without labels, if not given.

    Raises:
        DataError: nothing to train on, or nothing to test with.
    """
    train, test = [r for r in records if not r.test], [r for r in records if r.test]
    if not train or not test:
        raise DataError(
            "an empty pool",
            where=str(folder),
            expected="training and test records",
            got=f"{len(train)} and {len(test)}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    columns = columns or (("text", "label") if labels else ("prompt", "answer"))
    outlets = {o: [r for r in train if r.outlet == o] for o in sorted({r.outlet for r in train})}
    for outlet, own in outlets.items():
        _write(folder / f"{outlet}.parquet", own, columns)
    _write(folder / f"{EVERYBODY}.parquet", train, columns)
    _write(folder / "test.parquet", test, columns)
    return Pool(
        name=name,
        folder=folder,
        labels=tuple(labels),
        max_length=max_length,
        task=task or {},
        readers={o: len({r.reader for r in own}) for o, own in outlets.items()},
        records={o: len(own) for o, own in outlets.items()},
    )


def write_few_shot(pool: Pool, examples: str) -> None:
    """Write a generating pool's test records once more, with `examples` before every prompt."""
    pq.write_table(preceded(pq.read_table(pool.test), examples), pool.few_shot)


def flipped(pool: Pool, outlets: Sequence[str], labels: Mapping[str, str]) -> None:
    """Write some outlets' training records once more, with other labels for these."""
    for outlet in outlets:
        file = pool.folder / f"{outlet}.parquet"
        table = pq.read_table(file)
        wrong = [labels.get(label, label) for label in table["label"].to_pylist()]
        place = table.column_names.index("label")
        pq.write_table(table.set_column(place, "label", pa.array(wrong)), file)


def share_of(reader: str) -> float:
    """A number from 0 to 1 that is the same for a reader on every machine."""
    return int.from_bytes(hashlib.sha256(reader.encode()).digest()[:4]) / 2**32


def _write(path: Path, records: Sequence[Record], columns: Sequence[str]) -> None:
    parts = dict(zip(("outlet", "reader", *columns), _PARTS, strict=False))
    pq.write_table(pa.table({c: [getattr(r, p) for r in records] for c, p in parts.items()}), path)
