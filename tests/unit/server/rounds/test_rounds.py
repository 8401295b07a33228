"""Rounds: what is written after each, and that stopping anywhere does not change the adapter.

The grid serves the outlets in this process, one after the other; the outlets are real.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import made_rows
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_results import measured

import presspool
from presspool.common.base.errors import FolderError, QuorumError, StorageError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models import adapters
from presspool.common.models.models import base, build
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds import run_events
from presspool.server.rounds.rounds import Committed, run, uncommitted
from presspool.simulations.grids.local_grid import LocalGrid

Serve = Callable[..., RunResult]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker process


@pytest.fixture
def outlets(tmp_path: Path, contract: Contract) -> dict[str, Path]:
    """Settings of the contract's outlets, with reproducible noise."""
    settings = {}
    for name, population in contract.outlets.items():
        data = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(made_rows(name, population)), data)
        settings[name] = tmp_path / f"{name}.toml"
        settings[name].write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 7\n')
    return settings


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.parquet"
    pq.write_table(pa.Table.from_pylist(made_rows("held-out", 20)), path)
    return path


def new_folder(path: Path, contract: Contract, held_out: Path | None = None) -> RunFolder:
    folder = RunFolder(path)
    evaluation = None if held_out is None else str(held_out)
    with folder.claim(contract, Setup(evaluation=evaluation, deterministic=7), resume=False):
        pass
    return folder


def serve(
    folder: RunFolder,
    outlets: Mapping[str, Path],
    on_reply: Callable[[], None] = lambda: None,
    committed: Committed = uncommitted,
) -> RunResult:
    """Run, or continue, the folder's run to its end."""
    with LocalGrid(list(outlets.values()), workers=0, on_reply=on_reply) as grid:
        return run(grid, folder, committed=committed)


def adapter_bytes(folder: RunFolder) -> bytes:
    return (folder.adapter / "adapter_model.safetensors").read_bytes()


def after_replies(count: int, do: Callable[[], object]) -> Callable[[], None]:
    """A callback that does something at the `count`-th reply."""
    seen = 0

    def on_reply() -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            do()

    return on_reply


class StopError(Exception):
    """Stands for whatever ends a process in mid-run."""


def stop() -> None:
    raise StopError


def test_a_run_writes_what_it_did_in_every_round(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path], held_out: Path
) -> None:
    folder = new_folder(tmp_path / "run", contract, held_out)
    result = serve(folder, outlets)
    floats = sum(array.size for array in adapters.read(build(contract)).values())
    assert [done.round for done in result.rounds] == [0, 1, 2]
    for done in result.rounds:
        trained = done.round > 0
        assert done.outlets == (("north-post", "south-echo") if trained else ())
        assert done.bytes_up == done.bytes_down == trained * 2 * 4 * floats
        assert done.refused == {}
        assert done.epsilon == pytest.approx(contract.plan.epsilon(2 * done.round))
        assert list(done.metrics) == ["accuracy", "macro_f1", "loss"]
        assert None not in done.metrics.values()
    losses = [done.metrics["loss"] for done in result.rounds]
    assert losses[0] == pytest.approx(np.log(3))  # the untrained head is undecided
    assert losses[1] != losses[2]


