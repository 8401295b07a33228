"""A pool as its operators run it: joined, started, killed and cut, and still the same bytes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from tests.fakes.instruments.operators import Operators
from tests.fakes.instruments.tap import leaks
from tests.fakes.made_runs import checkpointed, simulated_here, write_run

from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.identity.identity import Identity
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result
from presspool.common.transparency import consortium_entries
from presspool.common.transparency.checkpoints import parse_proof
from presspool.common.transparency.merkle import leaf_hash
from presspool.common.transparency.notes import parse_key
from presspool.common.wire.update import ENCODINGS
from presspool.server.database import Database
from presspool.server.witnessing.witness_schema import ConsortiumRow

SEED = 7
CANARY = "vive-la-canary"


def kinds(home: Path) -> list[str]:
    """The kinds of a ledger's entries, in order."""
    with Ledger(home / "ledger.db") as ledger:
        return [entries.parse_entry(body).kind for body in ledger.bodies(0, ledger.book.size)]


def witnessed(home: Path, names: list[str]) -> list[int]:
    """Rounds of which a home keeps a proof that all outlets have cosigned, in order."""
    log = parse_key(Identity.read(home).log_key)
    keys = [Identity.read(home.parent / name).witness.key for name in names]
    found = []
    for file in (home / "witness" / "proofs").iterdir():
        proof = parse_proof(file.read_bytes())
        seen = proof.verify(leaf_hash(proof.extra), log=log, witnesses=keys)
        assert seen == {key.name for key in keys}
        found.append(consortium_entries.parse_entry(proof.extra).round)
    return sorted(found)


def committed(pool: Operators) -> list[consortium_entries.Entry]:
    """The consortium log's entries, as they are in the coordinator's database."""
    database = Database.open(f"sqlite:///{pool.home / 'coordinator.db'}")
    with database.reading() as session:
        rows = session.scalars(select(ConsortiumRow).order_by(ConsortiumRow.number)).all()
    database.close()
    return [consortium_entries.parse_entry(row.body) for row in rows]


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    body = {
        **contract_body,
        "federation": {"rounds": 3, "local_steps": 2, "quorum": 2},
        "privacy": {**contract_body["privacy"], "noise_multiplier": 1.0},
        "outlets": {"north-post": 30, "south-echo": 20, "east-mail": 25},
    }
    path = write_run(tmp_path / "made", body)
    plant(path, reader=f"{CANARY}-reader", text=f"goal {CANARY}-text match", label="sport")
    return path


def plant(run: Path, **row: str) -> None:
    """Add a record to the data of north-post."""
    data = run.parent / "data" / "north-post.parquet"
    table = pq.read_table(data)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([row], table.schema)]), data)


def files_with(word: str, folder: Path) -> list[Path]:
    """Files below a folder that hold a word."""
    return [f for f in folder.rglob("*") if f.is_file() and word.encode() in f.read_bytes()]


@pytest.fixture
def pool(tmp_path: Path, run: Path) -> Iterator[Operators]:
    with Operators(tmp_path, run, deterministic=SEED) as operators:
        operators.make()
        yield operators


def test_separate_outlets_make_the_bytes_of_the_local_grid_whatever_is_killed(
    pool: Operators, run: Path, tmp_path: Path
) -> None:
    names = sorted(pool.contract.outlets)
    expected = simulated_here(run, tmp_path / "simulated", deterministic=SEED)
    # A simulation would not take this record; an outlet leaves it out, and nothing changes.
    plant(run, reader=f"{CANARY}-reader", text="goal", label=f"{CANARY}-label")
    pool.start()
    pool.witnesses = True
    pool.join(names)
    tap = tmp_path / "sent by north-post"
    for name in names:
        pool.start_outlet(name, tap=tap if name == "north-post" else None)
    queued = pool.coordinator("submit", run)
    assert queued["not_members"] == []
    assert queued["contract"] == pool.contract.digest
    again = pool.coordinator("submit", run, code=2)
    assert "submitted before" in again
    assert "another coordinator works here" in pool.type("coordinator", "start", code=2)

    pool.said(names[0], "delivered")  # in the middle of the run
    pool.end("coordinator", signal.SIGKILL)
    pool.end(names[0], signal.SIGKILL)
    pool.start_outlet(names[0])
    pool.start()

    done = pool.wait_for("complete", queued["run"])
    assert done["rounds_done"] == done["rounds"] == 3
    folder = Path(done["folder"])
    result = read_result(folder)
    assert [sorted(found.outlets) for found in result.rounds[1:]] == [names] * 3
    assert checkpointed(folder) == expected
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    for name in names:
        found = kinds(pool.outlet(name))
        assert found.count("reserve") == found.count("settle") == 1
        assert found.count("release-intent") == 3
        assert witnessed(pool.outlet(name), names) == [0, 1, 2]
    told = committed(pool)
    assert [entry.round for entry in told] == [0, 1, 2, 3]
    assert [list(entry.outlets) for entry in told] == [names] * 4
    assert {entry.contract for entry in told} == {pool.contract.digest}
    assert told[-1].adapter == expected
    planted = [CANARY, *(f"{CANARY}-{what}" for what in ("reader", "text", "label"))]
    for file in pool.home.rglob("*"):
        assert not file.is_file() or leaks(file.read_bytes(), planted) == []
    outlet = pool.outlet("north-post")
    sent = tap.read_bytes()
    with Ledger(outlet / "ledger.db") as ledger:
        said = map(entries.parse_entry, ledger.bodies(0, ledger.book.size))
        bound = [entry.digest for entry in said if isinstance(entry, entries.ReleaseIntent)]
    assert len(bound) == 3
    for one in bound:  # the header of every answer that is bound has left through the tap
        assert one.encode() in sent
    assert sent.count(ENCODINGS["float32"].encode()) >= 3  # and so have their arrays
    assert leaks(sent, planted) == []
    assert files_with(CANARY, outlet) == [outlet / SNAPSHOT]  # its own data, and nothing else
    assert pool.coordinator("status")["running"]
    pool.stop()
    assert not pool.coordinator("status")["running"]
    assert pool.end(names[1]) == 0


