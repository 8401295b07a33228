"""B.5: a run that is stopped or fails and is submitted again must find the answers of its round.

An outlet's ledger binds one answer to a round, for ever: an answer that the coordinator throws away
can never be trained again. So its row and its body live and die together, and those of the open
round outlive a stop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.fakes.instruments.live_coordinator import Live, live, trains, until
from tests.fakes.made_runs import write_run

from presspool.client.round import Round
from presspool.server.transport.mailbox_schema import ChunkRow, TaskRow, UpdateRow

NORTH, SOUTH = "north-post", "south-echo"


class Once:
    """A trainer that never trains a round twice, as an outlet's ledger has it."""

    def __init__(self, outlet: str) -> None:
        self.train, self.rounds = trains(outlet), list[int]()

    def __call__(self, asked: Round, kept: Path) -> bytes:
        assert asked.number not in self.rounds, "paid for twice"
        self.rounds.append(asked.number)
        return self.train(asked, kept)


def answered(pool: Live) -> int:
    with pool.database.reading() as session:
        return len(session.scalars(select(UpdateRow.task)).all())


def closed(pool: Live) -> bool:
    """Whether the coordinator asks for nothing any more."""
    with pool.database.reading() as session:
        return all(session.scalars(select(TaskRow.closed)))


def bodiless(pool: Live) -> list[str]:
    """Tasks whose answer is there by name only."""
    with pool.database.reading() as session:
        rows = session.scalars(select(UpdateRow)).all()
        owners = set(session.scalars(select(ChunkRow.owner).distinct()))
    return [row.task for row in rows if row.upload not in owners]


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_an_answer_outlives_a_run_that_was_stopped_or_failed(
    tmp_path: Path, contract_body: dict[str, Any], how: str
) -> None:
    run = write_run(tmp_path / "made", contract_body)
    with live(tmp_path, run) as pool:
        pool.join(NORTH, SOUTH)
        name, north, south = pool.submit(), Once(NORTH), Once(SOUTH)
        pool.outlet(NORTH, north)
        until(lambda: answered(pool) == 1)
        held_out = run.parent / "held_out.parquet"
        if how == "stopped":
            pool.runs.mark(name, "stopped")
            until(lambda: closed(pool))
        else:
            pool.stop()
            held_out.rename(held_out.with_suffix(".away"))
            pool.start()
            pool.wait(name, "failed")
            until(lambda: closed(pool))
            held_out.with_suffix(".away").rename(held_out)
        pool.end(NORTH)  # whatever comes, it will not be there again
        assert bodiless(pool) == []
        pool.submit()
        pool.outlet(NORTH, north)
        pool.outlet(SOUTH, south)
        pool.wait(name, "complete")
        result = pool.result(name)
    assert [done.outlets for done in result.rounds[1:]] == [(NORTH, SOUTH)] * 2
    assert [dict(done.refused) for done in result.rounds[1:]] == [{}] * 2
    assert (north.rounds, south.rounds) == ([1, 2], [1, 2])
