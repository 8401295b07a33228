"""The doctor says what works, what does not, and what to do about it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes.made_coordinator import Pool
from tests.fakes.made_runs import toml

from presspool import cli
from presspool.client.agent.assembly import check_home
from presspool.client.agent.doctor import FAULT, OK, WARNING, Diagnosis, examine
from presspool.client.data.snapshots import SNAPSHOT, freeze
from presspool.client.identity.identity import Identity, identity_folder
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.accounting.filter import Caps
from presspool.common.base.console import guarded
from presspool.common.base.errors import DataError
from presspool.common.data.tables import Columns
from presspool.common.ledger.store import Ledger
from presspool.common.models.base_model import resolve
from presspool.common.pki.certificates import DAY
from presspool.common.pki.keys import SigningKey
from presspool.common.transparency import notes
from presspool.common.wire.peers import PeerKeys

NAME = "daily-bugle"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool.started(tmp_path) as started:
        yield started


@pytest.fixture
def run(tiny_base: Path, tmp_path: Path) -> Path:
    """A run on the tiny base, with which the engine is tried."""
    path = tmp_path / "run.toml"
    path.write_text(
        f"""
        name = "test"
        model = {{ id = "{tiny_base}" }}
        task = {{ labels = ["a", "b"], max_length = 12 }}
        adapter = {{ rank = 2, alpha = 4, targets = ["query", "value"] }}
        federation = {{ rounds = 1, local_steps = 1, quorum = 1 }}
        outlets = {{ {NAME} = 1000 }}
        privacy = {{ noise_multiplier = 1.0, clip = 1.0, sampling_rate = 0.1 }}
        optimizer = {{ learning_rate = 0.1 }}
        """
    )
    return path


@pytest.fixture
def outlet(pool: Pool, tiny_base: Path, tmp_path: Path) -> Identity:
    """An outlet that has joined, with data and a ledger."""
    home = tmp_path / "outlet"
    identity = pool.join(pool.invite(NAME), home)
    (home / "readers.csv").write_text("reader,text,label\nr1,a canary of a reader,a\n")
    (home / "outlet.toml").write_text(f'name = "{NAME}"\ndata = "readers.csv"\n')
    assert typed_import(home) == 0
    _make_ledger(home, identity.keys.log)
    pins = resolve(str(tiny_base), weights=None, tokenizer=None).pins
    pin = {"name": str(tiny_base), **pins, "folder": str(tiny_base)}
    (home / "policy.toml").write_text(toml({"base_models": [pin]}))
    peer = PeerKeys.made("evening-star", witness=b"w" * 32, log=b"l" * 32)
    trusted_peers.approve(home, peer, peer.fingerprint, own=identity.peer)
    return identity


def typed_import(home: Path) -> int:
    try:
        return guarded(lambda: cli.app(["outlet", "import", "--home", str(home)]))
    except SystemExit as stop:
        return int(str(stop.code))


def _make_ledger(home: Path, key: SigningKey) -> None:
    signer = notes.Signer.load(f"presspool/{NAME}", key.secret, kind=notes.NOTE)
    Ledger.create(
        home / "ledger.db",
        signer=signer,
        order=6,
        unit="reader",
        delta=1e-5,
        caps=Caps(epsilon_max=8.0),
    ).close()


def _found(outlet: Identity, run: Path) -> dict[str, Diagnosis]:
    return {finding.check: finding for finding in examine(outlet.home, run=run)}


def test_an_outlet_that_is_ready_has_no_fault_and_no_warning(outlet: Identity, run: Path) -> None:
    found = _found(outlet, run)
    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(
        (
            "identity",
            "link",
            "clock",
            "version",
            "ledger",
            "software",
            "data",
            "erased",
            "disk",
            "engine",
            "witnesses",
        ),
        OK,
    )


@pytest.mark.parametrize(
    ("ahead", "state", "side"),
    [
        (30, OK, "behind"),
        (1800, WARNING, "behind"),
        (-1800, WARNING, "ahead"),
        (5000, FAULT, "behind"),
        (-5000, FAULT, "ahead"),
    ],
)
def test_a_clock_that_is_wrong_is_found(
    pool: Pool, outlet: Identity, run: Path, ahead: float, state: str, side: str
) -> None:
    pool.clock.ahead = ahead
    clock = _found(outlet, run)["clock"]
    assert clock.state == state
    assert side in clock.found
    assert bool(clock.advice) == (state != OK)


def test_a_coordinator_that_revoked_us_or_is_away_is_named(
    pool: Pool, outlet: Identity, run: Path
) -> None:
    pool.members.revoke(NAME, "laptop stolen")
    found = _found(outlet, run)
    assert (found["link"].state, found["clock"].state) == (FAULT, WARNING)
    assert "revoked" in found["link"].found
    state = json.loads((identity_folder(outlet.home) / "coordinator.json").read_bytes())
    state["address"] = "localhost:1"
    (identity_folder(outlet.home) / "coordinator.json").write_text(json.dumps(state))
    away = _found(outlet, run)["link"]
    assert away.state == FAULT
    assert "localhost:1" in away.found


def test_an_outlet_that_has_not_joined_is_told_to(tmp_path: Path, run: Path) -> None:
    found = {finding.check: finding for finding in examine(tmp_path, run=run)}
    assert found["identity"].state == FAULT
    assert "outlet join" in found["identity"].advice
    assert "link" not in found


def test_a_certificate_that_did_not_renew_in_time_is_found(
    pool: Pool, tmp_path: Path, run: Path
) -> None:
    token = pool.invite(NAME)
    pool.clock.ahead = -25 * DAY
    identity = pool.join(token, tmp_path / "outlet")
    pool.clock.ahead = 0
    found = _found(identity, run)["identity"]
    assert found.state == WARNING
    assert "outlet run" in found.advice


def test_a_ledger_of_another_key_missing_or_damaged_is_found(outlet: Identity, run: Path) -> None:
    path = outlet.home / "ledger.db"
    whole = path.read_bytes()
    path.unlink()
    assert _found(outlet, run)["ledger"].state == WARNING
    _make_ledger(outlet.home, SigningKey.generate())
    assert "another key" in _found(outlet, run)["ledger"].found
    path.write_bytes(whole[: len(whole) // 2])
    assert _found(outlet, run)["ledger"].state == FAULT


def test_data_that_is_missing_or_has_other_columns_is_found(outlet: Identity, run: Path) -> None:
    data, snapshot = outlet.home / "readers.csv", outlet.home / "snapshot.parquet"
    assert _found(outlet, run)["data"].state == OK
    os.utime(data, (time.time() + 60, time.time() + 60))
    found = _found(outlet, run)["data"]
    assert (found.state, found.advice) == (WARNING, "presspool outlet import")
    data.unlink()
    assert _found(outlet, run)["data"].state == OK  # it is the snapshot that is trained on
    settings = outlet.home / "outlet.toml"
    settings.write_text(settings.read_text() + '[columns]\ntext = "title"\n')
    found = _found(outlet, run)["data"]
    assert (found.state, "[columns]" in found.found) == (FAULT, True)
    snapshot.unlink()
    found = _found(outlet, run)["data"]
    assert (found.state, found.advice) == (FAULT, "presspool outlet import")


def test_the_agent_does_not_start_on_data_that_was_not_imported(outlet: Identity) -> None:
    settings, snapshot = outlet.home / "outlet.toml", outlet.home / "snapshot.parquet"
    settings.write_text(
        f'name = "{NAME}"\ndata = "readers.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
    )
    check_home(outlet.home, outlet)
    moved = outlet.home.rename(outlet.home.with_name("moved"))
    check_home(moved, outlet)  # a home may move as a whole
    moved.rename(outlet.home)
    whole = snapshot.read_bytes()
    pq.write_table(pa.table({"reader": ["a"], "text": ["x"], "label": ["a"]}), snapshot)
    with pytest.raises(DataError, match="not a snapshot"):
        check_home(outlet.home, outlet)
    snapshot.unlink()
    with pytest.raises(DataError, match="presspool outlet import"):
        check_home(outlet.home, outlet)
    snapshot.write_bytes(whole)
    settings.write_text(settings.read_text().replace("readers.csv", "others.csv"))
    with pytest.raises(DataError, match="another `data` than"):
        check_home(outlet.home, outlet)


def test_nothing_of_the_readers_is_sent(pool: Pool, outlet: Identity, run: Path) -> None:
    before = len(pool.received)
    _found(outlet, run)
    assert pool.received[before:] == [b""]


def test_the_command_prints_and_its_exit_code_can_be_trusted(
    outlet: Identity,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def typed(*arguments: object) -> int:
        command = ["presspool", "outlet", "doctor", "--home", outlet.home, "--run", run, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code if isinstance(ended.value.code, int) else 0

    assert typed() == 0
    assert "canary" not in capsys.readouterr().out
    (outlet.home / "snapshot.parquet").unlink()
    assert typed("--json") == 1
    assert {line["check"]: line["state"] for line in json.loads(capsys.readouterr().out)}[
        "data"
    ] == FAULT


def test_witnesses_that_cannot_be_enough_are_not_asked_for_or_caught_the_coordinator(
    outlet: Identity, run: Path
) -> None:
    assert "1 of 1 approved peers" in _found(outlet, run)["witnesses"].found
    trusted_peers.withdraw(outlet.home, "evening-star")
    found = _found(outlet, run)["witnesses"]
    assert (found.state, "peers approve NAME FINGERPRINT" in found.advice) == (FAULT, True)
    (outlet.home / "policy.toml").write_text("[witnesses]\nrequired = false\n")
    found = _found(outlet, run)["witnesses"]
    assert (found.state, "not required" in found.found) == (WARNING, True)
    WitnessFolder.at(outlet.home).contradicted("planted", heads=[])
    found = _found(outlet, run)["witnesses"]
    assert (found.state, "contradicts itself" in found.found) == (FAULT, True)


def test_data_of_any_task_that_the_policy_takes_will_do(tmp_path: Path) -> None:
    rows = [{"reader": "ann", "prompt": "Who won?", "answer": "Nobody."}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    (tmp_path / "outlet.toml").write_text(f'name = "{NAME}"\ndata = "data.parquet"\n')
    kept: dict[str, Any] = {"columns": Columns(), "kept": ("prompt", "answer")}
    freeze(tmp_path / "data.parquet", tmp_path / SNAPSHOT, **kept)
    for tasks, state in (
        (None, FAULT),
        ([], FAULT),
        (["classification"], FAULT),
        (["classification", "generation"], OK),
        (["generation"], OK),
    ):
        if tasks is not None:
            (tmp_path / "policy.toml").write_text(toml({"tasks": tasks}))
        found = next(each for each in examine(tmp_path, run=None) if each.check == "data")
        assert found.state == state, found
        assert state == OK or "no column text, label" in found.found
