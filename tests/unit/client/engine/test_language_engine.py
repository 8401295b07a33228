"""The engine on a language model: gradients against plain logits, proofs, planted mistakes.

The model is a tiny Llama with grouped keys and tied embeddings; the oracle takes one record at a
time through the model's own logits, of which the engine never makes a batch's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.fakes.bases.language_bases import write_tiny_llama
from tests.fakes.bases.moved_models import with_state
from torch import Tensor, nn

from presspool.client.engine import selftest
from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import EngineError, SelfTestError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapters import read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.tasks.generation import Generation

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CUTS: dict[str, dict[str, Any]] = {
    "whole": {"method": "fedit", "targets": LINEAR},
    "cut": {"method": "ffa", "targets": ["o_proj", "down_proj"], "layers": 1},
}
LONG = " the minister says new rates"

Asked = Callable[..., Contract]


@pytest.fixture
def asked(contract_body: dict[str, Any], tiny_llama: Path) -> Asked:
    def make(form: str = "text", cut: str = "cut", *, folder: Path = tiny_llama) -> Contract:
        task = {"kind": "generation", "format": form, "max_length": 48, "answer_length": 6}
        changes = {"model": {"id": str(folder)}, "task": task}
        return parse_contract(contract_body | changes | {"adapter": {"rank": 2} | CUTS[cut]})

    return make


def records(form: str) -> pa.Table:
    """Short and long ones, and two with the same answer behind other prompts."""
    texts = ["goal", "new match", "goal" + LONG * 4, "Ann" + LONG, "北京 \U0001f5f3", "new match"]
    prompts = [f"Who{LONG * (place % 3)}?" for place in range(len(texts))]
    return pa.table(
        {"text": pa.array(texts, pa.large_string())}
        if form == "text"
        else {
            "prompt": pa.array(prompts, pa.large_string()),
            "answer": pa.array(texts, pa.large_string()),
        }
    )


def by_engine(model: nn.Module, contract: Contract, rows: pa.Table, reader_of: Tensor) -> Any:
    """Each reader's gradients, batch by batch added up as `StepGradients` does."""
    trunk, counts = FrozenTrunk(model, contract), reader_of.bincount()
    activations = trunk.run(trunk.task.texts(rows).to_pylist())
    sums: dict[str, Tensor] = {}
    with ReaderGradients(model) as engine:
        for places in trunk.batches(activations):
            losses = record_losses(trunk, [activations[i] for i in places], rows.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for name, parameter in trainable(model).items():
                found: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                into = sums.setdefault(name, torch.zeros(len(counts), *parameter.shape))
                into.index_add_(0, reader_of[places], found[: len(places)])
    return {n: s / counts.view(-1, *[1] * (s.dim() - 1)) for n, s in sums.items()}


def by_logits(model: nn.Module, rows: pa.Table, reader_of: Tensor) -> Any:
    """The same by the definition: one record at a time, the whole model, its own logits."""
    task: Any = headed_of(model).task
    sums = {n: torch.zeros(int(reader_of.max()) + 1, *p.shape) for n, p in trainable(model).items()}
    for place, reader in enumerate(reader_of.tolist()):
        (known,) = task.wording.tokens(task.texts(rows.slice(place, 1)).to_pylist())
        ids = torch.tensor(known.ids)
        logits = task._loaded(input_ids=ids[None]).logits[0, :-1]
        each = nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        loss = each[torch.tensor(known.counted[1:])].mean()
        found = torch.autograd.grad(loss, list(trainable(model).values()))
        for name, gradient in zip(sums, found, strict=True):
            sums[name][reader] += gradient / int((reader_of == reader).sum())
    return sums


def assert_alike(got: Any, expected: Any, *, within: float = 1e-5) -> None:
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        largest = rows.flatten(1).norm(dim=1).max()
        assert largest > 1e-6, f"{name}: nothing to compare"
        error = (got[name] - rows).flatten(1).norm(dim=1).max()
        assert error <= within * largest, f"{name}: {error / largest:.1e}"


@pytest.mark.parametrize("form", ["text", "prompt"])
@pytest.mark.parametrize("cut", CUTS)
def test_readers_gradients_are_those_of_one_record_at_a_time(
    asked: Asked, form: str, cut: str
) -> None:
    contract, rows = asked(form, cut), records(form)
    model, reader_of = with_state(contract, 0.05), torch.tensor([0, 0, 1, 1, 2, 3])
    config: Any = headed_of(model).config
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.tie_word_embeddings
    assert FrozenTrunk(model, contract).depth == (1 if cut == "cut" else 0)
    assert_alike(by_engine(model, contract, rows, reader_of), by_logits(model, rows, reader_of))


@pytest.mark.soak
def test_they_are_on_the_real_smollm2(asked: Asked, smollm2: Path) -> None:
    contract, rows = asked("prompt", folder=smollm2), records("prompt").slice(0, 3)
    model, reader_of = with_state(contract, 0.01), torch.tensor([0, 0, 1])
    got, plain = by_engine(model, contract, rows, reader_of), by_logits(model, rows, reader_of)
    exact = by_logits(model.double(), rows, reader_of)
    for name, rows_of in exact.items():  # 30 layers round, each processor otherwise
        assert rows_of.abs().max() > 1e-6, f"{name}: nothing to compare"
        ours, usual = ((each[name] - rows_of).norm() for each in (got, plain))
        assert ours <= max(2 * usual, 1e-6 * rows_of.norm()), f"{name}: {ours / usual:.1f}"
    assert_alike(got, exact, within=1e-4)


def test_frozen_layers_run_once_a_text(asked: Asked) -> None:
    contract, rows, passes = asked(), records("text"), [0, 0]
    model = with_state(contract, 0.05)
    trunk, cache = FrozenTrunk(model, contract), ActivationCache()
    encoder: Any = headed_of(model).encoder

    def counted(place: int) -> Callable[..., None]:
        def count(_: Any, arguments: tuple[Tensor, ...], __: Any) -> None:
            passes[place] += len(arguments[0])

        return count

    for place, layer in enumerate(encoder.layers):
        layer.register_forward_hook(counted(place))
    texts = trunk.task.texts(rows).to_pylist()
    once = list(passes)
    for step in range(3):
        found = cache.get(trunk, texts)
        for places in trunk.batches(found):
            trunk.outputs([found[i] for i in places])
        once = once if step else list(passes)
    assert passes == [once[0], 3 * once[1]]
    assert once[0] > 0


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("form", ["text", "prompt", "chat"])
def test_a_right_engine_is_proved(asked: Asked, form: str, cut: str) -> None:
    contract = asked(form, cut)
    model = build(contract)
    prove(model, contract)
    compute = Compute(device="cpu", tokens=128)
    prove_alike(model, read(model), contract, compute)
    assert compute.tokens == 128


def test_a_deep_model_is_proved(asked: Asked, tmp_path: Path) -> None:
    """Filling reaches no trained layer with a gradient, which would leave float32 on the way."""
    deep = write_tiny_llama(tmp_path / "deep", layers=21)
    adapter = {"targets": LINEAR, "layers": 20}
    contract = asked(folder=deep).replace(adapter=adapter)
    prove(build(contract), contract)


def _trained_words(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    headed_of(model).encoder.embed_tokens.weight.requires_grad_(True)


def _mean_of_the_batch(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    def losses(self: Generation, outputs: Tensor, rows: pa.Table) -> Tensor:
        judged = self.judge(outputs, rows)
        whole: Tensor = judged["nats"].sum() / judged["tokens"].sum()
        return whole.expand(len(outputs))

    monkeypatch.setattr(Generation, "losses", losses)


def _losses_of_neighbours(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    right = record_losses

    def losses(trunk: FrozenTrunk, activations: Any, rows: pa.Table) -> Tensor:
        found = right(trunk, activations, rows)
        return found + 0.1 * found.roll(1)

    monkeypatch.setattr(selftest, "record_losses", losses)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (_trained_words, "embed_tokens"),
        (_mean_of_the_batch, "records of one batch are mixed"),
        (_losses_of_neighbours, "records of one batch are mixed"),
    ],
)
def test_planted_mistakes_stop_the_outlet(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, mistake: Any, says: str
) -> None:
    contract = asked("prompt")
    model = build(contract)
    mistake(monkeypatch, model)
    with pytest.raises((EngineError, SelfTestError), match=says):
        prove(model, contract)


def test_late_tokens_are_tried_too(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that treats rows differently behind the first tokens alone."""
    right = FrozenTrunk.outputs

    def outputs(self: FrozenTrunk, activations: list[Tensor]) -> Tensor:
        found = right(self, activations)
        late = (torch.arange(found.shape[1]) > 30)[:, None]
        last = (torch.arange(len(found)) == len(found) - 1)[:, None, None]
        return found * (1 + 1e-4 * (late & last))

    monkeypatch.setattr(FrozenTrunk, "outputs", outputs)
    contract = asked()
    model, compute = with_state(contract, 0.05), Compute(device="cpu", tokens=128)
    prove_alike(model, read(model), contract, compute)
    assert compute.tokens == 1