def test_a_run_goes_on_without_an_outlet_that_was_cut_off_and_can_be_given_up(
    pool: Operators, run: Path
) -> None:
    names = sorted(pool.contract.outlets)
    pool.start()
    pool.join(names[:2])
    queued = pool.coordinator("submit", run, "--phase", 5)
    assert queued["not_members"] == names[2:]
    pool.start_outlet(names[0])  # one of two that are needed: the round stays open
    pool.said(names[0], "delivered")
    pool.said("coordinator", "the round stays open")
    [found] = pool.coordinator("status", queued["run"])["runs"]
    assert found["state"] == "running"
    assert "waiting for outlets" in found["note"]
    states = {line["outlet"]: line["state"] for line in found["outlets"]}
    assert states == {names[0]: "answered", names[1]: "no answer yet", names[2]: "not a member"}

    pool.coordinator("revoke", names[0], "--reason", "laptop stolen")
    process = pool._processes[names[0]]
    assert process.wait(120) != 0  # its agent ends and says why
    assert "revoked" in pool.log(names[0])
    pool.type("coordinator", "stop", queued["run"])
    [found] = pool.coordinator("status", queued["run"])["runs"]
    assert found["state"] == "stopped"
    pool.said("coordinator", "given up")
    assert "has ended already" in pool.type("coordinator", "stop", queued["run"], code=2)
    pool.coordinator("submit", run)  # and it can be taken up again
    assert pool.coordinator("status")["runs"][0]["state"] in ("queued", "running")


@pytest.mark.soak
def test_a_language_model_s_run_in_processes_makes_the_bytes_of_the_simulation(
    tmp_path: Path, writing_body: Callable[[str], dict[str, Any]]
) -> None:
    run = write_run(tmp_path / "made", writing_body("text"))
    with Operators(tmp_path, run, deterministic=SEED) as pool:
        pool.make()
        pool.start()
        pool.join(sorted(pool.contract.outlets))
        queued = pool.coordinator("submit", run)
        for name in pool.contract.outlets:
            pool.start_outlet(name)
        done = pool.wait_for("complete", queued["run"])
    folder = Path(done["folder"])
    assert checkpointed(folder) == simulated_here(run, tmp_path / "simulated", deterministic=SEED)
    one, two = read_result(folder), read_result(tmp_path / "simulated")
    assert (one.samples, one.writing) == (two.samples, two.writing)
    assert [entry.metrics for entry in one.rounds] == [entry.metrics for entry in two.rounds]
    assert len(one.samples) == 10


@pytest.mark.soak
def test_eight_outlets_as_eight_processes_make_the_bytes_of_the_local_grid(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    names = [f"outlet-{number}" for number in range(8)]
    body = {
        **contract_body,
        "outlets": dict.fromkeys(names, 20),
        "privacy": {**contract_body["privacy"], "noise_multiplier": 1.0},
    }
    run = write_run(tmp_path / "made", body)
    with Operators(tmp_path, run, deterministic=SEED) as pool:
        pool.make()
        pool.start()
        pool.join(names)
        queued = pool.coordinator("submit", run)
        for name in names:
            pool.start_outlet(name)
        done = pool.wait_for("complete", queued["run"])
    assert checkpointed(Path(done["folder"])) == simulated_here(
        run, tmp_path / "simulated", deterministic=SEED
    )
