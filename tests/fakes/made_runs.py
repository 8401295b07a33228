"""What tests of coordinator and grid share: replies as outlets send them, and runs on a folder.

Example: `reply(update_of(contract, "north-post", state))` is a Flower message that admission takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from flwr.app import Error, Message, RecordDict
from numpy.typing import NDArray
from tests.conftest import made_rows

from presspool.common.models.adapters import digest
from presspool.common.tasks.records import turns
from presspool.common.wire.flower import become_server, stamp
from presspool.common.wire.update import AdapterUpdate, pack_update

Arrays = dict[str, NDArray[np.float32]]

# Two arrays that stand for an adapter where no model is needed.
STATE: Arrays = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}
CONTRACT = "sha256:" + "c" * 64


def made_update(outlet: str, **changes: Any) -> AdapterUpdate:
    """An update of round 1 on `STATE` that admission takes, unless `changes` spoil it."""
    delta = {name: np.ones_like(array) for name, array in STATE.items()}
    fields: dict[str, Any] = {
        "outlet": outlet,
        "round": 1,
        "contract": CONTRACT,
        "base": digest(STATE),
        "delta": delta,
    }
    return AdapterUpdate(**fields | changes)


def reply(said: AdapterUpdate | RecordDict | Error, *, node: int = 2) -> Message:
    """The message in which a node says this."""
    become_server(run_id=1)
    task = stamp(Message(RecordDict(), node, "train", group_id="1"), f"task-{node}")
    if isinstance(said, AdapterUpdate):
        said = pack_update(said)
    return stamp(Message(said, reply_to=task), f"reply-{node}")


def write_run(
    folder: Path, body: Mapping[str, Any], *, records: int = 30, **tables: Mapping[str, Any]
) -> Path:
    """Write a whole run into a folder: outlets' data, held-out data and `run.toml`.

    Args:
        folder: where to.
        body: the contract's body.
        records: how many readers the held-out file is made from.
        tables: keys that differ from the usual [simulation] and [evaluation].

    Returns:
        The `run.toml`.
    """
    data, format_ = folder / "data", body["task"].get("format", "text")
    data.mkdir(parents=True, exist_ok=True)
    for name, population in body["outlets"].items():
        pq.write_table(_made(name, population, format_), data / f"{name}.parquet")
    held_out = _made("held-out", records, format_).drop_columns(["reader"])
    pq.write_table(held_out, folder / "held_out.parquet")
    usual: dict[str, dict[str, Any]] = {
        "simulation": {"data": "data", "workers": 1},
        "evaluation": {"data": "held_out.parquet"},
    }
    whole = {**body, **{key: table | dict(tables.get(key, {})) for key, table in usual.items()}}
    path = folder / "run.toml"
    path.write_text(toml(whole), encoding="utf-8")
    return path


def _made(name: str, readers: int, format_: str) -> pa.Table:
    """`made_rows` with the columns of a task's format; a label asks for its text."""
    rows = made_rows(name, readers)
    if format_ == "prompt":
        rows = [{"reader": r["reader"], "prompt": r["label"], "answer": r["text"]} for r in rows]
    elif format_ == "chat":
        chats = [turns.chat(turns.exchange(r["label"], r["text"])) for r in rows]
        rows = [{"reader": r["reader"], "messages": c} for r, c in zip(rows, chats, strict=True)]
    elif format_ == "tokens":  # the first word is an entity of the label's kind
        cut = [(r["reader"], r["text"].split(), f"B-{r['label']}") for r in rows]
        tagged = [
            {"reader": reader, "tokens": words, "tags": [tag, *["O"] * (len(words) - 1)]}
            for reader, words, tag in cut
        ]
        return pa.Table.from_pylist(tagged)
    return pa.Table.from_pylist(rows)


def simulated_here(run: Path, out: Path, *, deterministic: int) -> str:
    """Digest of the adapter that a run makes on a grid without worker processes.

    With one thread, as a worker has. The outlets' settings stay in the folder. Its imports are here
    because children that only write runs shall start without them.
    """
    import torch

    from presspool.common.runs.run_file import read_run_file
    from presspool.server.rounds.server_app import serve
    from presspool.simulations.grids.local_grid import LocalGrid
    from presspool.simulations.simulate import SimulateOptions, prepare

    torch.set_num_threads(1)
    prepared = prepare(read_run_file(run), SimulateOptions(out=out, deterministic=deterministic))
    with LocalGrid(prepared.outlets, workers=0) as grid:
        serve(grid, prepared.folder)
    return checkpointed(out)


def checkpointed(folder: Path) -> str:
    """Digest of the last checkpoint's adapter."""
    from presspool.common.runs.result_file import read_result
    from presspool.server.rounds import round_checkpoint

    result = read_result(folder)
    point = round_checkpoint.load(folder / "checkpoint.safetensors", digest=result.contract_digest)
    assert point is not None
    return digest(point.state)


def toml(body: Mapping[str, Any]) -> str:
    """A TOML document of these values; JSON's literals are TOML's, and inner tables go inline."""
    return "".join(f"{key} = {_literal(value)}\n" for key, value in body.items())


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_literal(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
