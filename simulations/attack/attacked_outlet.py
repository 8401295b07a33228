"""The attacked outlet's files: its `outlet.toml` and its records, made or the operator's own.

Made readers cost nobody anything and are the default: an audit of mechanism, code and plan needs
no reader's data. Beside them stand as many more who are never trained on, of the same kind.

Example: `made_readers(contract, "daily-bugle", seed=7)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.client.engine.randomness import SecureRandom
from presspool.client.identity.settings import read_settings
from presspool.common.base.files import replace_file
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.contract import Contract
from presspool.common.data.tables import read_table
from presspool.simulations.attack.tasks.attacked_task import attacked
from presspool.simulations.newsroom.table_files import replace_table

MOST_READERS = 2000  # a larger outlet's population stays in the plan; only so many are made
HELD_OUT = 0.2
COLUMNS = ("text", "label")  # of a record, where the task has no others


@dataclass(frozen=True, kw_only=True, eq=False)
class Audience:
    """Records by reader: string columns, the reader's and then the task's.

    Attributes:
        members: who is trained on.
        others: readers of the same outlet who are not.
        compared: as many of the members, drawn like the others: a file's order may mean something.
    """

    members: pa.Table
    others: pa.Table
    compared: pa.Table


def made_readers(contract: Contract, outlet: str, random: SecureRandom) -> Audience:
    """A newsroom's readers, writing what the contract's task learns from."""
    count = min(contract.outlets[outlet], MOST_READERS)
    more = max(1, int(HELD_OUT * count))
    seed = int(random.words(1)[0] >> np.uint64(2))
    return _split(attacked(contract).made(count + more, seed), random, more)


def own_readers(settings: Path, random: SecureRandom, columns: Sequence[str] = COLUMNS) -> Audience:
    """The records of a real outlet, a fifth of whose readers are left out of the training.

    Raises:
        DataError: they cannot be read.
    """
    outlet = read_settings(settings)
    names = {"reader": outlet.columns.reader, **outlet.columns.of(columns)}
    plain = pa.schema([(name, pa.string()) for name in names])
    table = read_table(outlet.file, names).select(list(names)).cast(plain)
    readers = len(pc.unique(table["reader"]))
    return _split(table, random, max(1, int(HELD_OUT * readers)))


def write_outlet(
    folder: Path, name: str, records: pa.Table, *, deterministic: int | None = None
) -> Path:
    """Write `outlet.toml` and its records; returns the former."""
    replace_table(folder / "records.parquet", records)
    lines = [f"name = {toml_value(name)}", 'data = "records.parquet"']
    if deterministic is not None:
        lines.append(f"deterministic = {deterministic}  # reproducible noise: NOT private")
    return replace_file(folder / "outlet.toml", ("\n".join(lines) + "\n").encode())


def _split(table: pa.Table, random: SecureRandom, left_out: int) -> Audience:
    readers = pc.unique(table["reader"]).to_pylist()
    order = np.argsort(random.uniform(len(readers)))

    def of(places: NDArray[np.intp]) -> pa.Table:
        return table.filter(pc.is_in(table["reader"], pa.array([readers[i] for i in places])))

    return Audience(
        others=of(order[:left_out]),
        members=of(order[left_out:]),
        compared=of(order[left_out : 2 * left_out]),
    )
