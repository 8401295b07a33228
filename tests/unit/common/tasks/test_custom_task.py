"""The guide's task of parts of speech: one file and one line, and every command works with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import REPOSITORY, WORDS, made_rows
from tests.fakes.made_house import House, made_house
from tests.fakes.made_runs import toml

GUIDE = (REPOSITORY / "docs" / "guides" / "custom-task.md").read_text()
TAG = {word: f"B-{topic}" for topic, words in WORDS.items() for word in words}
TAGS = ["O", *sorted(set(TAG.values()))]

JUDGED = """
import sys
from pathlib import Path
from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.selftest import prove
from presspool.common.models.adapters import read
from presspool.common.models.models import build
from presspool.common.runs.run_file import EvaluationData
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds import round_checkpoint
from presspool.server.rounds.evaluation import Evaluation

folder = RunFolder(Path(sys.argv[1]))
contract, setup = folder.read_contract(), folder.read_setup()
trained = round_checkpoint.load(folder.checkpoint, digest=contract.digest).state
data = EvaluationData.model_validate({"data": setup.evaluation, "columns": setup.columns})
judge = Evaluation(contract, data.records(contract))
for state in (read(build(contract)), trained):
    print("right", judge.scores(state).metrics["tags"])
print("said", judge.predictions(trained)[0])
for layers, method in ((None, "fedit"), (1, "ffa"), (None, "head")):
    small = contract.replace(adapter={"layers": layers, "method": method})
    prove(build(small), small)
wide = contract.replace(task={"max_length": 40})  # narrower batches, too
prove_alike(build(wide), read(build(wide)), wide, Compute(device="cpu"))
print("proven")
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """The package with the guide's file and line in it."""
    code, line = blocks("python")
    assert len(code.splitlines()) <= 60
    made = made_house(tmp_path)
    made.add("common/tasks/parts_of_speech.py", code)
    made.register("task", line.strip())
    return made


def tagged(name: str, readers: int) -> pa.Table:
    rows = [
        {"reader": row["reader"], "text": row["text"], "pos": " ".join(tags)}
        for row in made_rows(name, readers)
        for tags in [[TAG.get(word, "O") for word in row["text"].split()]]
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def run(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    """A run.toml that tags words; its data calls the tags otherwise."""
    (tmp_path / "data").mkdir()
    for name, count in contract_body["outlets"].items():
        pq.write_table(tagged(name, count), tmp_path / "data" / f"{name}.parquet")
    pq.write_table(tagged("held-out", 30), tmp_path / "held_out.parquet")
    body = contract_body | {
        "task": {
            "kind": "parts-of-speech",
            "tags": ["O", *sorted(set(TAG.values()))],
            "max_length": 16,
        },
        "privacy": contract_body["privacy"] | {"noise_multiplier": 0.0, "sampling_rate": 1.0},
        "federation": contract_body["federation"] | {"local_steps": 4},
        "simulation": {"data": "data", "workers": 1, "columns": {"tags": "pos"}},
        "evaluation": {"data": "held_out.parquet", "columns": {"tags": "pos"}},
    }
    path = tmp_path / "run.toml"
    path.write_text(toml(body))
    return path


def test_the_guides_task_runs_from_the_data_to_the_scores(
    house: House, run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data" / "north-post.parquet"
    checked = house.presspool(
        "outlet", "check-data", data, "--run", run, "--column", "tags=pos", "--json"
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["readers"] == 30

    out = tmp_path / "out"
    simulated = house.presspool("simulate", run, "--out", out, "--deterministic", 1)
    assert simulated.returncode == 0, simulated.stderr
    result = json.loads((out / "result.json").read_text())
    assert result["status"] == "complete"
    assert 0 < result["rounds"][-1]["metrics"]["tags"] <= 1
    assert "Tags right" in (out / "report.html").read_text()

    judged = house.python("-c", JUDGED, out)
    assert judged.returncode == 0, judged.stderr
    said = dict(re.findall(r"^(\w+) ?(.*)$", judged.stdout, re.MULTILINE))
    before, after = (float(value) for value in re.findall(r"right (.+)", judged.stdout))
    assert before != after
    assert 0 < after <= 1
    assert "proven" in said
    first = tagged("held-out", 30)["pos"].to_pylist()[0]
    assert len(said["said"].split()) == len(first.split())
    assert "torch" not in _imported(house)


def _imported(house: House) -> list[str]:
    """What looking up a task's table imports."""
    found = house.cold_python(
        "-c",
        "import sys\nfrom presspool.common.contract.doors import TASKS\n"
        "TASKS['parts-of-speech'].Table(tags=('O', 'B'))\nprint(*sys.modules)",
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()
