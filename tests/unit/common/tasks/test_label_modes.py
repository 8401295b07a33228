"""One label, labels in an order, several labels: what contracts say of them, records and losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import LABELS
from torch import Tensor

from presspool.client.data.readers import read_readers
from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.selftest import prove
from presspool.common.base.errors import ContractError, DataError, InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.data.tables import Columns
from presspool.common.models.adapters import read
from presspool.common.models.models import build
from presspool.common.tasks.classification import Classification, ClassificationTable, labels_of
from presspool.simulations.attack.tasks.attacked_task import attacked

PRIORS = {"single": (0.7, 0.2, 0.1), "multi": (0.3, 0.02, 0.9), "ordinal": (0.05, 0.15, 0.8)}
MODES = tuple(PRIORS)


def task_in(mode: str, **keys: Any) -> Classification:
    body = {"labels": LABELS, "mode": mode, **keys}
    return Classification(ClassificationTable.model_validate(body))


def parsed(task: Classification, *labels: str) -> pa.Table:
    rows = {"text": pa.array(labels, pa.large_string()), "label": pa.array(labels)}
    rows["label"] = rows["label"].cast(pa.large_string())
    return pa.table(dict(task.parse(rows)))


# --- What contracts say ---------------------------------------------------------------------------


def test_a_contract_that_says_only_defaults_has_the_bytes_it_had(contract: Contract) -> None:
    said = contract.replace(task={"mode": "single", "priors": None, "sure": None})
    assert said.canonical() == contract.canonical()
    assert not {"mode", "priors", "sure"} & set(contract.body()["task"])


@pytest.mark.parametrize("mode", MODES)
def test_what_differs_from_a_default_is_in_the_digest(contract: Contract, mode: str) -> None:
    keys = {"mode": mode, "priors": list(PRIORS[mode]), "sure": 0.9}
    said = contract.replace(task=keys)
    assert {key: said.body()["task"].get(key, "single") for key in keys} == keys
    assert said.digest != contract.digest
    assert parse_contract(said.body()) == said


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"mode": "several"}, "mode"),
        ({"mode": "multi", "head": "names"}, "head = 'names' goes with mode 'single' alone"),
        ({"mode": "ordinal", "head": "names"}, "head = 'names' goes with mode 'single' alone"),
        ({"mode": "multi", "labels": ["a|b", "c"]}, "'a|b'"),
        ({"mode": "multi", "labels": ["none", "c"]}, "'none'"),
        ({"mode": "multi", "labels": [" a", "c"]}, "' a'"),
        ({"sure": 0.9, "labels": ["unsure", "c"]}, "'unsure' is no label"),
        ({"sure": 1.0}, "sure"),
        ({"sure": True}, "sure"),
        ({"priors": [0.5, 0.5]}, "2 priors for 3 labels"),
        ({"priors": [0.5, 0.5, 0.5]}, r"add up to 1, not to 1\.5"),
        ({"priors": [0.5, 0.5, 0.0]}, "priors"),
        ({"priors": [0.5, 0.5, float("nan")]}, "priors"),
        ({"mode": "multi", "priors": [0.5, 0.5, 1.0]}, "priors"),
    ],
)
def test_what_makes_no_sense_is_refused(
    contract: Contract, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ContractError, match=words):
        contract.replace(task=keys)


@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_the_attacks_are_written_for_one_label_and_refuse_others_by_name(
    contract: Contract, mode: str
) -> None:
    assert attacked(contract).columns == ("text", "label")
    with pytest.raises(InputError, match="mode") as caught:
        attacked(contract.replace(task={"mode": mode}))
    assert (caught.value.got, caught.value.expected) == (mode, "single")
    with pytest.raises(InputError, match="one label a record"):
        labels_of(contract.replace(task={"mode": mode}))


# --- Records --------------------------------------------------------------------------------------


def test_several_labels_are_kept_in_the_contract_s_order_each_once() -> None:
    task = task_in("multi")
    records = parsed(task, "money|world", " sport ", "world | world", "none", "none|sport", "cup")
    assert records["label"].to_pylist() == ["world|money", "sport", "world", "none", None, None]
    assert task.counts(records.slice(0, 4)) == {"world": 2, "sport": 1, "money": 1}
    assert task.wanted("label", "world|moneys")[1] == "money"
    assert "'none', or labels with '|' between them" in task.wanted("label", "cup")[0]


BAD = ["", " ", "|", "world|", "world||sport", "World", "cup", "world,sport", "a\0b", "\u202eworld"]


@pytest.mark.parametrize("mode", MODES)
def test_a_label_that_is_none_is_counted_and_named_by_row(tmp_path: Path, mode: str) -> None:
    """Emoji and right-to-left text stay; nothing that is wrong with one record moves another."""
    good = ["goal \U0001f3c6", "\u0623\u062e\u0628\u0627\u0631", "a\0b"]
    rows = [{"reader": "ann", "text": text, "label": "sport"} for text in good]
    rows += [{"reader": "bob", "text": "x", "label": label} for label in BAD]
    rows.append({"reader": "bob", "text": "x" * 10_000_000, "label": "sport"})
    rows.append({"reader": "eve", "text": "last", "label": "money"})
    path, task = tmp_path / "readers.parquet", task_in(mode)
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = read_readers(path, columns=Columns(), task=task, strict=False)
    assert found.table["text"].to_pylist() == [*good, "last"]
    assert list(task.counts(found.table).values()) == [0, 3, 1]
    assert dict(found.dropped) == {
        "value too long": 1,
        "null or empty label": 2,
        "unknown label": len(BAD) - 2,
    }
    assert found.first["unknown label"] == 6
    with pytest.raises(DataError):
        read_readers(path, columns=Columns(), task=task, strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_made_records_have_each_label_in_turn(mode: str) -> None:
    task = task_in(mode)
    made = task.made([1, 5, 40, 2])
    assert [len(text.split()) for text in made["text"].to_pylist()] == [1, 5, 40, 2]
    assert list(task.counts(made).values()) in ([2, 1, 1], [1, 1, 2])
    first = [text.split()[0] for text in made["text"].to_pylist()]
    assert parsed(task, *first)["label"] == made["label"]


# --- Losses ---------------------------------------------------------------------------------------


def slow_loss(mode: str, priors: tuple[float, ...] | None, row: list[float], label: int) -> float:
    """Of a record that has this label, in Python's numbers, from the definitions."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    count = len(LABELS)
    if mode == "multi":
        total = 0.0
        for i, x in enumerate(row):
            there, prior = i == label, 0.5 if priors is None else priors[i]
            share = prior if there else 1 - prior
            total -= math.log(sigmoid(x) if there else 1 - sigmoid(x)) / (2 * share)
        return total
    weight = 1.0 if priors is None else 1 / (count * priors[label])
    if mode == "single":
        return -weight * math.log(math.exp(row[label]) / sum(map(math.exp, row)))
    on = [sigmoid(x + math.log(count - 1 - step)) for step, x in enumerate(row)]
    chance = math.prod(on[:label]) * (1 - on[label] if label < count - 1 else 1)
    return -weight * math.log(chance)


