"""The outlet's Flower app: a task in, a private update or a code out, whatever the data is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from tests.fakes.instruments import detectors
from tests.fakes.instruments.detectors import (
    CANARY,
    OUTLET,
    Bench,
    ask,
    check_failure,
    made_readers,
    subset,
    task_of,
    write_data,
    write_outlet,
)

from presspool.client import client_app
from presspool.client.engine.together import joint_tasks
from presspool.common.base.errors import InputError
from presspool.common.contract.contract import parse_contract
from presspool.common.models.adapters import State, digest
from presspool.common.wire.update import TrainTask, pack_task, unpack_update


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def outlet(bench: Bench) -> Path:
    return write_outlet(bench, write_data(bench, bench.readers))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.ERROR):
        yield caplog


@pytest.mark.parametrize(
    "detector",
    [
        detectors.reply_holds_only_the_listed_fields,
        detectors.bad_data_still_gives_an_update,
        detectors.failures_say_only_a_code,
    ],
    ids=lambda detector: detector.__name__,
)
def test_promise(bench: Bench, detector: detectors.Detector) -> None:
    detector(bench)


# --- A task --------------------------------------------------------------------------------------


def delta_of(settings: Path, task: TrainTask) -> State:
    reply = ask(settings, pack_task(task))
    assert reply.has_content(), reply
    return unpack_update(reply.content).delta


def test_the_update_is_the_outlets_own_round(bench: Bench, outlet: Path) -> None:
    reply = ask(outlet, pack_task(task_of(bench)))
    update = unpack_update(reply.content)
    expected = detectors.train(bench, bench.readers)
    assert (update.outlet, update.round) == (OUTLET, 1)
    assert (update.contract, update.base) == (bench.contract.digest, digest(bench.state))
    assert all(np.array_equal(update.delta[name], expected[name]) for name in expected)


def test_rounds_and_outlets_draw_apart(bench: Bench) -> None:
    """The reproducible stream is one for each outlet and round, and hangs on nothing else."""
    data = write_data(bench, subset(bench.readers, []), "nobody.parquet")
    ours, theirs = write_outlet(bench, data), write_outlet(bench, data, "south-echo")
    first = delta_of(ours, task_of(bench))
    assert all(np.array_equal(a, first[n]) for n, a in delta_of(ours, task_of(bench)).items())
    for other in (delta_of(ours, task_of(bench, round=2)), delta_of(theirs, task_of(bench))):
        # Outlets have different b; where noise is shared, so are the signs.
        agree = [np.mean(np.sign(other[name]) == np.sign(first[name])) for name in first]
        assert 0.3 < np.mean(agree) < 0.7


def test_without_the_local_switch_an_outlet_never_answers_twice_alike(
    bench: Bench, outlet: Path
) -> None:
    settings = bench.folder / "secret.toml"
    settings.write_text(outlet.read_text().replace("deterministic = 1\n", ""))
    first, second = (delta_of(settings, task_of(bench)) for _ in range(2))
    assert all((first[name] != second[name]).any() for name in first)


def test_the_norm_cap_of_the_contract_holds(bench: Bench, outlet: Path) -> None:
    contract = bench.contract.replace(
        federation={"update_norm_cap": 0.01}, optimizer={"learning_rate": 100.0}
    )
    task = task_of(bench, contract=contract.canonical().decode(), digest=contract.digest)
    delta = delta_of(outlet, task)
    norm = np.sqrt(sum(float(np.sum(array.astype(np.float64) ** 2)) for array in delta.values()))
    assert 0.0099 < norm <= 0.01


# --- Tasks that are refused ----------------------------------------------------------------------


def test_a_contract_that_is_not_its_digest(bench: Bench, outlet: Path) -> None:
    other = bench.contract.replace(privacy={"noise_multiplier": 0.3})
    check_failure(ask(outlet, pack_task(task_of(bench, digest=other.digest))), "contract-invalid")
    weaker = other.canonical().decode()
    check_failure(ask(outlet, pack_task(task_of(bench, contract=weaker))), "contract-invalid")


@pytest.mark.parametrize("round", [0, 3, -1, 10**9])
def test_a_round_outside_the_contract(round: int, bench: Bench, outlet: Path) -> None:
    check_failure(ask(outlet, pack_task(task_of(bench, round=round))), "round-not-agreed")


def test_an_outlet_outside_the_contract(bench: Bench) -> None:
    stranger = write_outlet(bench, write_data(bench, bench.readers), name="east-herald")
    check_failure(ask(stranger, pack_task(task_of(bench))), "round-not-agreed")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("missing", "adapter-names"),
        ("more", "adapter-names"),
        ("shape", "adapter-shapes"),
        ("nan", "adapter-not-finite"),
        ("inf", "adapter-not-finite"),
    ],
)
def test_a_state_that_is_not_the_models(change: str, code: str, bench: Bench, outlet: Path) -> None:
    state = dict(bench.state)
    name = sorted(state)[0]
    if change == "missing":
        del state[name]
    elif change == "more":
        state["extra"] = state[name]
    elif change == "shape":
        state[name] = state[name].T.copy()
    else:
        state[name] = np.full_like(state[name], float(change))
    check_failure(ask(outlet, pack_task(task_of(bench, state=state))), code)


def test_a_contract_without_noise_solved_or_with_code_for_data(bench: Bench, outlet: Path) -> None:
    for changes in ({"privacy": {"epsilon": 3.0, "noise_multiplier": None}},):
        contract = bench.contract.replace(**changes)
        task = task_of(bench, contract=contract.canonical().decode(), digest=contract.digest)
        check_failure(ask(outlet, pack_task(task)), "contract-invalid")
    for text in ("", "[]", "null", "{", "[" * 100_000, '{"__reduce__": "os.system"}'):
        reply = ask(outlet, pack_task(task_of(bench, contract=text)))
        assert reply.has_error()
        assert reply.error.code in (1, 5)


def test_another_base_model_than_the_pinned(bench: Bench, outlet: Path) -> None:
    for key in ("weights", "tokenizer"):
        contract = bench.contract.replace(model={key: f"sha256:{'0' * 64}"})
        task = task_of(bench, contract=contract.canonical().decode(), digest=contract.digest)
        check_failure(ask(outlet, pack_task(task)), "model-unavailable")
    contract = bench.contract.replace(model={"id": "no-such/model"})
    task = task_of(bench, contract=contract.canonical().decode(), digest=contract.digest)
    check_failure(ask(outlet, pack_task(task)), "model-unavailable")


def test_records_longer_than_the_model_can_read(bench: Bench) -> None:
    """Refused for every outlet, not only where somebody has a long text."""
    contract = bench.contract.replace(task={"max_length": 100})
    task = task_of(bench, contract=contract.canonical().decode(), digest=contract.digest)
    for readers in (bench.readers, made_readers(0)):
        outlet = write_outlet(bench, write_data(bench, readers, "some.parquet"))
        check_failure(ask(outlet, pack_task(task)), "contract-invalid")


def test_messages_that_are_no_tasks(bench: Bench, outlet: Path) -> None:
    good = pack_task(task_of(bench))
    arrays, fields = good["adapter"], good["task"]
    assert isinstance(fields, ConfigRecord)
    for content in (
        RecordDict(),
        RecordDict({"adapter": arrays}),
        RecordDict({"task": fields}),
        RecordDict({"adapter": arrays, "task": fields, "more": ConfigRecord({"a": 1})}),
        RecordDict({"adapter": arrays, "task": fields, "more": MetricRecord({"a": 1})}),
        RecordDict({"adapter": arrays, "task": ConfigRecord(dict(fields) | {"more": 1})}),
        RecordDict({"adapter": arrays, "task": ConfigRecord(dict(fields) | {"round": "1"})}),
        RecordDict({"adapter": ArrayRecord([np.zeros(3)]), "task": fields}),
    ):
        check_failure(ask(outlet, content), "internal-error")


def test_a_bug_that_quotes_readers_stays_at_the_outlet(
    bench: Bench, outlet: Path, quiet: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(f"reader {CANARY}")

    here = [(client_app, name) for name in ("release", "from_bytes", "read_settings")]
    for module, name in [(joint_tasks, "train_together"), *here]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, broken)
            reply = ask(outlet, pack_task(task_of(bench)))
        check_failure(reply, "internal-error")
        assert CANARY in quiet.text  # the operator is told
        quiet.clear()


# --- Whose data ----------------------------------------------------------------------------------


def context(node: dict[str, Any], run: dict[str, Any] | None = None) -> Context:
    return Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config=run or {})


def test_the_node_names_its_own_settings(outlet: Path) -> None:
    assert client_app.settings_of(context({"outlet-config": str(outlet)})).name == OUTLET
    # What the run says does not outweigh what the node says.
    run = {"outlet-config": "elsewhere.toml", "outlets-folder": "/"}
    assert client_app.settings_of(context({"outlet-config": str(outlet)}, run)).name == OUTLET


def test_flowers_own_engine_numbers_the_outlets(tmp_path: Path) -> None:
    for name in ("b-post", "a-echo"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\ndata = "x.csv"\n')
    run = {"outlets-folder": str(tmp_path)}
    names = [client_app.settings_of(context({"partition-id": i}, run)).name for i in (0, 1)]
    assert names == ["a-echo", "b-post"]


@pytest.mark.parametrize(
    ("node", "run"),
    [
        ({}, {}),
        ({"partition-id": 0}, {}),
        ({"partition-id": 1}, {"outlets-folder": "."}),
        ({"partition-id": 0}, {"outlets-folder": "no-such-folder"}),
        ({}, {"outlet-config": "outlet.toml"}),  # the coordinator does not say who we are
    ],
)
def test_a_node_that_does_not_know_itself(node: dict[str, Any], run: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="which outlet"):
        client_app.settings_of(context(node, run))


def test_other_kinds_of_message_are_not_served(bench: Bench, outlet: Path) -> None:
    """No evaluation on readers' data: nothing but training is registered."""
    ask(outlet, pack_task(task_of(bench)))  # sets Flower's identity
    for kind in ("evaluate", "query", "train.other"):
        message = Message(pack_task(task_of(bench)), 2, kind)
        with pytest.raises(ValueError, match=r"No .* function"):
            client_app.app(message, context({"outlet-config": str(outlet)}))
