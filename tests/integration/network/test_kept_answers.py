"""An outlet that is killed around a release intent delivers what it paid for, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flwr.app import Message
from tests.conftest import REPOSITORY, made_rows
from tests.fakes.children import answer_children
from tests.fakes.children.answer_children import STEPS
from tests.fakes.made_outlets import RealOutlet, make_real
from tests.fakes.made_pool import RUN, Pool, open_pool

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.ledger import entries
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.envelope import body_digest, task_id
from presspool.common.wire.flower import become_server, node_of
from presspool.common.wire.update import TrainTask, pack_task
from presspool.simulations.grids.worker_pools import ctrl_c_held_back

OUTLET = "north-post"
WAIT = 120.0
_SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def contract(contract_body: dict[str, Any]) -> Contract:
    return parse_contract(
        {
            **contract_body,
            "federation": {"rounds": 2, "local_steps": 1, "quorum": 1},
        }
    )


@pytest.fixture(scope="module")
def state(contract: Contract) -> Mapping[str, Any]:
    return adapters.read(build(contract))


def new_outlet(home: Path, contract: Contract) -> RealOutlet:
    """With noise from the system: a round that is trained twice gives two answers."""
    home.mkdir()
    pq.write_table(pa.Table.from_pylist(made_rows(OUTLET, 30)), home / "data.parquet")
    settings = home / "outlet.toml"
    settings.write_text(f'name = "{OUTLET}"\ndata = "{home / "data.parquet"}"\n')
    return make_real(settings, contract)


def start(pool: Pool, home: Path, step: str = "", occurrence: int = 0) -> Any:
    os.environ["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY / "src"), str(REPOSITORY)))
    _SERVER.set_forkserver_preload(["tests.fakes.children.answer_children"])
    arguments = (pool.folder, home, pool.address, step, occurrence)
    process = _SERVER.Process(target=answer_children.work, args=arguments, daemon=True)
    with ctrl_c_held_back():
        process.start()
    return process


def asking(contract: Contract, state: Mapping[str, Any], round: int) -> Message:
    """A round's message, as the strategy makes it."""
    become_server(run_id=1)
    text = contract.canonical().decode()
    task = TrainTask(contract=text, digest=contract.digest, round=round, state=state)
    return Message(pack_task(task), node_of(OUTLET), "train", group_id=str(round))


def everything_paid_for_arrives(
    folder: Path, contract: Contract, state: Mapping[str, Any], step: str, occurrence: int
) -> None:
    """Killed at a step and started again, an outlet delivers each round, as it was bound."""
    home = folder / "home"
    real = new_outlet(home, contract)
    with open_pool(folder, [OUTLET]) as pool:
        pool.certificates.write(folder)
        process = start(pool, home, step, occurrence)
        try:
            for number in (1, 2):
                if number == occurrence:
                    list(pool.grid().push_messages([asking(contract, state, number)]))
                    process.join(WAIT)
                    assert process.exitcode == -signal.SIGKILL
                    process = start(pool, home)
                message = asking(contract, state, number)
                (reply,) = pool.grid(phase=WAIT).send_and_receive([message])
                assert reply.has_content(), f"round {number} is lost: {reply}"
                header, body = pool.desk.update(task_id(RUN, number, 1, OUTLET))
                bound = {
                    e.round: e.digest
                    for e in real.entries()
                    if isinstance(e, entries.ReleaseIntent)
                }
                assert body_digest(body.read(header.bytes)) == header.body == bound[number]
        finally:
            process.terminate()
            process.join(WAIT)
    kinds = real.kinds()
    assert (kinds.count("reserve"), kinds.count("release-intent"), kinds[-1]) == (1, 2, "settle")
    assert not list((home / "work").glob("*.answer"))


# The two rounds differ: with the last one the run is over.
EVERY = [(step, number) for step in STEPS for number in (1, 2)]
SAMPLE = [("kept", 1), ("bound", 2)]


@pytest.mark.parametrize(
    ("step", "occurrence"),
    [pytest.param(*at, marks=() if at in SAMPLE else pytest.mark.soak) for at in EVERY],
)
def test_a_kill_around_the_intent_loses_nothing_that_is_paid_for(
    step: str, occurrence: int, contract: Contract, state: Mapping[str, Any], tmp_path: Path
) -> None:
    everything_paid_for_arrives(tmp_path, contract, state, step, occurrence)
