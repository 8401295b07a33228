"""Held-out accuracy: against an oracle that encodes one record at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import LABELS, made_rows
from tests.fakes.made_runs import Arrays

from presspool.common.base.errors import DataError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.data.tables import Mapped
from presspool.common.models import adapters
from presspool.common.models.adapted_outputs import AT_ONCE
from presspool.common.models.models import build
from presspool.common.runs.run_file import EvaluationData
from presspool.server.rounds import evaluation
from presspool.server.rounds.evaluation import Evaluation, spread


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(contract: Contract, path: Path, *, text: str = "text", label: str = "label") -> pa.Table:
    return EvaluationData(data=path, columns=Mapped(text=text, label=label)).records(contract)


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """More records than two batches, of many lengths and of unequal classes."""
    rows = made_rows("held-out", 90)
    assert len(rows) > 2 * AT_ONCE
    return rows[:-7]


@pytest.fixture
def held_out(tmp_path: Path, rows: list[dict[str, str]], contract: Contract) -> Evaluation:
    path = write(tmp_path / "held_out.parquet", rows)
    return Evaluation(contract, read(contract, path))


def random_state(contract: Contract, scale: float = 0.5) -> Arrays:
    rng = np.random.default_rng(5)
    return {
        name: rng.normal(scale=scale, size=array.shape).astype(np.float32)
        for name, array in adapters.read(build(contract)).items()
    }


def slow_logits(contract: Contract, state: Arrays, rows: list[dict[str, str]]) -> torch.Tensor:
    """(records, labels) float64, one record at a time and nothing padded."""
    model = build(contract)
    adapters.load(model, state)
    model.eval()
    with torch.inference_mode():
        parts = [model(**task_of(contract).encode([row["text"]])) for row in rows]
    return torch.cat(parts).double()


def test_scores_are_those_of_the_slow_oracle(
    contract: Contract, held_out: Evaluation, rows: list[dict[str, str]]
) -> None:
    state = random_state(contract)
    bias = next(name for name in state if name.endswith(".default.bias"))
    # A random head says one label to everything; centred, it says each of them sometimes.
    state[bias] -= slow_logits(contract, state, rows).mean(0).float().numpy()
    logits = slow_logits(contract, state, rows)
    truth = torch.tensor([LABELS.index(row["label"]) for row in rows])
    predicted = logits.argmax(1)
    f1 = []
    for label in range(3):
        hit = int(((predicted == label) & (truth == label)).sum())
        wrong = int((predicted == label).sum() + (truth == label).sum()) - 2 * hit
        f1.append(2 * hit / (2 * hit + wrong) if hit or wrong else 0.0)
    scores = held_out.scores(state)
    assert scores.metrics["accuracy"] == pytest.approx(float((predicted == truth).double().mean()))
    assert scores.metrics["macro_f1"] == pytest.approx(sum(f1) / 3)
    assert scores.metrics["loss"] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, truth)), rel=1e-5
    )
    assert len(set(predicted.tolist())) == 3  # otherwise this test could not tell labels apart


def test_an_untrained_head_is_undecided(contract: Contract, held_out: Evaluation) -> None:
    scores = held_out.scores(adapters.read(build(contract)))
    assert scores.metrics["loss"] == pytest.approx(math.log(3))


def test_scores_depend_on_the_state_alone(contract: Contract, held_out: Evaluation) -> None:
    """An evaluation is used after every round: nothing of a round may stay in it."""
    state, zero = random_state(contract), adapters.read(build(contract))
    first = held_out.scores(state)
    assert held_out.scores(zero) != first
    assert held_out.scores(state) == first


def test_what_it_writes_keeps_its_lines_and_nothing_else_that_acts(
    tmp_path: Path, writing_body: Callable[[str], dict[str, Any]]
) -> None:
    contract = parse_contract(writing_body("prompt"))
    rows = [{"prompt": "one\r\ntwo\n\nthree", "answer": "a\tb\x1b[2J\u202e\u2028c"}]
    path = write(tmp_path / "lines.parquet", rows)
    judge = Evaluation(contract, EvaluationData(data=path).records(contract))
    state = adapters.read(build(contract))
    (sample,) = judge.samples(state, state)
    assert sample.asked == "one\ntwo\n\nthree"
    assert sample.answer == "a   b\\u001b[2J\\u202e\nc"


def test_a_diverged_model_has_no_loss_but_still_an_accuracy(
    contract: Contract, held_out: Evaluation
) -> None:
    state = random_state(contract)
    head = next(name for name in state if name.endswith(".default.bias"))
    scores = held_out.scores({**state, head: np.full_like(state[head], np.inf)})
    assert scores.metrics["loss"] is None
    assert scores.metrics["accuracy"] is not None


def test_every_round_is_measured_on_the_same_part_of_a_large_file_and_all_of_it_apart(
    tmp_path: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third record is a sport record; two of six are every third, evenly spread."""
    monkeypatch.setattr(evaluation, "SAMPLE", 2)
    rows = [{"text": f"goal {i}", "label": "world" if i % 3 else "sport"} for i in range(6)]
    held_out = read(contract, write(tmp_path / "many.parquet", rows))
    assert spread(len(held_out), 2).tolist() == [0, 3]
    state = adapters.read(build(contract))
    bias = next(name for name in state if name.endswith(".default.bias"))
    sure = {**state, bias: np.array([0, 9, 0], np.float32)}
    judge = Evaluation(contract, held_out)
    assert judge.scores(sure).metrics["accuracy"] == pytest.approx(1 / 3)
    first, between = judge.of_round(sure, end=True), judge.of_round(sure, end=False)
    assert first.metrics == between.metrics
    assert first.metrics["accuracy"] == 1.0
    assert (first.records, first.sample) == (6, 2)
    assert first.whole == judge.scores(sure).metrics
    assert between.whole is None
    monkeypatch.setattr(evaluation, "SAMPLE", 6)
    small = judge.of_round(sure, end=True)
    assert (small.whole, small.metrics) == (None, judge.scores(sure).metrics)


