"""The agent against a real coordinator on loopback: what it trains, and what it sends."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.children import pool_children
from tests.fakes.made_pool import (
    CONTRACT_KEY,
    POSITION,
    RUN,
    Pool,
    adds,
    change_of,
    made_outlet,
    made_task,
    open_pool,
    seeded_key,
    task_body,
    tasks_of,
)
from tests.fakes.made_runs import STATE
from tests.fakes.made_witnesses import eventually

from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.round import Round
from presspool.client.sums.sum_party import forget
from presspool.common.base.errors import (
    AdmissionError,
    BudgetError,
    BusyError,
    EvidenceError,
    FolderError,
    GuardError,
    LinkError,
    ModelError,
    NotNowError,
    StorageError,
)
from presspool.common.base.locks import locked
from presspool.common.base.stopping import until_signalled
from presspool.common.models.adapters import digest
from presspool.common.wire.envelope import UpdateHeader, body_digest, sign_task
from presspool.common.wire.flower import from_bytes
from presspool.common.wire.update import FAILURES, unpack_update
from presspool.server.transport.call_limits import Limits

NORTH = "north-post"
CANARY = "reader-4711 wrote: vive la canary"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path, [NORTH]) as pool:
        yield pool


class Counting:
    """A trainer that counts what it is asked."""

    def __init__(self) -> None:
        self.train, self.asked = adds(NORTH), list[Round]()

    def __call__(self, asked: Round, kept: Path) -> bytes:
        self.asked.append(asked)
        return self.train(asked, kept)


class Patient(Counting):
    """A trainer that says "not now" so many times, as quiet hours would."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def __call__(self, asked: Round, kept: Path) -> bytes:
        if self.times:
            self.times -= 1
            self.asked.append(asked)
            advice = "wait until six"
            raise NotNowError("not-now-quiet-hours", "these are quiet hours", advice=advice)
        return super().__call__(asked, kept)


def hand_out(pool: Pool, round: int = 1, outlet: str = NORTH) -> str:
    body = task_body(round)
    task = made_task(outlet, body, round=round)
    pool.desk.hand_out([task], body)
    return task[0].task


def delivered(pool: Pool, task: str) -> tuple[UpdateHeader, bytes]:
    header, body = pool.desk.update(task)
    return header, body.read(header.bytes)


def test_a_task_is_fetched_trained_and_delivered(pool: Pool) -> None:
    task, trainer = hand_out(pool), Counting()
    with pool.node(NORTH, trainer) as node:
        for _ in range(3):
            assert node.step()
    header, body = delivered(pool, task)
    update = unpack_update(from_bytes(body))
    assert (update.outlet, update.round, update.base) == (NORTH, 1, digest(STATE))
    assert digest(update.delta) == digest(change_of(NORTH, 1))
    assert (header.reserve, header.root) == POSITION
    (asked,) = trainer.asked
    assert (asked.number, asked.base) == (1, digest(STATE))


def test_without_a_task_it_waits_and_asks_again(pool: Pool) -> None:
    with pool.node(NORTH, trainer := Counting()) as node:
        assert node.step()
    assert trainer.asked == []


def test_what_is_sent_again_after_a_restart_is_the_very_same_reply(pool: Pool) -> None:
    task, trainer = hand_out(pool), Counting()
    with pool.node(NORTH, trainer) as node:
        node.step()
        node.step()
        (file,) = (pool.folder / f"work of {NORTH}").glob("*.reply")
        sealed = file.read_bytes()
    with pool.node(NORTH, trainer) as node:  # a new process
        node.step()
    header, body = delivered(pool, task)
    assert sealed.endswith(body)
    assert header.body == body_digest(body)
    assert len(trainer.asked) == 1


def test_a_task_that_comes_twice_trains_once(pool: Pool) -> None:
    task, trainer = hand_out(pool), Counting()
    with pool.node(NORTH, trainer) as node:
        node.step()
        node.step()
        pool.desk.close([task])
        with pytest.raises(AdmissionError) as refused:
            node.step()
        assert refused.value.code == "late"
        with pool.desk._writing() as session:  # the coordinator opens the round again
            session.connection().exec_driver_sql("UPDATE tasks SET closed = false")
        assert node.step() is False  # the same task again: no progress, so it will wait
        assert node.step()
    assert len(trainer.asked) == 1
    assert delivered(pool, task)[0].round == 1
    assert [refusal.code for refusal in pool.desk.refusals()] == ["late"]


