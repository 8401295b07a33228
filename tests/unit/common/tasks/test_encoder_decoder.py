"""Models with encoder and decoder (T5, BART) that write: losses, gradients, proofs, refusals.

The oracle takes one record at a time through the model's own forward, with source and labels apart.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tests.fakes.bases.moved_models import with_state
from tests.fakes.bases.paired_bases import FAMILIES, TARGETS, write_paired_base
from tests.fakes.instruments.hostile_pairs import PAIRS, HostilePair, excess
from torch import Tensor, nn

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.engine.step_gradients import record_losses
from presspool.common.base.errors import ContractError, EngineError, ModelError, SelfTestError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.models.rows.encoder_decoder import Paired
from presspool.common.tasks.generation import Generation

END, START = 2, 1
SAID = ["goal", "new match", "goal the minister says", "vote \U0001f5f3", "北京 goal", "new match"]
GIVEN = ["Who?", "Who won the cup " * 9, "So", "\u0623\u062e\u0628\u0627\u0631", "Why", "When?"]
READER_OF = [0, 0, 1, 1, 2, 3]
ROWS = {
    first: pa.table(
        {n: pa.array(v, pa.large_string()) for n, v in zip(names, (GIVEN, SAID), strict=True)}
    )
    for first, names in (("prompt", ("prompt", "answer")), ("summary", ("article", "summary")))
}

Asked = Callable[..., Contract]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def paired_base(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paired_base(tmp_path_factory.mktemp(family), family)


@pytest.fixture
def asked(contract_body: dict[str, Any], paired_base: Path, family: str) -> Asked:
    def make(form: str = "prompt", folder: Path = paired_base, **more: Any) -> Contract:
        task = {"kind": "generation", "format": form, "max_length": 48, "answer_length": 6}
        adapter = {"rank": 2, "method": "fedit", "targets": TARGETS[family]}
        changes = {"model": {"id": str(folder)}, "task": task | more.pop("task", {})}
        return parse_contract(contract_body | changes | {"adapter": adapter | more})

    return make


def parted(task: Any, one: pa.Table) -> tuple[Tensor, Tensor]:
    """A record's source with its end, and what should be said, found in its row of ids."""
    ids = task.encode(task.texts(one).to_pylist())["input_ids"]
    border = ids[0].tolist().index(END) + 1
    return ids[:, :border], ids[:, border:]


def own_loss(task: Any, one: pa.Table) -> Tensor:
    """The model's own mean cross-entropy."""
    source, said = parted(task, one)
    start = torch.cat([torch.tensor([[START]]), said[:, :-1]], 1)
    logits = task._loaded(input_ids=source, decoder_input_ids=start).logits
    return nn.functional.cross_entropy(logits[0], said[0])


@pytest.mark.parametrize("form", ROWS)
def test_losses_are_the_models_own_of_one_record_at_a_time(asked: Asked, form: str) -> None:
    rows = ROWS[form]
    model = with_state(asked(form, task={"prompt": "Short:"} if form == "summary" else {}), 0.2)
    task: Any = headed_of(model).task
    found = task.losses(model(**task.encode(task.texts(rows).to_pylist())), rows)
    for place in range(len(rows)):
        own = own_loss(task, rows.slice(place, 1))
        assert found[place].item() == pytest.approx(own.item(), rel=1e-5)
        source, said = parted(task, rows.slice(place, 1))
        assert said[0, -1] == END
        assert source.shape[1] + said.shape[1] <= 48
    long = task.tokenizer.decode(parted(task, rows.slice(1, 1))[0][0])
    assert long.startswith("Who won") == (form == "summary")  # of an article the end is cut
    assert ("Short:" in long) == (form == "summary")


