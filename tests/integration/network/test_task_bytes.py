"""Every task's run file at a coordinator with two outlets, and simulated: the same bytes.

One coordinator and two agents serve all runs, one after the other. The run files are the examples,
cut down to two outlets, two rounds, a tiny model and a σ that is said; a task without a file fails
by name.

Example: `served.at_coordinator(run)` is the folder of a run that the pool has served.
"""

from __future__ import annotations

import json
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import COMMON, REPOSITORY, WORDS
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.bases.paired_bases import TARGETS, write_paired_base
from tests.fakes.instruments.live_coordinator import Live, live
from tests.fakes.made_runs import checkpointed, simulated_here, toml

from presspool.client.agent.agent import Trainer
from presspool.client.client_app import work
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.common.contract.doors import TASKS
from presspool.common.released.adapter_folder import read_adapter
from presspool.common.runs.default_recipe import filled
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RunResult

Body = dict[str, Any]

EXAMPLES = REPOSITORY / "examples"
OUTLETS = ("oldermoor-courier", "brackwell-herald")
SEED = 7
PUBLIC = 24  # rows of a held-out file
SMALL: Body = {"rank": 2, "alpha": 4}


def shipped() -> dict[str, tuple[str, Body]]:
    """A case for each run file of the examples that a coordinator can serve, as it is."""
    files = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in EXAMPLES.glob("*.toml")}
    return {
        name: (name, {})
        for name, body in sorted(files.items())
        if "task" in body
        and "clock" not in body.get("simulation", {})  # a sweep; a clock of its own
    }


# Name: the example that a run begins with, and what its [task] says else.
CASES: dict[str, tuple[str, Body]] = {
    **shipped(),
    "ordinal": ("run", {"mode": "ordinal", "sure": 0.3, "priors": [0.125] * 8}),
    "prompt": ("service", {"format": "prompt"}),
    "t5": ("service", {"format": "summary"}),
    "bart": ("service", {"format": "summary", "beams": 2}),
}
PAIRED = ("t5", "bart")


@dataclass
class Served:
    """A pool of two outlets that takes runs one after the other.

    That all are threads of one process is made, and nothing else.

    Attributes:
        pool: coordinator and agents.
        homes: a contract's digest to its outlets' settings.
    """

    pool: Live
    homes: dict[str, Path] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)  # the app's model is the process's

    def trainer(self, name: str) -> Trainer:
        """What trains at an outlet."""

        def train(asked: Round, kept: Path) -> bytes:
            home = self.homes[asked.task.digest]
            with self.turn:
                return work(asked, read_settings(home / f"{name}.toml"), kept=kept)

        return train

    def at_coordinator(self, run: Path, *, alone: Path) -> Path:
        """Folder of a submitted run, trained with the settings that its simulation wrote."""
        self.homes[read_result(alone).contract_digest] = alone / "outlets"
        done = self.pool.wait(self.pool.submit(run), "complete")
        return self.pool.folder.path / "runs" / done.id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    parent = tmp_path_factory.mktemp("served")
    with live(parent, parent / "none.toml") as pool:
        found = Served(pool)
        pool.join(*OUTLETS)
        for name in OUTLETS:
            pool.outlet(name, found.trainer(name))
        yield found


@pytest.fixture(scope="module")
def bases(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_llama: Path
) -> Mapping[str, Path]:
    """Tiny models: one that writes, one with a mask, two with a decoder, and any encoder."""
    folder = tmp_path_factory.mktemp("bases")
    known = [*COMMON, *(word for topic in WORDS.values() for word in topic)]
    paired = {name: write_paired_base(folder / name, name) for name in PAIRED}
    masked = write_masked_base(folder / "masked", "bert", known)
    return {"any": tiny_base, "generation": tiny_llama, "fill-mask": masked, **paired}


def told(case: str) -> Body:
    """The example that a case begins with, and the case's own [task]."""
    example, more = CASES[case]
    body = tomllib.loads((EXAMPLES / f"{example}.toml").read_text(encoding="utf-8"))
    return body | {"task": {"kind": "classification", **body["task"], **more}}