def test_it_trains_while_the_link_is_down_and_delivers_when_it_is_back(
    tmp_path: Path,
) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        task = hand_out(pool)
        with pool.node(NORTH) as node:
            node.step()
        certificates, port = pool.certificates, pool.port
    with pool.node(NORTH, trainer := Counting()) as node:
        node.step()
        assert len(trainer.asked) == 1
        for _ in range(2):
            with pytest.raises(LinkError):
                node.step()
        with open_pool(tmp_path, [NORTH], certificates=certificates, port=port) as pool:
            node.step()
            assert pool.desk.answered([task]) == {task}
    assert len(trainer.asked) == 1


def test_a_disk_that_refuses_loses_no_answer_that_may_be_bound(pool: Pool) -> None:
    """What is bound in the ledger is paid for: no failure may be sealed in its place."""
    task, trainer = hand_out(pool), Counting()

    def refusing(asked: Round, kept: Path) -> bytes:
        kept.write_bytes(b"bound, perhaps")
        raise StorageError("the ledger cannot be read or written")

    with pool.node(NORTH, refusing) as node:
        node.step()
        with pytest.raises(StorageError):
            node.step()
    folder = pool.folder / f"work of {NORTH}"
    assert [file.suffix for file in sorted(folder.glob(f"{task}.*"))] == [
        ".answer",
        ".arrived",
        ".task",
    ]
    with pool.node(NORTH, trainer) as node:
        for _ in range(2):
            node.step()
    assert delivered(pool, task)[0].failure is None


def test_an_outlet_s_sums_that_another_program_has_are_tried_again(pool: Pool) -> None:
    """It may be an operator who ends another run: no failure is told for that."""
    task, trainer = hand_out(pool), Counting()
    home = pool.folder / "home"
    (home / "sums").mkdir(parents=True)
    (home / "sums" / "0").touch()

    def sums(asked: Round, kept: Path) -> bytes:
        forget(home, "sha256:0")
        return trainer(asked, kept)

    with pool.node(NORTH, sums) as node:
        node.step()
        with (
            locked(home / "sums.lock", busy=FolderError("held")),
            pytest.raises(BusyError, match="another program"),
        ):
            node.step()
        for _ in range(2):
            node.step()
    assert delivered(pool, task)[0].failure is None


def test_a_task_that_was_put_off_is_asked_for_again_after_a_restart(pool: Pool) -> None:
    """The first round pays for the whole run: nobody pays for a round that is over."""
    task = hand_out(pool)
    with pool.node(NORTH, Patient(1)) as node:
        node.step()
        with pytest.raises(NotNowError):
            node.step()
    pool.desk.close([task])
    with pool.node(NORTH, trainer := Counting()) as node:
        assert node.step()
    assert trainer.asked == []


# --- What it does not train ---------------------------------------------------------------------


def refuses(pool: Pool, trainer: Counting, what: str) -> None:
    """The next task is refused before anything of it is kept."""
    with pool.node(NORTH, trainer) as node, pytest.raises(EvidenceError, match=what):
        node.step()


def spoil_task(pool: Pool, **changes: object) -> None:
    """Let the coordinator hand out a task with another, rightly signed header."""
    body = task_body(1)
    header, _ = made_task(NORTH, body)
    spoiled = replace(header, **changes)  # type: ignore[arg-type]
    pool.desk.hand_out([(spoiled, sign_task(spoiled, CONTRACT_KEY))], body)


def test_a_task_that_the_contract_key_did_not_sign_is_refused(pool: Pool) -> None:
    body = task_body(1)
    header, _ = made_task(NORTH, body)
    pool.desk.hand_out([(header, sign_task(header, seeded_key("thief")))], body)
    refuses(pool, trainer := Counting(), "does not verify")
    assert trainer.asked == []


