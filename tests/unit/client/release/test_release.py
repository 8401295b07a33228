"""The one exit: the listed fields and nothing else, within the norm cap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from tests.fakes.instruments.detectors import CANARY, check_failure

from presspool.client.release.release import release, release_failure, release_words
from presspool.common.base.errors import (
    AdmissionError,
    ContractError,
    DataError,
    EngineError,
    FolderError,
    InputError,
    ModelError,
    PlanError,
    PressPoolError,
    SelfTestError,
    StorageError,
    VersionError,
)
from presspool.common.contract.contract import EXAMPLE, Contract, parse_contract
from presspool.common.models.adapters import State, norm
from presspool.common.wire.flower import become_server, from_bytes, stamp, to_bytes
from presspool.common.wire.update import (
    FAILURES,
    AdapterUpdate,
    TrainTask,
    pack_update,
    unpack_update,
)


@pytest.fixture
def task() -> Message:
    become_server(run_id=1)
    return stamp(Message(RecordDict(), 2, "train", group_id="1"), "1-1")


def capped(norm_cap: float) -> Contract:
    contract = parse_contract(json.loads(EXAMPLE))
    return contract.replace(federation={"update_norm_cap": norm_cap})


def as_it_is(change: State) -> State:
    return change


def update(scale: float = 1.0) -> AdapterUpdate:
    random = np.random.default_rng(0)
    delta = {name: random.normal(size=(3, 4)).astype(np.float32) for name in ("b", "a")}
    delta = {
        name: (array * (scale / norm(delta))).astype(np.float32) for name, array in delta.items()
    }
    return AdapterUpdate(
        outlet="north-post", round=2, contract="sha256:0", base="sha256:1", delta=delta
    )


def test_what_goes_in_below_the_cap_comes_out() -> None:
    sent = update(0.9)
    got = unpack_update(from_bytes(release(sent, capped(1.0), as_it_is)))
    assert (got.outlet, got.round, got.contract, got.base) == (
        "north-post",
        2,
        "sha256:0",
        "sha256:1",
    )
    assert list(got.delta) == ["a", "b"]
    assert all(np.array_equal(got.delta[name], sent.delta[name]) for name in sent.delta)


@pytest.mark.parametrize("scale", [1.0, 1.0001, 3.0, 1e12, 1e30])
@pytest.mark.parametrize("cap", [1.0, 0.037, 100.0])
def test_an_update_above_the_cap_is_scaled_into_it(scale: float, cap: float) -> None:
    sent = update(scale * cap)
    got = unpack_update(from_bytes(release(sent, capped(cap), as_it_is))).delta
    assert cap * (1 - 1e-5) <= norm(got) <= cap
    for name in got:  # same direction
        np.testing.assert_allclose(got[name] / cap, sent.delta[name] / norm(sent.delta), rtol=1e-5)


def test_a_phase_that_does_not_train_lets_words_out_and_no_array() -> None:
    state = {"w": np.ones(3, np.float32)}
    task = TrainTask(contract="{}", digest="sha256:0", round=2, phase=2, state=state)
    data = release_words(task, b"", outlet="north-post", base="sha256:1")
    expected = AdapterUpdate(
        outlet="north-post", round=2, phase=2, contract="sha256:0", base="sha256:1", delta={}
    )
    assert data == to_bytes(pack_update(expected))


def test_a_zero_update_stays_zero() -> None:
    zero = update(0.0)
    got = unpack_update(from_bytes(release(zero, capped(1.0), as_it_is))).delta
    assert norm(got) == 0.0


def test_releasing_leaves_the_update_itself_alone() -> None:
    sent = update(50.0)
    before = {name: array.copy() for name, array in sent.delta.items()}
    release(sent, capped(1.0), as_it_is)
    assert all(np.array_equal(before[name], sent.delta[name]) for name in before)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ContractError, 1),
        (VersionError, 13),
        (ModelError, 2),
        (EngineError, 3),
        (InputError, 4),
        (DataError, 4),
        (FolderError, 4),
        (PlanError, 5),
        (PressPoolError, 5),
        (StorageError, 5),
        (ValueError, 5),
        (KeyError, 5),
        (MemoryError, 5),
        (RecursionError, 5),
        (OSError, 5),
    ],
)
def test_a_failure_is_one_code_of_the_list(kind: type[Exception], code: int, task: Message) -> None:
    error = kind(f"reader {CANARY} wrote {CANARY}")
    error.__cause__ = DataError(CANARY, where=CANARY, got=CANARY)
    error.add_note(CANARY)
    check_failure(release_failure(error, reply_to=task), FAILURES[code])


def test_errors_with_details_say_no_more(task: Message) -> None:
    check_failure(release_failure(AdmissionError(CANARY, CANARY), reply_to=task), "internal-error")
    engine = EngineError(CANARY, where=CANARY, expected=CANARY, got=CANARY, advice=CANARY)
    check_failure(release_failure(engine, reply_to=task), "engine-refused")
    reply = release_failure(SelfTestError(CANARY), reply_to=task)
    check_failure(reply, "engine-refused")


def test_every_failure_is_one_plain_word() -> None:
    assert all(word.replace("-", "").isalpha() for word in FAILURES.values())
    assert len(set(FAILURES.values())) == len(FAILURES)