def test_the_result_is_complete_and_says_what_it_is(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    result = serve(folder, outlets)
    assert read_result(folder.path) == result
    assert (result.status, result.deterministic, result.private) == ("complete", True, False)
    assert result.contract_digest == contract.digest
    assert json.loads(contract.canonical()) == result.contract
    assert result.adapter_sha256 == hashlib.sha256(adapter_bytes(folder)).hexdigest()
    assert f"sha256:{result.adapter_sha256} is NOT private" in result.statement
    assert [(o.name, o.population, o.weight, o.steps) for o in result.outlets] == [
        ("north-post", 30, 0.6, 4),
        ("south-echo", 20, 0.4, 4),
    ]
    assert all(o.epsilon == pytest.approx(contract.plan.epsilon()) for o in result.outlets)
    assert all(o.delta == contract.privacy.delta for o in result.outlets)
    assert {"python", "torch", "flwr", "opacus", "peft"} <= set(result.versions)
    assert all(done.metrics == measured() for done in result.rounds)  # there was no held-out file
    assert folder.report.read_text().startswith("<!doctype html>")


def test_an_unprotected_run_claims_no_epsilon(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    unprotected = contract.replace(privacy={"noise_multiplier": 0.0, "epsilon": "inf"})
    result = serve(new_folder(tmp_path / "run", unprotected), outlets)
    assert {done.epsilon for done in result.rounds} == {None}
    assert {(outlet.epsilon, outlet.delta) for outlet in result.outlets} == {(None, None)}
    assert "NOT protected" in result.statement


def test_the_adapter_is_peft_s_and_gives_the_logits_of_the_trained_model(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    serve(folder, outlets)
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    trained = build(contract)
    adapters.load(trained, point.state)
    loaded = PeftModel.from_pretrained(base(contract), str(folder.adapter))
    batch = task_of(contract).encode([row["text"] for row in made_rows("texts", 10)])
    with torch.inference_mode():
        logits, again = trained.eval()(**batch), loaded.eval()(**batch)
        untrained = build(contract).eval()(**batch)
    assert torch.equal(logits, again)
    assert not torch.allclose(logits, untrained)
    saved = load_file(folder.adapter / "adapter_model.safetensors")
    assert len([name for name in saved if "lora_A" in name]) == 4  # the frozen factor is in it


def test_tensorboard_reads_every_rounds_events(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path], held_out: Path
) -> None:
    folder = new_folder(tmp_path / "run", contract, held_out)
    result = serve(folder, outlets)
    events = EventAccumulator(str(folder.events))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "held-out/accuracy",
        "held-out/macro_f1",
        "held-out/loss",
        "privacy/epsilon",
        "traffic/bytes_up",
        "traffic/bytes_down",
    }
    accuracies = events.Scalars("held-out/accuracy")
    assert [event.step for event in accuracies] == [0, 1, 2]
    for event, done in zip(accuracies, result.rounds, strict=True):
        assert event.value == pytest.approx(done.metrics["accuracy"])


def test_without_tensorboard_a_run_completes_and_one_line_says_what_is_not_there(
    tmp_path: Path,
    contract: Contract,
    outlets: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as Python says "not installed"
    said: list[str] = []
    monkeypatch.setattr(run_events.log, "info", lambda text, *words: said.append(text % words))
    folder = new_folder(tmp_path / "run", contract)
    assert serve(folder, outlets).status == "complete"
    assert [line for line in said if "TensorBoard" in line] == [
        "no TensorBoard here, so no events/: pip install 'presspool[tensorboard]'"
    ]
    assert not folder.events.exists()
    assert folder.adapter.exists()


# --- Stopping and going on ----------------------------------------------------------------------


def rounds_kept(folder: RunFolder, contract: Contract) -> int:
    """Whole rounds in the checkpoint, which is there from the start on."""
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    return len(point.rounds) - 1


@pytest.mark.parametrize(
    ("replies", "server"), [(1, {}), (2, {}), (3, {}), (4, {}), (3, {"name": "adam"})]
)
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_adapter(
    tmp_path: Path,
    contract: Contract,
    outlets: dict[str, Path],
    held_out: Path,
    replies: int,
    server: dict[str, str],
) -> None:
    """In mid-round 1 (1 and 2 replies: not averaged yet) or in mid-round 2 (3 and 4)."""
    contract = contract.replace(server=server)
    whole = new_folder(tmp_path / "whole", contract, held_out)
    expected = serve(whole, outlets)
    folder = new_folder(tmp_path / "stopped", contract, held_out)
    with pytest.raises(StopError):
        serve(folder, outlets, after_replies(replies, stop))
    done = (replies - 1) // 2  # rounds that were finished
    assert rounds_kept(folder, contract) == done
    assert not folder.adapter.exists()
    if done:
        so_far = read_result(folder.path)
        assert (so_far.status, so_far.adapter_sha256) == ("running", None)
        assert len(so_far.rounds) == done + 1
    result = serve(folder, outlets)
    assert adapter_bytes(folder) == adapter_bytes(whole)
    assert result.adapter_sha256 == expected.adapter_sha256
    for one, other in zip(result.rounds, expected.rounds, strict=True):
        assert (one.metrics, one.epsilon) == (other.metrics, other.epsilon)


def test_a_finished_run_that_is_continued_trains_nothing(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    first = serve(folder, outlets)
    before = adapter_bytes(folder)
    assert serve(folder, outlets, stop) == first
    assert adapter_bytes(folder) == before
    assert len(list(folder.events.iterdir())) == 1


def test_a_finished_runs_folder_can_be_used_at_once(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path], held_out: Path
) -> None:
    folder = new_folder(tmp_path / "run", contract, held_out)
    result = serve(folder, outlets)
    model = presspool.load(folder.path)
    assert (model.adapter, model.statement) == (f"sha256:{result.adapter_sha256}", result.statement)
    rows = pq.read_table(held_out).to_pylist()
    said = model.predict([row["text"] for row in rows])
    hits = [one.answer == row["label"] for one, row in zip(said, rows, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result.final.metrics["accuracy"])


def test_a_run_of_another_contract_is_not_continued(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    serve(folder, outlets)
    folder.contract_file.write_bytes(contract.replace(seed=4).canonical())
    with pytest.raises(FolderError, match="another contract"):
        serve(folder, outlets)


def test_a_full_disk_while_checkpointing_keeps_the_last_whole_round(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    whole = new_folder(tmp_path / "whole", contract)
    serve(whole, outlets)
    folder = new_folder(tmp_path / "run", contract)
    with ExitStack() as later, pytest.raises(StorageError) as caught:
        serve(folder, outlets, after_replies(4, lambda: later.enter_context(full_disk(room=200))))
    assert caught.value.where == str(folder.checkpoint)
    assert caught.value.exit_code == 2
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    assert len(point.rounds) == 2
    assert read_result(folder.path).status == "running"
    assert not [path for path in folder.path.iterdir() if "tmp" in path.name]
    serve(folder, outlets)
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_a_full_disk_while_saving_the_adapter_loses_nothing(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    serve(folder, outlets)
    before = adapter_bytes(folder)
    with pytest.raises(StorageError) as caught, full_disk(room=2000):
        serve(folder, outlets)
    assert caught.value.where == str(folder.adapter)
    assert adapter_bytes(folder) == before
    serve(folder, outlets)
    assert adapter_bytes(folder) == before


# --- Refusals -----------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path: Path, outlets: dict[str, Path]) -> dict[str, Path]:
    """The outlets, but one of them calls itself something that the contract does not know."""
    path = tmp_path / "stranger.toml"
    path.write_text(outlets["south-echo"].read_text().replace('"south-echo"', '"stranger"'))
    return {"north-post": outlets["north-post"], "stranger": path}


def test_a_round_goes_on_without_an_outlet_while_the_quorum_holds(
    tmp_path: Path, contract: Contract, stranger: dict[str, Path]
) -> None:
    quorum_of_one = contract.replace(federation={"quorum": 1})
    result = serve(new_folder(tmp_path / "run", quorum_of_one), stranger)
    for done in result.rounds[1:]:
        assert done.outlets == ("north-post",)
        assert done.refused == {"node 3": "round-not-agreed"}
        assert done.bytes_up == done.bytes_down / 2


def test_a_round_without_quorum_fails_and_releases_nothing(
    tmp_path: Path, contract: Contract, stranger: dict[str, Path], outlets: dict[str, Path]
) -> None:
    whole = new_folder(tmp_path / "whole", contract)
    serve(whole, outlets)
    folder = new_folder(tmp_path / "run", contract)
    with pytest.raises(QuorumError, match="node 3: round-not-agreed") as caught:
        serve(folder, stranger)
    assert caught.value.exit_code == 1
    assert rounds_kept(folder, contract) == 0
    assert not folder.adapter.exists()
    serve(folder, outlets)  # with the right outlet there, the same run goes on
    assert adapter_bytes(folder) == adapter_bytes(whole)


def test_an_outlet_without_readable_data_never_stops_a_round(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    """DESIGN §3: it sends pure noise; otherwise one reader could decide whether it answers."""
    (tmp_path / "south-echo.parquet").write_bytes(b"not a table")
    result = serve(new_folder(tmp_path / "run", contract), outlets)
    assert [done.outlets for done in result.rounds[1:]] == [("north-post", "south-echo")] * 2
    assert [done.refused for done in result.rounds] == [{}] * 3


def test_an_adapter_that_is_read_again_is_the_checkpoints_state(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder = new_folder(tmp_path / "run", contract)
    serve(folder, outlets)
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    released: dict[str, Any] = load_file(folder.adapter / "adapter_model.safetensors")
    for name, array in point.state.items():
        short = name.replace(".default", "").replace(".modules_to_save", "")
        assert np.array_equal(released[short], array)


def test_every_round_is_committed_before_the_next_and_told_again_after_a_kill(
    tmp_path: Path, contract: Contract, outlets: dict[str, Path]
) -> None:
    folder, told = new_folder(tmp_path / "run", contract), list[tuple[int, str, tuple[str, ...]]]()

    def committed(number: int, digest: str, names: tuple[str, ...], keys: str | None) -> None:
        assert keys is None  # no masks are worn
        told.append((number, digest, names))
        if len(told) == 2:  # round 1 is in the checkpoint; its commitment may be written or not
            raise StopError

    with pytest.raises(StopError):
        serve(folder, outlets, committed=committed)
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    assert told[1] == (1, adapters.digest(point.state), tuple(sorted(contract.outlets)))
    serve(folder, outlets, committed=committed)
    rounds = list(range(contract.federation.rounds + 1))
    assert [number for number, _, _ in told] == [0, 1, *rounds[1:]]
    assert told[1] == told[2]
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    assert point is not None
    assert told[-1][1] == adapters.digest(point.state)


def test_an_adapter_that_outlets_would_refuse_is_named_before_it_is_sent(
    outlets: dict[str, Path], tmp_path: Path, contract: Contract, caplog: pytest.LogCaptureFixture
) -> None:
    """Noise at a high rate makes one; it is named while another round would start from it."""
    for rate, warned in ((0.5, 0), (5e3, 1)):
        caplog.clear()
        loud = contract.replace(
            federation={"update_norm_cap": 1e9}, optimizer={"learning_rate": rate}
        )
        serve(new_folder(tmp_path / f"run-{rate}", loud), outlets)
        said = [record.message for record in caplog.records if "max_branch_ratio" in record.message]
        assert len(said) == warned
        assert all("after round 1" in text and "lora" not in text for text in said)
