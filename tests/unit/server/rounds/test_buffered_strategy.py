"""An aggregation of answers that began at different times: what counts, weighs and is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message
from tests.fakes.made_runs import Arrays, reply, write_run

from presspool.common.base.errors import ContractError, QuorumError
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import AdapterUpdate, RecordState, array_record, unpack_task
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.submission import submit
from presspool.server.rounds.buffered_strategy import BufferedStrategy, strategy_of
from presspool.server.rounds.gathering import OpenGathering
from presspool.server.rounds.strategy import AdapterStrategy

NORTH, SOUTH = 2, 3  # nodes
Body = dict[str, Any]


class DueGrid(RunGrid):
    """A grid on which these tasks' answers are due."""

    def __init__(self, *tasks: tuple[int, int]) -> None:
        super().__init__()
        self._tasks = tasks

    def due(self, number: int) -> Sequence[tuple[int, int]]:  # noqa: ARG002
        return self._tasks

    def get_node_ids(self) -> list[int]:
        return [NORTH, SOUTH]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError


@pytest.fixture
def waiting(contract: Contract) -> Contract:
    """Two answers make an aggregation; they may have begun one before it."""
    table = {"buffer": 2, "staleness": 1, "quorum": 1, "rounds": 9}
    return contract.replace(federation=table)


@pytest.fixture
def states(waiting: Contract) -> list[Arrays]:
    """The adapters from which the tasks of rounds 1, 2 and 3 start, by number less one."""
    first = dict(adapters.read(build(waiting)))
    return [{k: a + np.float32(n) for k, a in first.items()} for n in range(3)]


def at(contract: Contract, number: int, states: list[Arrays], *due: tuple[int, int]) -> Any:
    """The strategy of an aggregation whose tasks were handed out, and these tasks."""
    kept = {f"earlier/{number - 1}/{k}": a for k, a in states[number - 2].items()}
    strategy = BufferedStrategy(contract, kept if number > 1 else {})
    record = array_record(states[number - 1])
    sent = strategy.configure_train(number, record, ConfigRecord({}), DueGrid(*due))
    return strategy, list(sent)


def update(contract: Contract, outlet: str, number: int, base: Arrays, value: float) -> Message:
    said = AdapterUpdate(
        outlet=outlet,
        round=number,
        contract=contract.digest,
        base=adapters.digest(base),
        delta={k: np.full_like(a, value) for k, a in base.items()},
    )
    return reply(said, node=NORTH if outlet == "north-post" else SOUTH)


def test_only_a_contract_with_a_buffer_has_this_strategy(
    contract: Contract, waiting: Contract
) -> None:
    kinds = [type(strategy_of(c, {}, OpenGathering(c))) for c in (contract, waiting)]
    assert kinds == [AdapterStrategy, BufferedStrategy]


def test_each_task_starts_from_its_own_round_s_adapter(
    waiting: Contract, states: list[Arrays]
) -> None:
    strategy, sent = at(waiting, 3, states, (NORTH, 2), (SOUTH, 3))
    tasks = [unpack_task(message.content) for message in sent]
    assert [(m.metadata.dst_node_id, t.round) for m, t in zip(sent, tasks, strict=True)] == [
        (NORTH, 2),
        (SOUTH, 3),
    ]
    for task in tasks:
        assert adapters.digest(task.state) == adapters.digest(states[task.round - 1])
    size = sum(array.nbytes for array in states[0].values())
    assert strategy.traffic.bytes_down == 2 * size


def test_an_old_answer_weighs_less(waiting: Contract, states: list[Arrays]) -> None:
    """30 readers now and 20 of one aggregation ago, by hand."""
    strategy, _ = at(waiting, 3, states, (NORTH, 3), (SOUTH, 2))
    replies = [
        update(waiting, "north-post", 3, states[2], 0.5),
        update(waiting, "south-echo", 2, states[1], -0.25),
    ]
    record, _ = strategy.aggregate_train(3, replies)
    old = 20 / 2**0.5
    moved = (30 * 0.5 - old * 0.25) / (30 + old)
    for name, array in states[2].items():
        np.testing.assert_allclose(RecordState(record)[name], array + moved, rtol=1e-6)
    assert sorted(strategy.traffic.admitted.updates) == ["north-post", "south-echo"]


def test_only_adapters_that_an_answer_may_start_from_are_kept(
    waiting: Contract, states: list[Arrays]
) -> None:
    strategy, _ = at(waiting, 3, states, (NORTH, 3))
    strategy.aggregate_train(3, [update(waiting, "north-post", 3, states[2], 0.1)])
    assert {key.rpartition("/")[0].split("/")[1] for key in strategy.moments} == {"3"}
    again = BufferedStrategy(waiting, strategy.moments)
    sent = again.configure_train(
        4, array_record(states[0]), ConfigRecord({}), DueGrid((SOUTH, 3), (NORTH, 4))
    )
    assert [unpack_task(m.content).round for m in sent] == [3, 4]


WRONG = {
    "another round's adapter": (2, 2, "wrong-base"),
    "too long ago": (1, 0, "wrong-round"),
    "of a later one": (4, 2, "wrong-round"),
}


@pytest.mark.parametrize(("number", "base", "code"), WRONG.values(), ids=WRONG)
def test_an_answer_of_another_task_does_not_count(
    waiting: Contract, states: list[Arrays], number: int, base: int, code: str
) -> None:
    strategy, _ = at(waiting, 3, states, (NORTH, 3), (SOUTH, 2))
    good = update(waiting, "north-post", 3, states[2], 0.5)
    bad = update(waiting, "south-echo", number, states[base], 0.5)
    strategy.aggregate_train(3, [good, bad])
    assert strategy.traffic.admitted.refused == {"south-echo": code}


def test_an_outlet_counts_once(waiting: Contract, states: list[Arrays]) -> None:
    strategy, _ = at(waiting, 3, states, (NORTH, 3), (NORTH, 2))
    twice = [update(waiting, "north-post", n, states[n - 1], 0.5) for n in (2, 3)]
    strategy.aggregate_train(3, twice)
    assert [u.round for u in strategy.traffic.admitted.updates.values()] == [2]
    assert strategy.traffic.admitted.refused == {"north-post": "not-in-cohort"}


def test_too_few_answers_fail_the_aggregation(waiting: Contract, states: list[Arrays]) -> None:
    strategy, _ = at(waiting, 3, states, (NORTH, 3))
    with pytest.raises(QuorumError, match="aggregation 3 has too few"):
        strategy.aggregate_train(3, [update(waiting, "north-post", 1, states[0], 0.5)])


def test_a_coordinator_on_a_network_refuses_it_by_name(tmp_path: Path, contract_body: Body) -> None:
    home = CoordinatorFolder.create(
        tmp_path / "pool", name="pool", address="localhost:7443", database=None, now=1.8e9
    )
    table = contract_body["federation"] | {"buffer": 2, "staleness": 1}
    run = write_run(tmp_path, contract_body | {"federation": table})
    with pytest.raises(ContractError, match="simulated only") as caught:
        submit(home, run, phase=60.0)
    assert caught.value.where == "[federation] buffer"
    assert not (home.path / "runs").exists() or not list((home.path / "runs").iterdir())
