"""A.3: when an answer leaves tells a multiple of a public number, and not how long training took.

The attack: a coordinator measures the time between a task and its answer. Training takes longer
for a reader with many long texts, so the time says whether that reader was drawn.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_evidence import made_contract
from tests.fakes.made_pool import POSITION, Pool, adds, made_outlet, open_pool
from tests.fakes.made_runs import STATE
from tests.fakes.made_witnesses import eventually

from presspool.client.agent import agent as agent_
from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.consent.policy import Policy
from presspool.client.release.answer_times import decided_before_data, seconds_to_beat
from presspool.client.round import Round
from presspool.common.base.errors import BudgetError, EngineError, GuardError, PressPoolError
from presspool.common.wire.flower import become_server, node_of
from presspool.common.wire.update import FAILURES, TrainTask, pack_task

NORTH = "north-post"
HOUR = 3600.0
SECONDS = st.floats(0, 1e6, allow_nan=False)


@given(arrived=SECONDS, took=SECONDS, beat=st.floats(0.01, HOUR))
def test_an_answer_leaves_at_a_multiple_of_the_beat(
    arrived: float, took: float, beat: float
) -> None:
    wait = seconds_to_beat(arrived=arrived, now=arrived + took, beat=beat)
    assert 0 < wait <= beat
    beats = (took + wait) / beat
    assert beats == pytest.approx(round(beats), abs=1e-6 * (1 + beats))
    assert round(beats) >= 1


def test_what_a_reader_adds_to_the_time_does_not_show() -> None:
    """One long reader more or less, within a beat: the same moment."""
    left = {took + seconds_to_beat(arrived=0.0, now=took, beat=60.0) for took in (0.2, 7.0, 59.9)}
    assert left == {60.0}
    assert seconds_to_beat(arrived=0.0, now=5.0, beat=0.0) == 0.0
    assert 0 < seconds_to_beat(arrived=1e9, now=5.0, beat=60.0) <= 60.0  # a clock that was set back


def test_real_outlets_wait_unless_their_operator_says_otherwise() -> None:
    assert Policy().answer_seconds == 60.0


def test_only_refusals_without_data_leave_at_once() -> None:
    hurried = {word for code, word in FAILURES.items() if decided_before_data(code)}
    assert not hurried & {"internal-error", "engine-refused", "ledger-unusable", "round-released"}
    assert {"policy-epsilon", "over-budget", "adapter-norm"} <= hurried
    assert not decided_before_data(None)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path, [NORTH]) as pool:
        yield pool


@contextmanager
def working(pool: Pool, trainer: Trainer, beat: float) -> Iterator[tuple[Agent, Spool]]:
    with Spool.open(pool.folder / "work") as spool:
        agent = Agent(
            identity=made_outlet(NORTH),
            spool=spool,
            link=pool.link(NORTH),
            trainer=trainer,
            position=lambda _: POSITION,
            beat=lambda: beat,
            backoff=Backoff(first=0.05, most=0.2),
        )
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield agent, spool
        finally:
            agent.stop()
            thread.join(240)
        assert not thread.is_alive()  # a stop does not sit a beat out


def handed_out(pool: Pool) -> str:
    become_server(run_id=1)
    contract = made_contract()
    text = contract.canonical().decode()
    content = pack_task(TrainTask(contract=text, digest=contract.digest, round=1, state=STATE))
    message = Message(content, node_of(NORTH), "train", group_id="1")
    [task] = pool.grid().push_messages([message])
    return task


def test_an_answer_waits_for_its_beat_and_nothing_hurries_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = handed_out(pool)
    with working(pool, adds(NORTH), HOUR) as (agent, spool):
        eventually(lambda: spool.undelivered() is not None)
        for _ in range(3):
            agent.nudge()  # as news of witnesses do
            time.sleep(0.05)
        assert pool.desk.answered([task]) == set()
        assert agent.busy  # so that its ledger is not published either
        sealed = spool.undelivered()
        assert sealed is not None
        soon = spool.arrived(sealed) + HOUR - 0.2
    monkeypatch.setattr(agent_, "time", SimpleNamespace(time=lambda: soon))  # its beat comes
    with working(pool, adds(NORTH), HOUR) as (agent, _):
        eventually(lambda: pool.desk.answered([task]) == {task})
        eventually(lambda: not agent.busy)


def test_the_beat_is_counted_from_the_arrival_however_long_training_takes(pool: Pool) -> None:
    """Sealing writes to the task's file: counted from there, the wait would be a whole beat."""
    handed_out(pool)
    began = time.time()
    with working(pool, adds(NORTH), HOUR) as (_, spool):
        eventually(lambda: spool.undelivered() is not None)
        task = spool.undelivered()
        assert task is not None
        came = spool.arrived(task)
        later = time.time() + 1000
        os.utime(pool.folder / "work" / f"{task.header.task}.task", (later, later))
        assert began - 1 <= spool.arrived(task) == came < later - 900


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (GuardError("policy-epsilon", "too much"), False),
        (BudgetError("too much", reason="filter", charge=1, free=0), False),
        (EngineError("one reader was too long"), True),
    ],
    ids=["policy", "budget", "engine"],
)
def test_a_refusal_waits_only_if_data_had_part_in_it(
    pool: Pool, error: PressPoolError, waits: bool
) -> None:
    task = handed_out(pool)

    def trainer(asked: Round, kept: Path) -> bytes:
        raise error

    with working(pool, trainer, HOUR) as (_, spool):
        if waits:
            eventually(lambda: spool.undelivered() is not None)
            time.sleep(0.2)
        else:
            eventually(lambda: pool.desk.answered([task]) == {task})
        assert (pool.desk.answered([task]) == set()) == waits


def test_with_no_beat_it_leaves_at_once(pool: Pool) -> None:
    task = handed_out(pool)
    with working(pool, adds(NORTH), 0.0):
        eventually(lambda: pool.desk.answered([task]) == {task})