def test_another_outlet_s_task_is_refused(pool: Pool) -> None:
    body = task_body(1)
    pool.desk.hand_out([made_task("south-echo", body)], body)
    with pool.desk._writing() as session:  # a coordinator that mixes up its outlets
        session.connection().exec_driver_sql(f"UPDATE tasks SET outlet = '{NORTH}'")
    refuses(pool, trainer := Counting(), "another outlet")
    assert trainer.asked == []


def test_an_earlier_round_s_task_is_refused(pool: Pool) -> None:
    hand_out(pool, round=2)
    with pool.node(NORTH, trainer := Counting()) as node:
        for _ in range(3):
            node.step()
    body = task_body(1)
    pool.desk.hand_out([made_task(NORTH, body)], body)
    refuses(pool, trainer, "earlier round")
    assert len(trainer.asked) == 1


def test_phases_are_done_in_their_order_and_an_earlier_one_is_refused(pool: Pool) -> None:
    trainer = Counting()
    for phase in (2, 1):
        body = task_body(1, phase=phase)
        task, signed = made_task(NORTH, body, phase=phase)
        if phase == 2:
            pool.desk.hand_out([(task, signed)], body)
            with pool.node(NORTH, trainer) as node:
                for _ in range(3):
                    node.step()
            header, said = delivered(pool, task.task)
            assert (header.phase, unpack_update(from_bytes(said)).phase) == (2, 2)
            with pool.desk._writing() as session:  # a coordinator that forgot it
                session.connection().exec_driver_sql("DELETE FROM updates")
                session.connection().exec_driver_sql("DELETE FROM tasks")
        else:
            pool.desk.hand_out([(task, signed)], body)
    refuses(pool, trainer, "earlier round or phase")
    assert len(trainer.asked) == 1


def test_a_round_s_task_that_changed_is_refused(tmp_path: Path) -> None:
    """A coordinator that lost its database, or wants a second training of the same round."""
    trainer = Counting()
    with open_pool(tmp_path, [NORTH]) as pool:
        hand_out(pool)
        with pool.node(NORTH, trainer) as node:
            for _ in range(3):
                node.step()
        for file in tmp_path.glob("coordinator.db*"):
            file.unlink()
    with open_pool(tmp_path, [NORTH]) as pool:
        hand_out(pool)
        refuses(pool, trainer, "has changed")
    assert len(trainer.asked) == 1


def test_a_run_whose_contract_changed_is_refused(pool: Pool) -> None:
    hand_out(pool)
    with pool.node(NORTH, trainer := Counting()) as node:
        for _ in range(3):
            node.step()
    body = task_body(2)
    pool.desk.hand_out([made_task(NORTH, body, round=2, contract="sha256:" + "d" * 64)], body)
    refuses(pool, trainer, "another contract")
    assert len(trainer.asked) == 1


def test_a_task_that_cannot_be_taken_is_in_no_other_s_way(pool: Pool) -> None:
    """It stays open at the coordinator, and is the oldest there, for ever."""
    large = task_body(1)
    body = large[:-1]
    pool.desk.hand_out([made_task(NORTH, large, run="run-0")], large)
    good = made_task(NORTH, body)
    pool.desk.hand_out([good], body)
    with pool.node(NORTH, largest_task=len(body)) as node:
        with pytest.raises(EvidenceError, match="too large"):
            node.step()
        for _ in range(3):
            assert node.step()
        assert pool.desk.answered([good[0].task]) == {good[0].task}
        with pytest.raises(EvidenceError, match="too large"):  # there is no other now
            node.step()


@pytest.mark.parametrize(
    "changes",
    [{"contract": "sha256:" + "d" * 64}, {"base": "sha256:" + "d" * 64}],
)
def test_a_body_that_is_not_what_the_header_says_is_not_trained(
    pool: Pool, changes: dict[str, object]
) -> None:
    spoil_task(pool, **changes)
    trainer = Counting()
    with pool.node(NORTH, trainer) as node:
        for _ in range(3):
            node.step()
    assert trainer.asked == []
    (task,) = pool.desk.answered([made_task(NORTH, b"")[0].task])
    assert delivered(pool, task)[0].failure == 1


def test_another_round_s_or_no_body_is_not_trained(pool: Pool) -> None:
    for round, body in ((1, task_body(5)), (2, b"not a message's content")):
        task = made_task(NORTH, body, round=round)
        pool.desk.hand_out([task], body)
        with pool.node(NORTH, trainer := Counting()) as node:
            for _ in range(3):
                node.step()
        assert trainer.asked == []
        assert delivered(pool, task[0].task)[0].failure == 1


