"""What holds for every task of the list, and what is refused where a task is named."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.conftest import LABELS

from presspool.client.consent.policy import parse_policy
from presspool.common.base.errors import ContractError, InputError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import TaskTable
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.data.tables import Columns
from presspool.common.models.adapters import trainable
from presspool.common.models.models import build
from presspool.common.tasks.classification import Classification, ClassificationTable, labels_of


@pytest.fixture
def task(contract: Contract) -> Classification:
    made = task_of(contract)
    assert isinstance(made, Classification)
    return made


@pytest.mark.parametrize("kind", TASKS.names)
def test_a_task_has_its_name_in_its_table_and_one_primary_metric(kind: str) -> None:
    found = TASKS[kind]
    assert found.Table.model_fields["kind"].default == kind
    assert "max_length" in {*found.Table.model_fields, *vars(found.Table)}
    assert set(found.inputs) <= set(found.columns)
    assert sum(metric.primary for metric in found.metrics) == 1
    assert len({metric.name for metric in found.metrics}) == len(found.metrics)


def test_contracts_are_read_without_torch_or_arrow() -> None:
    code = (
        "import json, sys\n"
        "from presspool.common.contract.contract import EXAMPLE, parse_contract\n"
        "parse_contract(json.loads(EXAMPLE))\n"
        "print({'torch', 'transformers', 'pyarrow', 'sklearn'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_a_head_without_bias_is_a_key_of_the_contract_that_says_so(contract: Contract) -> None:
    plain, bare = contract, contract.replace(task={"bias": False})
    assert "bias" not in plain.body()["task"]
    assert bare.body()["task"]["bias"] is False
    assert set(trainable(build(bare))) == {n for n in trainable(build(plain)) if "bias" not in n}


def test_an_unknown_kind_is_refused_with_the_nearest(contract: Contract) -> None:
    with pytest.raises(ContractError, match=r"\[task\] kind: unknown task") as caught:
        contract.replace(task={"kind": "clasification"})
    assert "did you mean 'classification'?" in str(caught.value)
    assert caught.value.got == "clasification"


def test_an_unknown_key_is_refused_with_the_nearest_of_its_kind(contract: Contract) -> None:
    with pytest.raises(ContractError, match="unknown key") as caught:
        contract.replace(task={"max_lenght": 3})
    assert caught.value.advice == "did you mean 'max_length'?"


@pytest.mark.parametrize("body", [3, ["labels"], "classification"])
def test_a_task_that_is_no_table_is_refused(contract: Contract, body: object) -> None:
    with pytest.raises(ContractError, match="contract task"):
        contract.replace(task=body)


def test_a_policy_lists_tasks_that_there_are() -> None:
    assert parse_policy({"tasks": list(TASKS.names)}).tasks == TASKS.names
    with pytest.raises(InputError, match="unknown task") as caught:
        parse_policy({"tasks": ["clasification"]})
    assert not isinstance(caught.value, ContractError)
    assert "did you mean 'classification'?" in str(caught.value)


def test_columns_are_those_that_some_task_has() -> None:
    columns = Columns(label="topic")
    assert columns.of(("text", "label", "ratings")) == {
        "text": "text",
        "label": "topic",
        "ratings": "ratings",
    }
    with pytest.raises(ValueError, match="Extra inputs"):
        Columns.model_validate({"ratings": "stars"})


def test_what_needs_labels_refuses_another_task(contract: Contract) -> None:
    assert labels_of(contract) == LABELS
    other = contract.model_copy(update={"task": TaskTable.model_construct(kind="another")})
    with pytest.raises(InputError, match="works with labels"):
        labels_of(other)


def test_a_label_becomes_its_index_and_an_unknown_one_null(task: Classification) -> None:
    rows = {"text": pa.array(["a", "b"]), "label": pa.array(["money", "moneys"])}
    parsed = task.parse({n: values.cast(pa.large_string()) for n, values in rows.items()})
    assert parsed["label"].to_pylist() == [2, None]
    assert parsed["label"].type == pa.int64()
    assert task.wanted("label", "moneys") == ("one of 'world', 'sport', 'money'", "money")


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("a", "")])
def test_labels_must_differ_and_say_something(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="labels"):
        Classification(ClassificationTable.model_construct(labels=labels))


def test_losses_are_a_records_own(task: Classification) -> None:
    records, outputs = task.made([1, 2, 3, 4]), torch.randn(4, 3)
    losses = task.losses(outputs, records)
    alone = [task.losses(outputs[i : i + 1], records.slice(i, 1)) for i in range(4)]
    assert losses.shape == (4,)
    torch.testing.assert_close(losses, torch.cat(alone))


def test_made_records_are_as_long_as_asked_and_differ_in_label(task: Classification) -> None:
    made = task.made([1, 5, 40, 2])
    assert [len(text.split()) for text in made["text"].to_pylist()] == [1, 5, 40, 2]
    assert made["label"].to_pylist() == [0, 1, 2, 0]
    assert task.encode(made["text"].to_pylist())["input_ids"].shape == (4, 12)


def test_scores_have_the_metrics_names(task: Classification) -> None:
    records = task.made([1] * 6)
    outputs = 9 * torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1, 1]), 3).float()
    judged = {name: values.numpy() for name, values in task.judge(outputs, records).items()}
    scores = task.score(judged, records)
    assert list(scores) == [metric.name for metric in task.metrics]
    assert scores["accuracy"] == pytest.approx(5 / 6)
    assert task.predict(outputs, records)[-1] == "sport"
    assert task.counts(records) == dict.fromkeys(LABELS, 2)
    assert np.isfinite(scores["loss"] or 0)


def test_a_file_without_a_run_says_its_labels() -> None:
    guessed = Classification.guess(lambda column: [column])
    assert guessed.table.labels == ("label",)
