"""A pool: real rows as outlets, readers and a test file, in the layout that simulations read.

Example: `write_pool(records, folder, name="4 x 1,500", max_length=48)` writes `OUTLET.parquet` for
each outlet, `everybody.parquet` with all training records, and `test.parquet`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.errors import DataError

EVERYBODY = "everybody"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a data set.

    Attributes:
        outlet: where it was read; a slug.
        reader: whose it is, unique over all outlets.
        text: what was read.
        label: what it is about.
        test: whether it is kept for testing.
    """

    outlet: str
    reader: str
    text: str
    label: str
    test: bool


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A data set as a federation of outlets.

    Attributes:
        name: for tables.
        folder: its files.
        readers: outlet to number of training readers.
        records: outlet to number of training records.
        labels: in a fixed order.
        max_length: tokens a record is cut to.
    """

    name: str
    folder: Path
    readers: Mapping[str, int]
    records: Mapping[str, int]
    labels: tuple[str, ...]
    max_length: int

    @property
    def test(self) -> Path:
        """The file of test records, with the column `outlet`."""
        return self.folder / "test.parquet"


def write_pool(
    records: Sequence[Record], folder: Path, *, name: str, labels: Sequence[str], max_length: int
) -> Pool:
    """Write the files of a pool.

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
    outlets = {o: [r for r in train if r.outlet == o] for o in sorted({r.outlet for r in train})}
    for outlet, own in outlets.items():
        _write(folder / f"{outlet}.parquet", own)
    _write(folder / f"{EVERYBODY}.parquet", train)
    _write(folder / "test.parquet", test)
    return Pool(
        name=name,
        folder=folder,
        labels=tuple(labels),
        max_length=max_length,
        readers={o: len({r.reader for r in own}) for o, own in outlets.items()},
        records={o: len(own) for o, own in outlets.items()},
    )


def share_of(reader: str) -> float:
    """A number from 0 to 1 that is the same for a reader on every machine."""
    return int.from_bytes(hashlib.sha256(reader.encode()).digest()[:4]) / 2**32


def _write(path: Path, records: Sequence[Record]) -> None:
    columns = ("outlet", "reader", "text", "label")
    pq.write_table(pa.table({c: [getattr(r, c) for r in records] for c in columns}), path)