# --- Failures and the end -----------------------------------------------------------------------


def raising(error: Exception) -> Trainer:
    def train(asked: Round, kept: Path) -> bytes:
        raise error

    return train


@pytest.mark.parametrize(
    ("trainer", "failure"),
    [
        (raising(ValueError(CANARY)), 5),
        (raising(MemoryError(CANARY)), 5),
        (raising(BudgetError(CANARY, reason="total", charge=2, free=1)), 8),
        (raising(ModelError(CANARY)), 2),
        (raising(GuardError("no-such-code", CANARY)), 5),
        (lambda *_: b"", 5),
    ],
)
def test_of_a_failure_only_a_code_leaves(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, trainer: Trainer, failure: int
) -> None:
    """Every message that the outlet hands to gRPC is captured, before TLS."""
    from presspool.client.identity import coordinator_client

    sent: list[bytes] = []
    parts = coordinator_client._parts

    def captured(*args: object) -> Iterator[object]:
        for part in parts(*args):  # type: ignore[arg-type]
            sent.append(part.SerializeToString())
            yield part

    monkeypatch.setattr(coordinator_client, "_parts", captured)
    task = hand_out(pool)
    with pool.node(NORTH, trainer) as node:
        for _ in range(3):
            node.step()
    header, body = delivered(pool, task)
    assert (header.failure, body) == (failure, b"")
    assert header.failure in FAILURES
    assert len(sent) == 1
    assert CANARY.encode() not in b"".join(sent)
    for file in pool.folder.glob("coordinator.db*"):
        assert CANARY.encode() not in file.read_bytes()


