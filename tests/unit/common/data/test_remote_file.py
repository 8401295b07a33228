"""Records by a URL: read as a file of the same bytes is, and told in one sentence where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from presspool.common.base.errors import DataError
from presspool.common.data.remote_file import RemoteFile
from presspool.common.data.tables import read_table

ROWS = {"reader": ["ann", "bob"], "text": ["Cup final", "Vote"]}
NAMES = {"text": "text", "reader": "reader"}


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.mark.parametrize("name", ["r.parquet", "r.csv", "r.csv.gz", "r.jsonl", "r.jsonl.gz"])
def test_every_format_is_read_as_from_a_path(
    tmp_path: Path, memory: fsspec.AbstractFileSystem, name: str
) -> None:
    path = tmp_path / name
    if name == "r.parquet":
        pq.write_table(pa.table(ROWS), path)
    else:
        csv = "reader,text\nann,Cup final\nbob,Vote\n"
        lines = '{"reader": "ann", "text": "Cup final"}\n{"reader": "bob", "text": "Vote"}\n'
        with fsspec.open(str(path), "wt", compression="infer") as stream:
            stream.write(csv if ".csv" in name else lines)
    memory.pipe(f"/press/{name}", path.read_bytes())
    expected = read_table(path, NAMES).to_pydict()
    assert expected == ROWS
    for url in (f"memory://press/{name}", f"file://{path}"):
        assert read_table(RemoteFile(url), NAMES).to_pydict() == expected


def test_what_cannot_be_had_is_told_by_its_url(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/press/empty.csv", b"")
    memory.pipe("/press/broken.parquet", b"PAR1 and no more")
    for url, word in (
        ("memory://press/none.csv", "no such file"),
        ("memory://press", "a folder"),
        ("memory://press/empty.csv", "0 bytes"),
        ("memory://press/broken.parquet", "broken.parquet"),
        ("nowhere://press/r.csv", "cannot be read"),
    ):
        with pytest.raises(DataError) as caught:
            read_table(RemoteFile(url), NAMES)
        assert word in str(caught.value)
        assert url in str(caught.value)
