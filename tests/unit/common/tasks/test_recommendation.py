"""The task `recommendation`: titles apart in one row, losses and gradients against slow oracles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.fft import dct
from tests.conftest import COMMON
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.bases.moved_models import with_state
from torch import Tensor

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import ContractError, ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.models.rows import parts
from presspool.common.tasks.encoders import ENCODERS
from presspool.common.tasks.recommendation import SCALE

TASK = {"kind": "recommendation", "history": 3, "candidates": 4, "title_length": 8}
ROWS = [
    (["goal vote", "the bank"], ["final the goal", "vote"], [0, 1]),
    ([], ["bank", "goal goal", "the vote the bank"], [1, 0, 0]),
    (["the"] * 5 + ["goal"], ["vote " * 9, "bank", "final", "the goal"], [1, 0, 1, 0]),
]
LAYERS = [None, 1]
METHODS = [("fedit", None), ("ffa", 1), ("head", 1)]


def table_of(rows: Any) -> pa.Table:
    names = ("history", "candidates", "clicks")
    columns = zip(*rows, strict=True)
    return pa.table(
        {
            name: pa.array([json.dumps(value) for value in column], pa.large_string())
            for name, column in zip(names, columns, strict=True)
        }
    )


RECORDS = table_of(ROWS)


@pytest.fixture(scope="module", params=ENCODERS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*COMMON, "goal", "vote", "bank", "final"]
    return write_masked_base(tmp_path_factory.mktemp("base"), request.param, words)


@pytest.fixture
def contract(contract_body: dict[str, Any], base: Path) -> Contract:
    return parse_contract(contract_body | {"model": {"id": str(base)}, "task": TASK})


def alone(model: Any, title: str) -> Tensor:
    """A title's vector by the encoder as transformers has it, of nothing but that title."""
    headed = headed_of(model)
    limit = headed.task.table.title_length
    asked = headed.task.tokenizer([title], truncation=True, max_length=limit, return_tensors="pt")
    states = headed.encoder(**asked).last_hidden_state
    return torch.nn.functional.normalize(states[0].mean(0), dim=0)


def sums(vector: Tensor, count: int) -> Tensor:
    """The first coefficients of its cosine transform (type II), from the second on."""
    waves = dct(np.eye(len(vector)), axis=0, norm="ortho")[1 : count + 1]
    return torch.from_numpy(waves * math.sqrt(len(vector) / count)).float() @ vector


def oracle(model: Any, history: list[str], candidates: list[str], clicks: list[int]) -> Tensor:
    """One impression's loss, title by title."""
    found = dict(headed_of(model).head.named_parameters())
    weight, turn = (
        next(p for n, p in found.items() if n.endswith(f"{name}.weight") and "original" not in n)
        for name in ("weigh", "turn")
    )
    past = [alone(model, title) for title in history[-3:]]
    reader = weight[1].clone()
    if past:
        shares = torch.stack([weight[0] @ vector for vector in past]).softmax(0)
        read = [vector + turn @ sums(vector, turn.shape[1]) for vector in past]
        reader = reader + sum(share * vector for share, vector in zip(shares, read, strict=True))
    scores = torch.stack([SCALE * (alone(model, title) @ reader) for title in candidates])
    logs = scores.log_softmax(0)
    return -logs[torch.tensor(clicks).bool()].mean()


@pytest.mark.parametrize("layers", LAYERS)
def test_a_title_is_the_same_among_others_and_alone(contract: Contract, layers: int | None) -> None:
    """The whole model, and the one cut at its first trained layer, at float tolerance."""
    model = with_state(contract.replace(adapter={"layers": layers}), 0.3)
    task: Any = headed_of(model).task
    texts = task.texts(RECORDS).to_pylist()
    trunk = FrozenTrunk(model, contract)
    assert bool(trunk.depth) == (layers is not None)
    whole = model(**task.encode(texts))
    for row, (history, candidates, _) in enumerate(ROWS):
        wanted = torch.stack([alone(model, title) for title in [*history[-3:], *candidates]])
        (cut,) = trunk.outputs(trunk.run([texts[row]]))[:1]
        for outputs in (whole[row], cut):
            assert torch.allclose(outputs[: len(wanted), : wanted.shape[1]], wanted, atol=1e-5)
            assert not outputs[len(wanted) :, :-2].any()


