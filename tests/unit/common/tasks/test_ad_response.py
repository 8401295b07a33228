"""The task `ad-response`: losses, gradients and corrected chances against slow oracles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.conftest import COMMON
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.bases.moved_models import with_state
from torch import Tensor

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.models.adapters import read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.tasks.ad_response import AdResponse, AdTable
from presspool.common.tasks.records.adverts import CONTEXT
from presspool.common.tasks.scores.click_scores import calibration, scores

VALUES = {"section": ("world", "sport", "money"), "device": ("phone", "desktop")}
TASK = {
    "kind": "ad-response",
    "context": {name: list(values) for name, values in VALUES.items()},
    "kept_unclicked": 0.25,
    "max_length": 8,
}
ROWS = [
    ("the goal", "sport", "phone", 1),
    ("vote for the bank " * 9, "money", "desktop", 0),
    ("bank", "world", "phone", 0),
    ("the goal", "sport", "desktop", 1),
]
RECORDS = pa.table(
    {
        name: pa.array(values, pa.int64() if name == "clicked" else pa.large_string())
        for name, values in zip(
            ("text", "section", "device", "clicked"), zip(*ROWS, strict=True), strict=True
        )
    }
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*COMMON, "goal", "vote", "bank", "final"]
    return write_masked_base(tmp_path_factory.mktemp("base"), "bert", words)


@pytest.fixture
def contract(contract_body: dict[str, Any], base: Path) -> Contract:
    return parse_contract(contract_body | {"model": {"id": str(base)}, "task": TASK})


def oracle(model: Any, text: str, section: str, device: str) -> Tensor:
    """One showing's log-odds among kept ones: a linear head on the vector and one-hot numbers."""
    headed = headed_of(model)
    asked = headed.task.tokenizer([text], truncation=True, max_length=8, return_tensors="pt")
    states = headed.encoder(**asked).last_hidden_state
    vector = torch.nn.functional.normalize(states[0].mean(0), dim=0)
    pairs = zip(VALUES.items(), (section, device), strict=True)
    hot = [float(value == own) for (_, values), own in pairs for value in values]
    trained = {n: p for n, p in trainable(model).items() if "head" in n}
    (of_text,) = (p for n, p in trained.items() if ".text." in n)
    (of_context,) = (p for n, p in trained.items() if ".context." in n)
    whole = torch.cat([vector, torch.tensor(hot) / math.sqrt(2)])
    return torch.cat([of_text[0], of_context[:, 0]]) @ whole


def loss_of(model: Any, text: str, section: str, device: str, clicked: int) -> Tensor:
    """-log of the chance of what happened."""
    chance = oracle(model, text, section, device).sigmoid()
    return -(chance if clicked else 1 - chance).log()


