"""Outlets that a worker serves in one pass: each answers, and pays, what it does alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from flwr.app import Message
from tests.fakes.instruments.detectors import made_readers, subset
from tests.fakes.made_outlets import RealOutlet, make_real

from presspool.client import client_app
from presspool.client.client_app import serve
from presspool.client.engine.compute import Compute
from presspool.client.release import kept_reply
from presspool.common.base.errors import EngineError, StorageError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.flower import become_server, stamp, to_bytes
from presspool.common.wire.update import FAILURES, TrainTask, pack_task

NAMES = ("east-star", "north-post", "south-echo", "west-sun")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    body = contract_body | {"outlets": {name: 9 + 7 * i for i, name in enumerate(NAMES)}}
    return parse_contract(body)


def settings_in(folder: Path) -> list[Path]:
    """Outlets with readers of their own; the third has a broken file, the last has nobody."""
    folder.mkdir(exist_ok=True)
    made = []
    for seed, name in enumerate(NAMES):
        readers = made_readers(12, seed=seed)
        readers = subset(readers, []) if name == "west-sun" else readers
        ids = np.repeat(np.arange(readers.readers), np.diff(readers.offsets)).astype(str)
        table = readers.table.append_column("reader", pa.array(ids, pa.string()))
        labels = [("world", "sport", "business")[i] for i in table["label"].to_pylist()]
        table = table.set_column(
            table.column_names.index("label"), "label", pa.array(labels, pa.string())
        )
        pq.write_table(table, folder / f"{name}.parquet")
        if name == "south-echo":
            (folder / f"{name}.parquet").write_bytes(b"PAR1 no table")
        made.append(folder / f"{name}.toml")
        made[-1].write_text(f'name = "{name}"\ndata = "{name}.parquet"\ndeterministic = 7\n')
    return made


def tasks(contract: Contract, count: int, number: int = 1) -> list[Message]:
    state = {n: a + np.float32(0.1) for n, a in adapters.read(build(contract)).items()}
    text = contract.canonical().decode()
    task = TrainTask(contract=text, digest=contract.digest, round=number, state=state)
    become_server(run_id=1)
    content = pack_task(task)
    made = [Message(content, 2 + i, "train", group_id="1") for i in range(count)]
    return [stamp(message, f"task-{i}") for i, message in enumerate(made)]


def said(replies: Sequence[Message]) -> list[Any]:
    """The exact bytes of each answer, or the reason that there is none."""
    return [r.error.reason if r.has_error() else to_bytes(r.content) for r in replies]


def alone(messages: Sequence[Message], outlets: Sequence[Path]) -> list[Any]:
    return [said(serve([m], [file]))[0] for m, file in zip(messages, outlets, strict=True)]


def test_outlets_with_good_bad_and_no_data(contract: Contract, tmp_path: Path) -> None:
    outlets, messages = settings_in(tmp_path), tasks(contract, len(NAMES))
    expected = alone(messages, outlets)
    assert said(serve(messages, outlets)) == expected
    assert len({*map(bytes, expected)}) == len(NAMES)
    backwards = serve(messages[::-1], outlets[::-1])
    assert [reply.metadata.dst_node_id for reply in backwards] == [1] * len(NAMES)
    assert said(backwards) == expected[::-1]


def test_tasks_of_two_rounds_and_two_adapters_are_told_apart(
    contract: Contract, tmp_path: Path
) -> None:
    outlets = settings_in(tmp_path)
    first, second = tasks(contract, len(NAMES)), tasks(contract, len(NAMES), number=2)
    mixed = [first[0], second[1], first[2], second[3]]
    assert said(serve(mixed, outlets)) == alone(mixed, outlets)


def test_one_that_is_refused_or_fails_is_nobody_elses_concern(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlets, messages = settings_in(tmp_path), tasks(contract, len(NAMES))
    expected = alone(messages, outlets)
    messages[0] = tasks(contract, 1, number=9)[0]  # no such round
    real = client_app.answer

    def answer(asked: Any, settings: Any, **more: Any) -> Any:
        if settings.name == "south-echo":
            raise EngineError("not here")
        return (yield from real(asked, settings, **more))

    monkeypatch.setattr(client_app, "answer", answer)
    found = said(serve(messages, outlets))
    assert found[0] == "round-not-agreed"
    assert found[2] == "engine-refused"
    assert [found[1], found[3]] == [expected[1], expected[3]]


# --- Ledgers -------------------------------------------------------------------------------------


@pytest.fixture
def paid(
    contract: Contract, tmp_path: Path
) -> Callable[[str], tuple[list[Path], list[RealOutlet]]]:
    """Outlets with policy and ledger, made anew in a folder of the given name."""

    def make(folder: str) -> tuple[list[Path], list[RealOutlet]]:
        outlets = settings_in(tmp_path / folder)
        for file in outlets[2:]:
            file.with_suffix(".parquet").unlink()  # nothing was ever imported there
        return outlets, [make_real(file, contract, trial=True) for file in outlets]

    return make


def written(outlets: Sequence[RealOutlet]) -> list[list[tuple[str, Any]]]:
    """Of each ledger the kinds of its entries, and the digests that are bound."""
    return [[(e.kind, getattr(e, "digest", "")) for e in outlet.entries()] for outlet in outlets]


def test_ledgers_hold_what_they_hold_of_an_outlet_alone(
    contract: Contract, paid: Callable[[str], tuple[list[Path], list[RealOutlet]]]
) -> None:
    (here, ours), (there, theirs) = paid("together"), paid("alone")
    for number in (1, 2):
        messages = tasks(contract, len(NAMES), number)
        expected = alone(messages, there)
        assert said(serve(messages, here)) == expected
        assert all(isinstance(answer, bytes) for answer in expected)
        # A round that is bound is refused, together as alone.
        assert said(serve(messages, here)) == ["round-released" if number == 1 else "run-over"] * 4
        alone(messages, there)
    assert written(ours) == written(theirs)
    assert [kinds.count("release-intent") for kinds in (o.kinds() for o in ours)] == [2] * 4


def test_a_ledger_that_cannot_bind_keeps_its_own_answer_back(
    contract: Contract,
    paid: Callable[[str], tuple[list[Path], list[RealOutlet]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here, ours), (there, _) = paid("together"), paid("alone")
    messages = tasks(contract, len(NAMES))
    expected, keep = alone(messages, there), kept_reply.keep_and_bind
    turns = iter(range(len(NAMES)))

    def kept(data: bytes, bind: Any, file: Any) -> None:
        if next(turns) == 1:
            raise StorageError("the disk is full")
        keep(data, bind, file)

    monkeypatch.setattr(kept_reply, "keep_and_bind", kept)
    found = said(serve(messages, here))
    assert found[1] in FAILURES.values()
    assert [*found[:1], *found[2:]] == [*expected[:1], *expected[2:]]
    bound = ["release-intent" in outlet.kinds() for outlet in ours]
    assert bound == [True, False, True, True]


class KilledError(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_kill_in_mid_pass_leaves_every_ledger_charged_and_shut(
    contract: Contract,
    paid: Callable[[str], tuple[list[Path], list[RealOutlet]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, ours = paid("together")

    def killed(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Compute, "prepare", killed)
        with pytest.raises(KilledError):
            serve(tasks(contract, len(NAMES)), here)
    for outlet in ours:
        assert outlet.kinds()[-2:] == ["reserve", "adapter-received"]
    found = said(serve(tasks(contract, len(NAMES)), here))  # the ledgers can be opened again
    assert all(isinstance(answer, bytes) for answer in found)
