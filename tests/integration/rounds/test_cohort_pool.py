"""A pool whose rounds ask some of its outlets: who is not asked waits; the bytes are the same.

The coordinator's port, the outlets' agents, their policies and ledgers are real; all work in this
process, one outlet at a time.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.instruments.live_coordinator import Live, live, until
from tests.fakes.made_outlets import RealOutlet, make_real, policy_body
from tests.fakes.made_runs import checkpointed, simulated_here, write_run

from presspool.client.agent.agent import Trainer
from presspool.client.client_app import work
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.common.contract.cohorts import cohort_of, rounds_of
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.runs.run_folder import RunFolder
from presspool.server.coordinator.status import open_round

SEED, ROUNDS = 7, 3
AT_WORK = threading.Lock()


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    body = {
        **contract_body,
        "federation": {"rounds": ROUNDS, "local_steps": 1, "quorum": 2, "cohort": 2},
        "privacy": {**contract_body["privacy"], "noise_multiplier": 1.0},
        "outlets": {"north-post": 30, "south-echo": 20, "east-mail": 25},
    }
    return write_run(tmp_path / "made", body)


def made_real(settings: Path, contract: Contract) -> RealOutlet:
    """A simulated outlet's copy with policy and ledger."""
    home, before = settings.with_suffix(""), read_settings(settings)
    home.mkdir()
    own = home / "outlet.toml"
    own.write_text(f'name = "{before.name}"\ndata = "{before.data}"\ndeterministic = {SEED}\n')
    made = make_real(own, contract, trial=True)
    made.allow(policy_body(contract))
    return made


def trainer(outlet: RealOutlet) -> Trainer:
    """What an outlet's agent does with a task."""

    def train(asked: Round, kept: Path) -> bytes:
        torch.set_num_threads(1)
        with AT_WORK:
            return work(asked, read_settings(outlet.settings), kept=kept, loopback=True)

    return train


def released(outlet: RealOutlet) -> list[int]:
    """The rounds in which an outlet bound an answer, of a run that it settled."""
    with Ledger(outlet.ledger) as ledger:
        said = [entries.parse_entry(body) for body in ledger.bodies(0, ledger.book.size)]
        assert not ledger.book.dangling
    return [entry.round for entry in said if isinstance(entry, entries.ReleaseIntent)]


def states(pool: Live, run: str, contract: Contract, number: int) -> dict[str, str]:
    """What `coordinator status` says of each outlet in a round."""
    names = cohort_of(contract, number)
    lines = open_round(pool.database, pool.runs.get(run), names, number)
    return {line["outlet"]: line["state"] for line in lines}


def test_outlets_take_turns_and_make_the_bytes_of_the_local_grid(tmp_path: Path, run: Path) -> None:
    expected = simulated_here(run, tmp_path / "simulated", deterministic=SEED)
    contract = RunFolder(tmp_path / "simulated").read_contract()
    homes = {
        name: made_real(tmp_path / "simulated" / "outlets" / f"{name}.toml", contract)
        for name in contract.outlets
    }
    late, other = cohort_of(contract, 1)
    with live(tmp_path, run) as pool:
        pool.join(*homes)
        for name in homes:
            if name != late:  # without it the first round has too few
                pool.outlet(name, trainer(homes[name]))
        queued = pool.submit()
        there = {late: "no answer yet", other: "answered"}
        until(lambda: states(pool, queued, contract, 1) == there)
        pool.outlet(late, trainer(homes[late]))
        pool.wait(queued, "complete")
        result = pool.result(queued)
    assert [done.outlets for done in result.rounds[1:]] == [
        cohort_of(contract, number) for number in range(1, ROUNDS + 1)
    ]
    assert checkpointed(tmp_path / "coordinator" / "runs" / queued) == expected
    assert {name: released(home) for name, home in homes.items()} == {
        name: [*rounds_of(contract, name)] for name in homes
    }


def test_a_round_that_lost_too_many_of_its_cohort_ends_the_run(tmp_path: Path, run: Path) -> None:
    with live(tmp_path, run) as pool:
        pool.join("north-post", "south-echo", "east-mail")
        queued = pool.submit()
        contract = RunFolder(tmp_path / "coordinator" / "runs" / queued).read_contract()
        pool.runs.drop(queued, cohort_of(contract, 1)[0], "it lies")
        assert "too few outlets are left" in pool.wait(queued, "failed").note