@pytest.mark.parametrize(("method", "layers"), [("fedit", None), ("ffa", 1), ("head", 1)])
def test_a_records_loss_and_gradient_are_its_own(
    contract: Contract, method: str, layers: int | None
) -> None:
    contract = contract.replace(adapter={"method": method, "layers": layers})
    model = with_state(contract, 0.3)
    trunk = FrozenTrunk(model, contract)
    found = trunk.run(trunk.task.texts(RECORDS).to_pylist())
    parameters = list(trainable(model).values())
    wanted = [loss_of(model, *row) for row in ROWS]
    gradients = [torch.autograd.grad(loss, parameters) for loss in wanted]
    seen = list[int]()
    with ReaderGradients(model) as engine:
        for places in trunk.batches(found):
            losses = record_losses(trunk, [found[i] for i in places], RECORDS.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for row, place in enumerate(places):
                assert torch.allclose(losses[row], wanted[place], atol=1e-5)
                rows: list[Tensor] = [p.grad_sample[row] for p in parameters]  # type: ignore[attr-defined]
                pairs = zip(rows, gradients[place], strict=True)
                assert all(torch.allclose(got, own, atol=1e-5) for got, own in pairs)
            seen += places
    assert sorted(seen) == list(range(len(ROWS)))


def test_a_records_context_moves_nobody_elses_loss(contract: Contract) -> None:
    model = with_state(contract, 0.3)
    task: Any = headed_of(model).task
    outputs = model(**task.encode(task.texts(RECORDS).to_pylist()))
    other = RECORDS.set_column(1, "section", pa.array(["world"] + ["money"] * 3, pa.large_string()))
    before, after = (task.losses(outputs, each) for each in (RECORDS, other))
    assert (before == after).tolist() == [False, True, False, False]


def test_the_engines_own_proofs_hold(contract: Contract) -> None:
    model = build(contract)
    prove(model, contract)
    prove_alike(model, read(model), contract, Compute(device="cpu", tokens=128))


def task_with(**said: Any) -> AdResponse:
    return AdResponse(AdTable.model_validate({**TASK, **said}))


def test_what_is_said_is_corrected_for_showings_that_were_left_out() -> None:
    """He et al. 2014, section 6.3: q = p / (p + (1 - p) / w), here with p = 3/4 and w = 1/10."""
    outputs = torch.tensor([[0.0, math.log(3) * math.sqrt(2), 0.0, 0.0, 0.0, 0.0]]).expand(1, -1)
    record = pa.table({"text": ["x"], "section": ["world"], "device": ["phone"], "clicked": [1]})
    kept = task_with(kept_unclicked=0.1)
    assert float(kept.losses(outputs, record)) == pytest.approx(-math.log(0.75))
    assert kept.predict(outputs, record) == ["0.230769"]  # 3/13
    assert kept.told("0.230769") == 0.230769
    assert kept.told("nan") is None
    assert float(kept.judge(outputs, record)["logits"]) == pytest.approx(math.log(3 / 10))
    assert task_with(kept_unclicked=1.0).predict(outputs, record) == ["0.75"]


def test_at_its_start_half_of_the_kept_are_taken_for_clicked(contract: Contract) -> None:
    model = build(contract).eval()
    task: Any = headed_of(model).task
    outputs = model(**task.encode(task.texts(RECORDS).to_pylist()))
    assert task.losses(outputs, RECORDS).tolist() == pytest.approx([math.log(2)] * 4)
    assert task.predict(outputs, RECORDS) == ["0.2"] * 4  # w / (1 + w)


# --- Scores --------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    """Chances 3/4, 1/4, 1/4 and 1/4; the first and the last were clicked."""
    logits = [math.log(3), -math.log(3), -math.log(3), -math.log(3)]
    found = scores(logits, [1, 0, 0, 1])
    loss = (3 * math.log(4 / 3) + math.log(4)) / 4
    assert found["loss"] == pytest.approx(loss)
    assert found["normalised_entropy"] == pytest.approx(loss / math.log(2))
    assert found["auc"] == pytest.approx((2 + 2 * 0.5) / 4)  # of four pairs two right, two ties
    assert found["ece"] == pytest.approx((1 * (1 - 3 / 4) + 3 * (1 / 3 - 1 / 4)) / 4)
    figures = calibration(logits, [1, 0, 0, 1])
    assert figures is not None
    assert [(one.answers, round(one.right, 3)) for one in figures.bins] == [(3, 0.333), (1, 1.0)]


def test_of_one_class_there_is_neither_auc_nor_normalised_entropy() -> None:
    found = scores([0.0, 0.0], [0, 0])
    assert (found["auc"], found["normalised_entropy"]) == (None, None)
    assert found["loss"] == pytest.approx(math.log(2))
    assert found["ece"] == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_model_has_no_scores(bad: float) -> None:
    assert set(scores([bad, 0.0], [1, 0]).values()) == {None}
    assert calibration([bad, 0.0], [1, 0]) is None


def test_a_model_that_knows_the_base_rate_alone_is_one() -> None:
    found = scores([math.log(1 / 9)] * 10, [1] + [0] * 9)
    assert found["normalised_entropy"] == pytest.approx(1.0)
    assert found["auc"] == 0.5


# --- The contract --------------------------------------------------------------------------------


def test_columns_are_the_contracts_in_an_order_of_their_own(contract: Contract) -> None:
    task = task_of(contract)
    assert task.inputs == ("text", "section", "device")
    assert task.columns == (*task.inputs, "clicked")
    turned = {"device": ["phone", "desktop"], "section": ["world", "sport", "money"]}
    assert contract.replace(task={"context": turned}).digest == contract.digest
    there = {"text", "reader", "clicked", "device", "hour"}
    assert AdResponse.columns_in(there) == ("text", "device", "hour", "clicked")
    assert set(TASKS["ad-response"].columns) == {"text", "clicked", *CONTEXT}


def test_a_share_of_one_is_not_written(contract: Contract) -> None:
    assert contract.body()["task"]["kept_unclicked"] == 0.25
    whole = contract.replace(task={"kept_unclicked": 1.0})
    assert "kept_unclicked" not in whole.body()["task"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"context": {}}, "name a column or more"),
        ({"context": {"devise": ["a", "b"]}}, "unknown key"),
        ({"context": {"device": ["phone"]}}, "expected 2 or more"),
        ({"context": {"device": ["phone", "phone"]}}, "different, non-empty"),
        ({"context": {"device": ["phone", " "]}}, "different, non-empty"),
        ({"context": {"hour": [0, 1]}}, "text in quotes"),
        ({"kept_unclicked": 0.0}, "greater than 0"),
        ({"kept_unclicked": 1.5}, "1 or less"),
        ({"max_length": 3}, "4 or more"),
    ],
)
def test_tables_that_say_nothing_are_refused(
    contract: Contract, said: dict[str, Any], why: str
) -> None:
    with pytest.raises(ContractError, match=why):
        contract.replace(task=said)