def test_readers_gradients_are_those_of_one_record_at_a_time(asked: Asked) -> None:
    contract, rows = asked(), ROWS["prompt"]
    model = with_state(contract, 0.2)
    task, names = headed_of(model).task, list(trainable(model))
    trunk, reader_of = FrozenTrunk(model, contract), torch.tensor(READER_OF)
    activations = trunk.run(task.texts(rows).to_pylist())
    got = {n: torch.zeros(4, *p.shape) for n, p in trainable(model).items()}
    with ReaderGradients(model) as engine:
        for places in trunk.batches(activations):
            losses = record_losses(trunk, [activations[i] for i in places], rows.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for name, parameter in trainable(model).items():
                found: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                got[name].index_add_(0, reader_of[places], found[: len(places)])
    expected = {n: torch.zeros_like(g) for n, g in got.items()}
    for place, reader in enumerate(READER_OF):
        loss = own_loss(task, rows.slice(place, 1))
        gradients = torch.autograd.grad(loss, [trainable(model)[n] for n in names])
        for name, gradient in zip(names, gradients, strict=True):
            expected[name][reader] += gradient
    for name in names:
        largest = expected[name].flatten(1).norm(dim=1).max()
        assert largest > 1e-7, f"{name}: nothing to compare"
        assert (got[name] - expected[name]).flatten(1).norm(dim=1).max() <= 2e-5 * largest, name


def test_only_what_says_and_looks_back_trains(asked: Asked, family: str) -> None:
    wide = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"]}[family]
    names = list(trainable(build(asked(targets=wide))))
    assert names
    assert not [name for name in names if "encoder.encoder." in name]
    assert any("EncDec" in name or "encoder_attn" in name for name in names)


def test_a_right_engine_is_proved_and_a_mixing_model_gets_one_row(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = asked()
    model = build(contract)
    prove(model, contract)
    compute = Compute(device="cpu", tokens=128)
    prove_alike(model, read(model), contract, compute)
    assert compute.tokens == 128
    right = Paired.forward

    def mixed(self: Paired, input_ids: Tensor, attention_mask: Tensor) -> Any:
        found = right(self, input_ids, attention_mask)
        own = found.last_hidden_state  # a row alone is as it was
        found.last_hidden_state = own + 0.1 * (own.roll(1, 0) - own)
        return found

    monkeypatch.setattr(Paired, "forward", mixed)
    prove_alike(model, read(with_state(contract, 0.2)), contract, compute)
    assert compute.tokens == 1  # no row has a neighbour then


def test_a_mean_over_the_batch_stops_the_outlet(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(self: Generation, outputs: Tensor, rows: pa.Table) -> Tensor:
        judged = self.judge(outputs, rows)
        whole: Tensor = judged["nats"].sum() / judged["tokens"].sum()
        return whole.expand(len(outputs))

    contract = asked()
    model = build(contract)
    monkeypatch.setattr(Generation, "losses", losses)
    with pytest.raises((EngineError, SelfTestError), match="records of one batch are mixed"):
        prove(model, contract)


def test_it_writes_what_one_token_at_a_time_gives(asked: Asked) -> None:
    model, rows = with_state(asked(), 2.0), ROWS["prompt"].select(["prompt"])
    task: Any = headed_of(model).task
    said = task.write(rows)
    with torch.no_grad():
        for given, text in zip(task.wording.given(rows), said, strict=True):
            ids = [START]
            while len(ids) < 7 and (ids[-1] != END or len(ids) == 1):
                known = {"input_ids": torch.tensor([given])}
                logits = task._loaded(**known, decoder_input_ids=torch.tensor([ids])).logits
                ids.append(int(logits[0, -1].argmax()))
            assert text == task.tokenizer.decode(ids[1:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("form", ["text", "chat"])
def test_formats_without_a_source_are_refused_by_name(asked: Asked, form: str) -> None:
    with pytest.raises(ContractError, match="reads one thing and says one answer") as caught:
        build(asked(form))
    assert caught.value.got == form


def test_layers_that_cannot_be_counted_are_refused(asked: Asked) -> None:
    with pytest.raises(ContractError, match="two rows of layers"):
        build(asked(layers=1))


def test_a_model_whose_loss_is_another_is_refused(
    asked: Asked, family: str, paired_base: Path, tmp_path: Path
) -> None:
    if family == "t5":
        folder = write_paired_base(tmp_path / "umt5", "umt5", tie_word_embeddings=True)
    else:
        from safetensors.torch import load_file, save_file

        folder = shutil.copytree(paired_base, tmp_path / "bart")
        weights = load_file(folder / "model.safetensors")
        weights["final_logits_bias"] = torch.ones(1, 320) * torch.arange(320)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="encoder-decoder whose loss"):
        build(asked(folder=folder))


def test_hostile_neighbours_move_the_sum_by_no_more_than_is_stated(tmp_path: Path) -> None:
    bases = ((PAIRS, str(write_paired_base(tmp_path / "t5", "t5"))),)
    found = [excess(HostilePair.drawn(bases, seed=seed)) for seed in range(20, 44)]
    assert max(found) <= 1
    assert sum(one > 0.999 for one in found) >= 3, "hardly a gradient was clipped"
