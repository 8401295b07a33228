"""The engine on encoders that say hidden tokens: gradients by the definition, proofs, mistakes.

The oracle takes one record at a time through the whole model, makes all logits of the vocabulary,
and finds the hidden places in what the model reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.conftest import COMMON, WORDS
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.bases.moved_models import with_state
from torch import Tensor, nn

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import EngineError, SelfTestError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.tasks.encoders import ENCODERS
from presspool.common.tasks.fill_mask import FillMask

LINEAR = ["query", "key", "value", "dense"]
CUTS: dict[str, dict[str, Any]] = {
    "whole": {"method": "fedit", "targets": LINEAR},
    "cut": {"method": "ffa", "targets": ["dense"], "layers": 1},
}
KNOWN = [*COMMON, *(word for topic in WORDS.values() for word in topic)]
LONG = " the minister says new rates"
TEXTS = ["goal", "new match", "goal" + LONG * 4, "vote" + LONG, "\u5317\u4eac goal", "new match"]
READER_OF = [0, 0, 1, 1, 2, 3]

Asked = Callable[[str], Contract]


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: str = request.param
    return write_masked_base(tmp_path_factory.mktemp(family), family, KNOWN)


@pytest.fixture
def asked(contract_body: dict[str, Any], encoder: Path) -> Asked:
    def make(cut: str) -> Contract:
        task = {"kind": "fill-mask", "max_length": 48, "share": 0.3}
        changes = {"model": {"id": str(encoder)}, "task": task}
        return parse_contract(contract_body | changes | {"adapter": {"rank": 2} | CUTS[cut]})

    return make


def by_engine(model: nn.Module, contract: Contract, rows: pa.Table) -> dict[str, Tensor]:
    """Each reader's gradients, batch by batch added up as `StepGradients` does."""
    trunk, reader_of = FrozenTrunk(model, contract), torch.tensor(READER_OF)
    activations = trunk.run(trunk.task.texts(rows).to_pylist())
    sums: dict[str, Tensor] = {}
    with ReaderGradients(model) as engine:
        for places in trunk.batches(activations):
            losses = record_losses(trunk, [activations[i] for i in places], rows.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for name, parameter in trainable(model).items():
                found: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                into = sums.setdefault(name, torch.zeros(4, *parameter.shape))
                into.index_add_(0, reader_of[places], found[: len(places)])
    counts = reader_of.bincount()
    return {n: s / counts.view(-1, *[1] * (s.dim() - 1)) for n, s in sums.items()}


def by_logits(model: nn.Module, rows: pa.Table) -> dict[str, Tensor]:
    """The same by the definition: one record at a time, all logits, a mean over hidden tokens."""
    headed = headed_of(model)
    task: Any = headed.task
    words = headed.encoder.get_input_embeddings().weight
    sums = {n: torch.zeros(4, *p.shape) for n, p in trainable(model).items()}
    for text, reader in zip(rows["text"].to_pylist(), READER_OF, strict=True):
        batch = task.encode([text])
        whole = torch.tensor(task.tokenizer([text], truncation=True, max_length=48)["input_ids"])
        gone = batch["input_ids"][0] == task.tokenizer.mask_token_id
        logits = model(**batch)[0] @ words.T
        loss = nn.functional.cross_entropy(logits[gone], whole[0][gone])
        found = torch.autograd.grad(loss, list(trainable(model).values()))
        for name, gradient in zip(sums, found, strict=True):
            sums[name][reader] += gradient / READER_OF.count(reader)
    return sums


@pytest.mark.parametrize("cut", CUTS)
def test_readers_gradients_are_those_of_one_record_at_a_time(asked: Asked, cut: str) -> None:
    contract, rows = asked(cut), pa.table({"text": pa.array(TEXTS, pa.large_string())})
    model = with_state(contract, 0.05)
    assert FrozenTrunk(model, contract).depth == (1 if cut == "cut" else 0)
    got, expected = by_engine(model, contract, rows), by_logits(model, rows)
    assert got.keys() == expected.keys()
    for name, right in expected.items():
        largest = right.flatten(1).norm(dim=1).max()
        assert largest > 1e-6, f"{name}: nothing to compare"
        error = (got[name] - right).flatten(1).norm(dim=1).max()
        assert error <= 1e-5 * largest, f"{name}: {error / largest:.1e}"


@pytest.mark.parametrize("cut", CUTS)
def test_a_right_engine_is_proved(asked: Asked, cut: str) -> None:
    contract = asked(cut)
    model = build(contract)
    prove(model, contract)
    compute = Compute(device="cpu", tokens=128)
    prove_alike(model, read(model), contract, compute)
    assert compute.tokens == 128


def _mean_of_the_batch(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    def losses(self: FillMask, outputs: Tensor, rows: pa.Table) -> Tensor:
        judged = self.judge(outputs, rows)
        whole: Tensor = judged["nats"].sum() / judged["tokens"].sum()
        return whole.expand(len(outputs))

    monkeypatch.setattr(FillMask, "losses", losses)


def _trained_words(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    headed_of(model).encoder.get_input_embeddings().weight.requires_grad_(True)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [(_mean_of_the_batch, "records of one batch are mixed"), (_trained_words, "word_embeddings")],
)
def test_planted_mistakes_stop_the_outlet(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, mistake: Any, says: str
) -> None:
    contract = asked("cut")
    model = build(contract)
    mistake(monkeypatch, model)
    with pytest.raises((EngineError, SelfTestError), match=says):
        prove(model, contract)
