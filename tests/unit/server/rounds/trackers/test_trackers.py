"""What trackers are told of a run, and what each of them really has on disk afterwards."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.fakes.made_results import a_round, a_run, measured
from tests.fakes.sweeps.wandb_file import records

from presspool.common.base.errors import InputError, PressPoolError
from presspool.common.contract.contract import Contract
from presspool.common.runs.results import RunResult
from presspool.server.rounds.trackers import TRACKERS
from presspool.server.rounds.trackers.tracker import require_trackers, told_of, track

ACCURACIES = [0.25, 0.5, 0.75]


@pytest.fixture
def result(contract: Contract) -> RunResult:
    rounds = tuple(
        a_round(number, metrics=measured(accuracy=value)) for number, value in enumerate(ACCURACIES)
    )
    body = contract.replace(name="winter", task={"labels": ["secret-label", "b", "c"]}).body()
    return a_run(name="winter", contract=body, rounds=rounds)


@pytest.fixture(autouse=True)
def own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have set a server."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


# --- What is told ---------------------------------------------------------------------------------


def test_only_listed_public_numbers_are_told(result: RunResult) -> None:
    told = told_of(result)
    assert told.knobs["privacy.noise_multiplier"] == 0.8
    assert told.knobs["adapter.targets"] == "query, value"
    assert {key.partition(".")[0] for key in told.knobs} <= {
        *("seed", "adapter", "federation", "privacy", "pooled", "optimizer", "server")
    }
    assert [done.figures["held-out/accuracy"] for done in told.rounds] == ACCURACIES
    assert set(told.rounds[1].figures) == {
        *("held-out/accuracy", "privacy/epsilon", "traffic/bytes_up", "traffic/bytes_down")
    }
    whole = repr(told)
    for private in ("secret-label", "north-post", "north", result.contract["model"]["id"]):  # type: ignore[index,call-overload]
        assert str(private) not in whole
    assert told.statement == result.statement


def test_a_key_names_one_run_and_not_another_of_the_same_contract(result: RunResult) -> None:
    again = a_run(contract=dict(result.contract), adapter_sha256="2c" * 32)
    assert told_of(result).key == told_of(result).key != told_of(again).key


# --- What is kept ---------------------------------------------------------------------------------


def test_mlflow_has_each_round_and_the_knobs_once(tmp_path: Path, result: RunResult) -> None:
    from mlflow.tracking import MlflowClient

    for _ in range(2):
        track(["mlflow"], tmp_path, result)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("winter")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "held-out/accuracy")
    assert [(each.step, each.value) for each in history] == list(enumerate(ACCURACIES))
    assert run.data.params["privacy.noise_multiplier"] == "0.8"
    assert run.data.tags["presspool.statement"] == result.statement
    assert run.data.tags["presspool.cautions"] == "none"
    assert run.info.status == "FINISHED"
    kept = (tmp_path / "mlflow" / "mlflow.db").read_bytes()
    assert b"secret-label" not in kept
    assert b"north-post" not in kept


def test_runs_of_a_sweep_stand_beside_each_other(tmp_path: Path, result: RunResult) -> None:
    from mlflow.tracking import MlflowClient

    other = a_run(name="winter", contract=dict(result.contract), adapter_sha256="2c" * 32)
    for label, one in (("0000", result), ("0001", other)):
        track(["mlflow", "tensorboard"], tmp_path, one, label=label)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("winter")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in found} == {"0000", "0001"}
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == ["0000", "0001"]


def test_wandb_writes_offline_and_names_neither_machine_nor_outlets(
    tmp_path: Path, result: RunResult
) -> None:
    for _ in range(2):
        track(["wandb"], tmp_path, result)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    found = list(records(file))
    (run,) = (one.run for one in found if one.HasField("run"))
    assert (run.project, run.notes, run.host) == ("winter", result.statement, "presspool")
    config = {each.key: json.loads(each.value_json) for each in run.config.update}
    assert config["privacy.noise_multiplier"] == 0.8
    assert config["contract"] == result.contract_digest
    rounds = [_items(one.history.item) for one in found if one.HasField("history")]
    assert [each["held-out/accuracy"] for each in rounds] == ACCURACIES
    assert [each["_step"] for each in rounds] == [0, 1, 2]
    kept = file.read_bytes()
    for private in (
        b"secret-label",
        b"north-post",
        str(tmp_path).encode(),
        str(Path.cwd()).encode(),
    ):
        assert private not in kept
    assert not list(folder.glob("files/*"))


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def test_tensorboard_has_the_statement_beside_the_numbers(
    tmp_path: Path, result: RunResult
) -> None:
    track(["tensorboard"], tmp_path, result)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    scalars = events.Scalars("held-out/accuracy")
    assert [(event.step, event.value) for event in scalars] == list(enumerate(ACCURACIES))
    (said,) = events.Tensors("statement/text_summary")
    assert said.tensor_proto.string_val[0].decode() == result.statement


# --- What cannot be had ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRACKERS.names)
def test_an_extra_that_is_missing_is_named_before_anything_trains(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_trackers([name])
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # as Python says "not installed"
    with pytest.raises(InputError) as told:
        require_trackers([name])
    assert f"pip install 'presspool[{name}]'" in str(told.value)
    assert "--track" in str(told.value)


def test_an_unknown_tracker_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'mlflow'"):
        require_trackers(["mlfow"])


def test_a_server_that_is_not_there_is_told_in_one_message(
    tmp_path: Path, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PressPoolError, match="MLflow does not take the run"):
        track(["mlflow"], tmp_path, result)
