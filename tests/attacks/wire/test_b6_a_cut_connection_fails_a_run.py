"""B.6: connections to PostgreSQL are cut in mid-run, again and again, and the run goes on.

One cut connection failed the run, and a failed run threw away what had been answered (B.5).
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.live_coordinator import live, trains
from tests.fakes.instruments.postgres import Server
from tests.fakes.made_runs import write_run

from presspool.client.agent.agent import Trainer
from presspool.client.round import Round
from presspool.server.coordinator import coordinator

NORTH, SOUTH = "north-post", "south-echo"


def slow(train: Trainer) -> Trainer:
    def work(asked: Round, kept: Path) -> bytes:
        time.sleep(0.3)
        return train(asked, kept)

    return work


@pytest.mark.parametrize(
    ("rounds", "cuts"), [(3, 12), pytest.param(10, 150, marks=pytest.mark.soak)]
)
def test_a_run_outlives_connections_that_are_cut(
    tmp_path: Path,
    contract_body: dict[str, Any],
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    rounds: int,
    cuts: int,
) -> None:
    monkeypatch.setattr(coordinator, "AGAIN_SECONDS", 0.2)
    name = f"cut_{uuid.uuid4().hex}"
    federation = {"rounds": rounds, "local_steps": 1, "quorum": 2}
    run = write_run(tmp_path / "made", contract_body | {"federation": federation})
    with live(tmp_path, run, database=postgres.create(name)) as pool:
        pool.join(NORTH, SOUTH)
        queued = pool.submit()
        for outlet in (NORTH, SOUTH):
            pool.outlet(outlet, slow(trains(outlet)))
        ended = 0
        while ended < cuts:  # one may find no connection open
            time.sleep(0.25)
            ended += postgres.cut(name)
        pool.wait(queued, "complete")
        result = pool.result(queued)
    assert [done.outlets for done in result.rounds[1:]] == [(NORTH, SOUTH)] * rounds