def outputs_for(task: Classification, records: int) -> Tensor:
    width = len(LABELS) - (task.table.mode == "ordinal")
    return torch.randn(records, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_losses_are_those_of_the_definitions_and_a_record_s_own(mode: str, weighted: bool) -> None:
    priors = PRIORS[mode] if weighted else None
    task = task_in(mode, priors=priors)
    outputs, numbers = outputs_for(task, 6), [0, 1, 2, 2, 1, 0]
    records = parsed(task, *(LABELS[i] for i in numbers))
    losses = task.losses(outputs, records)
    slow = [slow_loss(mode, priors, outputs[i].tolist(), n) for i, n in enumerate(numbers)]
    assert losses.shape == (6,)
    assert losses.tolist() == pytest.approx(slow, rel=1e-5)
    alone = [task.losses(outputs[i : i + 1], records.slice(i, 1)) for i in range(6)]
    assert torch.equal(losses, torch.cat(alone))


@pytest.mark.parametrize("mode", MODES)
def test_a_record_s_gradient_is_its_own(mode: str) -> None:
    """Neither how common a label is in the batch nor who else is there changes it."""
    task = task_in(mode, priors=PRIORS[mode])
    outputs = outputs_for(task, 4).requires_grad_()
    found = []
    for others in (("sport", "sport", "sport"), ("money", "world", "money")):
        losses = task.losses(outputs, parsed(task, "world", *others))
        (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        found.append(gradient[0])
    assert torch.equal(*found)
    assert bool(found[0].any())


def test_of_several_labels_each_has_its_own_sigmoid() -> None:
    task, outputs = task_in("multi"), torch.tensor([[2.0, -1.0, 0.5], [-1.0, -2.0, -0.5]])
    assert task.predict(outputs, pa.table({})) == ["world|money", "none"]
    chances = [list(row.values()) for row in task.probabilities(outputs)]
    for found, row in zip(chances, outputs.tolist(), strict=True):
        assert found == pytest.approx([1 / (1 + math.exp(-x)) for x in row])
    both = task.losses(outputs, parsed(task, "world|money", "none"))
    nats = -math.log(chances[0][0] * (1 - chances[0][1]) * chances[0][2])
    assert float(both[0]) == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("mode", ["single", "ordinal"])
def test_chances_add_up_and_a_zero_head_finds_all_labels_as_likely(mode: str) -> None:
    task = task_in(mode)
    loud = outputs_for(task, 5) * 30
    for chances in task.probabilities(loud):
        assert sum(chances.values()) == pytest.approx(1)
        assert min(chances.values()) >= 0
    (even,) = task.probabilities(torch.zeros_like(loud[:1]))
    assert list(even.values()) == pytest.approx([1 / 3] * 3)


def test_in_an_order_more_of_an_output_moves_answers_one_way() -> None:
    task = task_in("ordinal")
    rows = torch.tensor([[-9.0, 0.0], [9.0, -9.0], [9.0, 9.0]])
    assert task.predict(rows, pa.table({})) == list(LABELS)


def test_by_the_priors_a_record_weighs_1_in_the_mean() -> None:
    for mode in ("single", "ordinal"):
        plain, weighted = task_in(mode), task_in(mode, priors=PRIORS[mode])
        outputs, records = outputs_for(plain, 3), parsed(plain, *LABELS)
        weights = weighted.losses(outputs, records) / plain.losses(outputs, records)
        assert float(weights @ torch.tensor(PRIORS[mode])) == pytest.approx(1, rel=1e-5)
        assert weights.argmax() == torch.tensor(PRIORS[mode]).argmin()  # the rarest weighs most


# --- With the engine ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ffa", "fedit", "head"])
@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_the_engine_proves_itself_in_every_mode(contract: Contract, mode: str, method: str) -> None:
    """Per-reader gradients, clipping that binds on weighted losses, noise, saving."""
    task = {"mode": mode, "priors": [0.0002, 0.0003, 0.9995]}  # as extreme as a contract can be
    said = contract.replace(task=task, adapter={"method": method})
    prove(build(said), said)


@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_rows_of_a_batch_do_not_know_each_other(contract: Contract, mode: str) -> None:
    said = contract.replace(task={"mode": mode, "priors": list(PRIORS[mode]), "max_length": 40})
    model = build(said)
    prove_alike(model, read(model), said, Compute(device="cpu"))
    assert task_of(said).primary.name == ("macro_f1" if mode == "multi" else "accuracy")