def whole(case: str) -> Body:
    """The same with what its recipe fills in, at a σ that is said: to solve one takes seconds."""
    body = filled(told(case), where=case, name=case)
    privacy = {key: value for key, value in body["privacy"].items() if key != "epsilon"}
    return body | {"privacy": privacy | {"noise_multiplier": 1.0}}


def run_file(case: str, folder: Path, bases: Mapping[str, Path]) -> Path:
    """Write the run file of a case, and the data that its format asks for."""
    body = whole(case)
    kind = body["task"]["kind"]
    base = bases.get(case) or bases.get(kind, bases["any"])
    body["model"] = {"id": str(base)}
    body["adapter"] = adapter_of(case, body)
    body["federation"] |= {"rounds": 2, "local_steps": 1, "quorum": 2}
    body["outlets"] = {name: body["outlets"][name] for name in OUTLETS}
    body["simulation"] |= {"workers": 1}
    write_data(body, folder)
    path = folder / "run.toml"
    path.write_text(toml(body), encoding="utf-8")
    return path


def adapter_of(case: str, body: Body) -> Body:
    """[adapter] on a tiny model: what of it hangs on the model, where a task has no head."""
    if case in PAIRED:
        return SMALL | {"targets": TARGETS[case]}
    targets = {"generation": ["o_proj", "down_proj"], "fill-mask": ["dense"]}
    found = targets.get(body["task"]["kind"])
    own: Body = body["adapter"]
    return own | (SMALL | {"targets": found, "layers": 1} if found else {})


def write_data(body: Body, folder: Path) -> None:
    """The example's data in the run's format, and few of its public rows."""
    for key, most in {"simulation": None, "evaluation": PUBLIC + 1}.items():
        name = body[key]["data"]
        lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()[:most]
        if name.endswith(".jsonl"):
            lines = [in_format(line, body["task"]["format"]) for line in lines]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")


def in_format(line: str, format_: str) -> str:
    """A chat's row as it is, or its first question and answer in another format."""
    row = json.loads(line)
    if format_ != "chat":
        said = {turn["role"]: turn["content"] for turn in reversed(row.pop("messages"))}
        names = {"prompt": ("prompt", "answer"), "summary": ("article", "summary")}[format_]
        row |= dict(zip(names, (said["user"], said["assistant"]), strict=True))
    return json.dumps(row)


@pytest.mark.parametrize("task", TASKS.names)
def test_every_task_has_a_run_file_here(task: str) -> None:
    assert task in {told(case)["task"]["kind"] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_a_run_at_a_coordinator_makes_the_bytes_of_the_simulation(
    case: str, served: Served, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    if case == "entities":
        pytest.importorskip("seqeval", reason="entities are judged by seqeval: presspool[tagging]")
    run, alone = run_file(case, tmp_path, bases), tmp_path / "simulated"
    expected = simulated_here(run, alone, deterministic=SEED)
    done = served.at_coordinator(run, alone=alone)
    assert checkpointed(done) == expected
    files = [folder / "adapter" / "adapter_model.safetensors" for folder in (done, alone)]
    assert files[0].read_bytes() == files[1].read_bytes()
    same_judgement(read_result(done), read_result(alone))
    whole_judgement(case, done)


def same_judgement(one: RunResult, two: RunResult) -> None:
    """Two runs measured and wrote the same."""
    assert (one.samples, one.figures, one.writing) == (two.samples, two.figures, two.writing)
    assert [entry.metrics for entry in one.rounds] == [entry.metrics for entry in two.rounds]


def whole_judgement(case: str, folder: Path) -> None:
    """Both outlets took part in each round, and the coordinator judged what the task has."""
    result, kind = read_result(folder), told(case)["task"]["kind"]
    assert [sorted(entry.outlets) for entry in result.rounds[1:]] == [sorted(OUTLETS)] * 2
    assert len(result.samples) == (10 if kind in ("generation", "fill-mask") else 0)
    if "sure" in told(case)["task"]:  # one threshold, chosen on the coordinator's rows alone
        assert result.figures is not None
        assert result.figures.abstention is not None
        assert read_adapter(folder).unsure_up_to == result.figures.abstention.up_to
        assert sum(row.records for row in result.figures.labels) == PUBLIC