@pytest.mark.parametrize("mistake", ["one text", "positions go on"])
def test_equality_finds_titles_that_are_not_apart(
    contract: Contract, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, wrong = {
        "one text": ("apart", lambda found: torch.zeros(len(found), 1, 1, found.shape[1])),
        "positions go on": (
            "positions",
            lambda found: torch.arange(found.shape[1]).expand_as(found),
        ),
    }[mistake]
    model = with_state(contract, 0.3)
    task: Any = headed_of(model).task
    monkeypatch.setattr(parts, name, wrong)
    outputs = model(**task.encode(task.texts(RECORDS).to_pylist()))
    wanted = alone(model, "the bank")
    assert not torch.allclose(outputs[0, 1, : len(wanted)], wanted, atol=1e-3)


def test_what_a_title_says_changes_no_bit_of_another(contract: Contract) -> None:
    model = with_state(contract, 0.3)
    task: Any = headed_of(model).task
    other = table_of([(h, [c[0], "goal", *c[2:]], k) for h, c, k in ROWS[:1]])
    pair = pa.concat_tables([RECORDS.slice(0, 1), other])
    first, second = model(**task.encode(task.texts(pair).to_pylist()))
    assert torch.equal(first[:3], second[:3])
    assert not torch.equal(first[3], second[3])
    embedded = list[Tensor]()

    def keep(_: Any, __: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = headed_of(model).encoder.embeddings.register_forward_hook(keep)
    batch = task.encode(task.texts(RECORDS.slice(0, 1)).to_pylist())
    outputs = model(**batch)
    hook.remove()
    outputs[0, 1].sum().backward()
    own, gradient = batch["attention_mask"][0] == 2, embedded[0].grad
    assert gradient is not None
    assert gradient[0][own].any()
    assert not gradient[0][~own].any()


def test_losses_are_those_of_one_title_at_a_time(contract: Contract) -> None:
    model = with_state(contract, 0.3)
    task: Any = headed_of(model).task
    outputs = model(**task.encode(task.texts(RECORDS).to_pylist()))
    losses = task.losses(outputs, RECORDS)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx([oracle(model, *row).item() for row in ROWS], rel=1e-4)


@pytest.mark.parametrize(("method", "layers"), METHODS)
def test_gradients_are_those_of_one_title_at_a_time(
    contract: Contract, method: str, layers: int | None
) -> None:
    """Every method and encoder: what autograd gives for each record's slow loss."""
    targets = ["query", "value", "dense"]
    adapter = {"rank": 2, "alpha": 4, "targets": targets, "method": method, "layers": layers}
    contract = contract.replace(adapter=adapter)
    model = with_state(contract, 0.3)
    wanted = list[dict[str, Any]]()
    for row in ROWS:
        found = torch.autograd.grad(
            oracle(model, *row), list(trainable(model).values()), allow_unused=True
        )
        wanted.append(dict(zip(trainable(model), found, strict=True)))
    trunk = FrozenTrunk(model, contract)
    activations = trunk.run(trunk.task.texts(RECORDS).to_pylist())
    with ReaderGradients(model) as engine:
        for places in trunk.batches(activations):
            some = [activations[place] for place in places]
            losses = record_losses(trunk, some, RECORDS.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for name, parameter in trainable(model).items():
                gradient: Any = parameter.grad_sample  # type: ignore[attr-defined]
                for at, place in enumerate(places):
                    right = wanted[place][name]
                    right = torch.zeros(()) if right is None else right
                    off = (gradient[at] - right).norm()
                    assert off <= 1e-4 * right.norm() + 1e-6, name


@pytest.mark.parametrize(("method", "layers"), METHODS)
def test_the_engines_proofs_hold(contract: Contract, method: str, layers: int | None) -> None:
    adapter = {"rank": 2, "alpha": 4, "targets": ["query", "value"], "method": method}
    contract = contract.replace(adapter=adapter | {"layers": layers})
    model = build(contract)
    prove(model, contract)
    compute = Compute(device="cpu", tokens=128)
    prove_alike(model, read(model), contract, compute)
    assert compute.tokens == 128


def test_at_its_start_a_score_is_the_cosine_with_the_histories_mean(contract: Contract) -> None:
    model = build(contract).eval()
    task: Any = headed_of(model).task
    outputs = model(**task.encode(task.texts(RECORDS).to_pylist()))
    judged = task.judge(outputs, RECORDS)
    scores = judged["scores"]
    torch.testing.assert_close(SCALE * judged["likeness"][:, 2:4], scores[:, 2:4])
    past = torch.stack([alone(model, title) for title in ROWS[0][0]]).mean(0)
    wanted = [SCALE * (alone(model, title) @ past).item() for title in ROWS[0][1]]
    assert scores[0, 2:4].tolist() == pytest.approx(wanted, rel=1e-4)
    assert not scores[1, :3].any()  # nothing is known of a reader without history


def test_in_batch_negatives_are_refused_with_the_reason(contract_body: dict[str, Any]) -> None:
    task = TASK | {"negatives": "in-batch"}
    with pytest.raises(ContractError, match="other readers' candidates") as caught:
        parse_contract(contract_body | {"task": task})
    assert "clipping would bound nothing" in str(caught.value)
    with pytest.raises(ContractError, match="negatives"):
        parse_contract(contract_body | {"task": TASK | {"negatives": "catalogue"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [("history", 0), ("candidates", 1), ("title_length", 3), ("title_length", True)],
)
def test_caps_have_bounds(contract_body: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(ContractError, match=key):
        parse_contract(contract_body | {"task": TASK | {key: value}})
    wide = {"history": 128, "candidates": 128, "title_length": 17}
    with pytest.raises(ContractError, match="4352 tokens"):
        parse_contract(contract_body | {"task": TASK | wide})


def test_titles_are_held_against_the_models_positions_one_by_one(
    contract_body: dict[str, Any],
) -> None:
    """Packed they may be longer than the base model reads in one go."""
    many = TASK | {"history": 60, "candidates": 60}
    build(parse_contract(contract_body | {"task": many}))
    with pytest.raises(ContractError, match="longer than the base model can read") as caught:
        build(parse_contract(contract_body | {"task": TASK | {"title_length": 100}}))
    assert caught.value.where == "[task] title_length"


def test_a_decoder_is_refused(contract_body: dict[str, Any], tiny_llama: Path) -> None:
    model = {"id": str(tiny_llama)}
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    with pytest.raises(ModelError, match="not tried with"):
        build(parse_contract(contract_body | {"task": TASK, "model": model, "adapter": adapter}))


def test_no_title_can_write_where_another_begins(contract: Contract) -> None:
    task: Any = task_of(contract)
    rows = table_of([(["[CLS] [SEP] goal"], ["vote [CLS] the", "bank"], [1, 0])])
    batch = task.encode(task.texts(rows).to_pylist())
    assert batch["attention_mask"].max() == 3
    assert (batch["input_ids"] == task.tokenizer.cls_token_id).sum() == 3


def test_an_answer_ranks_the_candidates(contract_body: dict[str, Any]) -> None:
    task: Any = task_of(parse_contract(contract_body | {"task": TASK}))
    asked = table_of([(["goal"], ["vote", "bank"], [])]).drop_columns("clicks")
    outputs = torch.zeros(1, 7, 6)
    outputs[0, 0, 2] = outputs[0, 2, 0] = 1.0  # what is read, and what is shown
    (answer,) = task.predict(outputs, asked)
    first, second = task.told(answer)
    assert [first["title"], second["title"]] == ["bank", "vote"]
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-SCALE)), abs=1e-4)
    assert first["score"] + second["score"] == pytest.approx(1, abs=1e-3)
