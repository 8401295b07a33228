"""The attacked outlet's files: its `outlet.toml` and its records, made or the operator's own.

Made readers cost nobody anything and are the default: an audit of mechanism, code and plan needs
no reader's data. Beside them stand as many more who are never trained on, of the same kind.

Example: `made_readers(contract, "daily-bugle", seed=7)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from presspool.client.engine.randomness import SecureRandom
from presspool.client.identity.settings import read_settings
from presspool.common.base.files import replace_file
from presspool.common.contract.contract import Contract
from presspool.common.data.tables import read_table
from presspool.common.tasks.classification import labels_of
from presspool.simulations.newsroom.newsroom import TOPICS, make_newsroom

MOST_READERS = 2000  # a larger outlet's population stays in the plan; only so many are made
HELD_OUT = 0.2
COLUMNS = ("reader", "text", "label")


@dataclass(frozen=True, kw_only=True, eq=False)
class Audience:
    """Records by reader: string columns reader, text and label.

    Attributes:
        members: who is trained on.
        others: readers of the same outlet who are not.
        compared: as many of the members, drawn like the others: a file's order may mean something.
    """

    members: pa.Table
    others: pa.Table
    compared: pa.Table


def made_readers(contract: Contract, outlet: str, random: SecureRandom) -> Audience:
    """A newsroom's readers under the contract's labels."""
    count = min(contract.outlets[outlet], MOST_READERS)
    more = max(1, int(HELD_OUT * count))
    seed = int(random.words(1)[0] >> np.uint64(2))
    (table,) = make_newsroom(outlets=1, readers=count + more, seed=seed).tables.values()
    labels = labels_of(contract)
    of_topic = {topic: labels[i % len(labels)] for i, topic in enumerate(TOPICS)}
    written = pa.array([of_topic[topic] for topic in table["label"].to_pylist()], pa.string())
    return _split(table.set_column(2, "label", written), random, more)


def own_readers(settings: Path, random: SecureRandom) -> Audience:
    """The records of a real outlet, a fifth of whose readers are left out of the training.

    Raises:
        DataError: they cannot be read.
    """
    outlet = read_settings(settings)
    names = {"reader": outlet.columns.reader, **outlet.columns.of(COLUMNS[1:])}
    plain = pa.schema([(name, pa.string()) for name in COLUMNS])
    table = read_table(outlet.data, names).select(list(COLUMNS)).cast(plain)
    readers = len(pc.unique(table["reader"]))
    return _split(table, random, max(1, int(HELD_OUT * readers)))


def under_label(table: pa.Table, label: str) -> pa.Table:
    """The same records, all with one label."""
    return table.set_column(2, "label", pa.array([label] * len(table), pa.string()))


def write_outlet(
    folder: Path, name: str, records: pa.Table, *, deterministic: int | None = None
) -> Path:
    """Write `outlet.toml` and its records; returns the former."""
    sink = pa.BufferOutputStream()
    pq.write_table(records, sink)
    replace_file(folder / "records.parquet", sink.getvalue().to_pybytes())
    lines = [f"name = {json.dumps(name)}", 'data = "records.parquet"']
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