def test_a_class_that_does_not_occur_counts_as_zero_f1(tmp_path: Path, contract: Contract) -> None:
    rows = [{"text": "goal match", "label": "sport"}] * 4
    path = write(tmp_path / "one.parquet", rows)
    held_out = Evaluation(contract, read(contract, path))
    state = adapters.read(build(contract))
    bias = next(name for name in state if name.endswith(".default.bias"))
    sure = {**state, bias: np.array([0, 9, 0], np.float32)}
    scores = held_out.scores(sure)
    assert scores.metrics["accuracy"] == 1.0
    assert scores.metrics["macro_f1"] == pytest.approx(1 / 3)


def test_other_columns_can_be_named(tmp_path: Path, contract: Contract) -> None:
    rows = [{"title": "goal match", "topic": "sport", "text": "", "label": "nobody knows"}]
    path = write(tmp_path / "named.parquet", rows)
    held_out = read(contract, path, text="title", label="topic")
    assert held_out["label"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("rows", "text", "said"),
    [
        ([{"text": "a", "label": "weather"}], "text", "unknown label"),
        ([{"text": "a", "label": "sport"}], "txt", "missing column 'txt'"),
        ([{"text": None, "label": "sport"}], "text", "null in column 'text'"),
    ],
)
def test_bad_held_out_data_is_told_in_words(
    tmp_path: Path, contract: Contract, rows: list[dict[str, str]], text: str, said: str
) -> None:
    path = write(tmp_path / "held_out.parquet", rows)
    with pytest.raises(DataError, match=said) as caught:
        read(contract, path, text=text)
    assert str(path) in caught.value.where


@pytest.mark.parametrize("name", ["missing.parquet", "empty.csv", "held_out.xlsx"])
def test_a_held_out_file_that_is_none_is_told_in_words(
    tmp_path: Path, contract: Contract, name: str
) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "held_out.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError):
        read(contract, tmp_path / name)