def test_waiting_is_one_calm_line_until_the_delivery(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that an operator would take for a fault comes before a healthy delivery."""
    caplog.set_level(logging.INFO, "presspool")
    task = hand_out(pool)
    with pool.node(NORTH, Patient(3)) as node:
        thread = threading.Thread(target=node.run)
        thread.start()
        until = time.monotonic() + 120
        while "delivered" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
        node.stop()
        thread.join(120)
    assert delivered(pool, task)[0].failure is None
    said = [record for record in caplog.records if record.name.startswith("presspool.client")]
    assert max(record.levelno for record in said) == logging.INFO
    assert not any(record.exc_info for record in said)
    lines = [record.getMessage() for record in said]
    assert lines.count("round 1 of run run-1: training") == 1  # it was tried four times
    [waits] = [line for line in lines if "waits" in line]
    assert waits == "run run-1 waits: these are quiet hours; to do: wait until six"


def test_it_goes_on_for_as_long_as_nobody_answers_and_ends_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_pool(tmp_path, [NORTH]) as pool:
        pass
    caplog.set_level(logging.WARNING, "presspool")
    with pool.node(NORTH) as node:
        thread = threading.Thread(target=node.run)
        thread.start()
        until = time.monotonic() + 120
        while len(caplog.records) < 4 and time.monotonic() < until:
            time.sleep(0.02)
        assert thread.is_alive()
        node.stop()
        thread.join(120)
        assert not thread.is_alive()
    assert all("trying again" in record.getMessage() for record in caplog.records)


def test_a_revoked_outlet_s_agent_ends_with_that_error(pool: Pool) -> None:
    pool.members.revoked.add(NORTH)
    with pool.node(NORTH) as node, pytest.raises(AdmissionError) as error:
        node.run()
    assert error.value.code == "revoked"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_even_a_training_and_leaves_the_task_unfinished(
    pool: Pool, kind: signal.Signals
) -> None:
    hand_out(pool)
    pool.certificates.write(pool.folder)
    child = pool_children.start(pool_children.sleeper, pool.folder, pool.port, NORTH)
    eventually((pool.folder / pool_children.ASLEEP).exists)
    assert child.pid is not None
    os.kill(child.pid, kind)
    child.join(120)
    assert child.exitcode == 0
    with Spool.open(pool.folder / "work") as spool:
        assert spool.undelivered() is None
        assert spool.unfinished() is not None
    assert pool.desk.refusals() == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting_for_a_task(tmp_path: Path, kind: signal.Signals) -> None:
    """The grace is longer than the test may last: here nothing but the stop ends the waiting."""

    def end() -> None:
        eventually(lambda: bool(slow.service_streams()))
        os.kill(os.getpid(), kind)

    with (
        open_pool(tmp_path, [NORTH], limits=Limits(poll=600.0)) as slow,
        until_signalled(grace=600.0) as signalled,
        slow.node(NORTH) as node,
    ):
        signalled.then(node.stop)
        ending = threading.Thread(target=end)
        ending.start()
        node.run()
        ending.join()


def test_waits_grow_and_are_random_and_bounded() -> None:
    backoff = Backoff(first=1.0, most=60.0)
    for failures, most in ((1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (10_000, 60.0)):
        waits = [backoff.seconds(failures) for _ in range(50)]
        assert max(waits) <= most
        assert len(set(waits)) > 25
        assert max(waits) > most / 4


def test_a_task_that_is_put_off_waits_and_is_trained_once_it_may_be(pool: Pool) -> None:
    task, trainer = hand_out(pool), Patient(times=2)
    with pool.node(NORTH, trainer) as node:
        node.step()
        for _ in range(2):
            with pytest.raises(NotNowError):
                node.step()
        assert pool.desk.answered([task]) == set()  # "not now" is no answer
        node.step()
        node.step()
    header, _ = delivered(pool, task)
    assert header.failure is None
    assert len(trainer.asked) == 3


def test_a_task_that_was_put_off_until_its_round_was_over_is_never_trained(pool: Pool) -> None:
    """Its budget would be spent on an answer that nobody wants any more."""
    task, trainer = hand_out(pool), Patient(times=1)
    with pool.node(NORTH, trainer) as node:
        node.step()
        with pytest.raises(NotNowError):
            node.step()
        pool.desk.close([task])
        node.step()
        assert len(trainer.asked) == 1
        newer = hand_out(pool, round=2)
        for _ in range(3):
            node.step()
    assert pool.desk.answered([task, newer]) == {newer}
    assert [asked.number for asked in trainer.asked] == [1, 2]


def test_several_runs_are_served_one_after_the_other(pool: Pool) -> None:
    body = task_body(1)
    runs = [RUN, "run-2", "run-3"]
    tasks = [made_task(NORTH, body, run=run) for run in runs]
    for task in tasks:
        pool.desk.hand_out([task], body)
    with pool.node(NORTH, trainer := Counting()) as node:
        for _ in range(9):
            node.step()
    assert len(trainer.asked) == 3
    assert len(pool.desk.answered(task[0].task for task in tasks)) == 3


def test_an_impostor_s_update_is_refused_and_dropped(pool: Pool) -> None:
    """The certificate is the outlet's, but not the key that signs."""
    task = hand_out(pool)
    thief = replace(made_outlet(NORTH), update=seeded_key("thief"))
    with pool.node(NORTH, identity=thief) as node:
        node.step()
        node.step()
        with pytest.raises(AdmissionError):
            node.step()
    assert pool.desk.answered([task]) == set()
    assert [refusal.code for refusal in pool.desk.refusals()] == ["bad-signature"]
    assert len(tasks_of(pool, 1)) == 1


def test_a_task_that_was_put_off_is_trained_as_soon_as_what_it_waits_for_is_there(
    pool: Pool,
) -> None:
    task, trainer = hand_out(pool), Patient(1)
    with Spool.open(pool.folder / "patient") as spool:
        node = Agent(
            identity=made_outlet(NORTH),
            spool=spool,
            link=pool.link(NORTH),
            trainer=trainer,
            position=lambda _: POSITION,
            backoff=LongWait(),
        )
        working = threading.Thread(target=node.run)
        working.start()
        eventually(lambda: len(trainer.asked) == 1)
        node.nudge()  # else it would wait for an hour
        eventually(lambda: len(trainer.asked) == 2)
        eventually(lambda: pool.desk.answered([task]) == {task})
        node.stop()
        working.join(240)
    assert not working.is_alive()


class LongWait(Backoff):
    """Waits that no test could sit out."""

    def seconds(self, failures: int) -> float:
        return 3600.0 * failures
