"""The engine's gradients against one record at a time and against Opacus, on five architectures."""

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from tests.fakes.tiny_models import FAMILIES, Batch, TinyModel, tiny_model
from torch import Tensor, nn

from presspool.client.engine.reader_gradients import ReaderGradients

LENGTHS = [5, 9, 3, 7, 6, 4]
READERS = {
    "record": (torch.arange(6), 6),
    "reader": (torch.tensor([0, 0, 1, 1, 2, 2]), 3),
    "ragged": (torch.tensor([0, 0, 0, 1, 3, 3]), 5),  # readers 2 and 4 have no record
}

Rows = dict[str, Tensor]


def trained(tiny: TinyModel) -> dict[str, Any]:
    return {n: p for n, p in tiny.model.named_parameters() if p.requires_grad}


def one_at_a_time(tiny: TinyModel, batch: Batch) -> Rows:
    """Each record alone through the model as PEFT made it: (records, *shape) by parameter."""
    rows: dict[str, list[Tensor]] = {name: [] for name in trained(tiny)}
    for i in range(len(batch["input_ids"])):
        tiny.losses({key: value[i : i + 1] for key, value in batch.items()}).sum().backward()  # type: ignore[no-untyped-call]
        for name, p in trained(tiny).items():
            rows[name].append(torch.zeros_like(p) if p.grad is None else p.grad)
            p.grad = None
    return {name: torch.stack(parts).float() for name, parts in rows.items()}


def with_opacus(tiny: TinyModel, losses: Callable[[], Tensor]) -> Rows:
    hooks = GradSampleHooks(tiny.model, loss_reduction="sum", strict=False)
    losses().sum().backward()  # type: ignore[no-untyped-call]
    rows = {name: p.grad_sample for name, p in trained(tiny).items()}
    hooks.cleanup()
    tiny.model.zero_grad(set_to_none=True)
    return rows


def with_engine(tiny: TinyModel, batch: Batch, readers: str = "record") -> Rows:
    reader_of, count = READERS[readers]
    with ReaderGradients(tiny.model) as engine:
        engine.backward(tiny.losses(batch), reader_of, count)
        assert all(p.grad is None for p in tiny.model.parameters())
        return {name: p.grad_sample for name, p in trained(tiny).items()}


def means(rows: Rows, readers: str) -> Rows:
    """(records, ...) to (readers, ...), by the definition."""
    reader_of, count = READERS[readers]
    return {
        name: torch.stack(
            [
                row[reader_of == r].mean(0) if (reader_of == r).any() else torch.zeros_like(row[0])
                for r in range(count)
            ]
        )
        for name, row in rows.items()
    }


def assert_close(got: Rows, expected: Rows) -> None:
    """Every reader's gradient of every parameter, by L2 norm, against that parameter's largest."""
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        assert got[name].dtype == torch.float32
        assert got[name].shape == rows.shape, name
        largest = rows.flatten(1).norm(dim=1).max()
        # a key's bias shifts all scores of a softmax alike: its true gradient is zero
        assert largest > 1e-4 or "key.bias" in name, f"{name}: nothing to compare"
        largest = largest.clamp(min=1e-4)
        error = (got[name] - rows).flatten(1).norm(dim=1).max()
        assert error <= 1e-5 * largest, f"{name}: {error / largest:.1e}"


def vector(rows: Rows) -> Tensor:
    assert all(row.dtype == torch.float32 for row in rows.values())
    return torch.cat([row.flatten() for row in rows.values()])


@functools.lru_cache(maxsize=1)
def references(family: str, targets: str) -> tuple[Rows, Rows]:
    tiny = tiny_model(family, targets)
    batch = tiny.batch(LENGTHS)
    return one_at_a_time(tiny, batch), with_opacus(tiny, lambda: tiny.losses(batch))


@pytest.mark.parametrize("readers", READERS)
@pytest.mark.parametrize("checkpointing", [None, "reentrant", "non-reentrant"])
@pytest.mark.parametrize("targets", ["q,v", "all-linear"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_single_records_and_of_opacus(
    family: str, targets: str, checkpointing: str | None, readers: str
) -> None:
    alone, opacus = references(family, targets)
    tiny = tiny_model(family, targets, checkpointing=checkpointing)
    got = with_engine(tiny, tiny.batch(LENGTHS), readers)
    assert_close(got, means(alone, readers))
    assert_close(got, means(opacus, readers))


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_attention(family: str) -> None:
    tiny = tiny_model(family, attention="eager")
    batch = tiny.batch(LENGTHS)
    assert_close(with_engine(tiny, batch, "ragged"), means(one_at_a_time(tiny, batch), "ragged"))


LORA: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "lora bias": {"lora_bias": True},
    "dora": {"use_dora": True},
    "biases of adapted layers": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "both kinds of bias": {"bias": "lora_only", "lora_bias": True},
    "trained layer norms": {"modules_to_save": ["LayerNorm", "head"]},
}


@pytest.mark.parametrize("name", LORA)
def test_kinds_of_lora(name: str) -> None:
    tiny = tiny_model("bert", "q,v", lora=LORA[name])
    batch = tiny.batch(LENGTHS)
    assert_close(with_engine(tiny, batch, "ragged"), means(one_at_a_time(tiny, batch), "ragged"))


@pytest.mark.parametrize(
    ("family", "modules"),
    [
        ("llama", ["norm", "input_layernorm"]),
        ("qwen2", ["norm", "post_attention_layernorm"]),
        ("t5", ["layer_norm"]),
        ("gpt2", ["ln_1", "ln_f", "c_proj"]),  # norms, and a Conv1D trained as a whole
    ],
)
def test_modules_trained_as_a_whole(family: str, modules: list[str]) -> None:
    tiny = tiny_model(family, "q,v", lora={"modules_to_save": modules})
    batch = tiny.batch(LENGTHS)
    assert_close(with_engine(tiny, batch, "ragged"), means(one_at_a_time(tiny, batch), "ragged"))


@pytest.mark.parametrize("checkpointing", [None, "reentrant", "non-reentrant"])
@pytest.mark.parametrize("frozen", ["lora_A", "lora_B"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_frozen_factor(family: str, frozen: str, checkpointing: str | None) -> None:
    tiny = tiny_model(family, checkpointing=checkpointing)
    for name, p in tiny.model.named_parameters():
        if frozen in name:
            p.requires_grad_(False)
    batch = tiny.batch(LENGTHS)
    got = with_engine(tiny, batch, "ragged")
    assert got
    assert not any(frozen in name for name in got)
    assert_close(got, means(one_at_a_time(tiny, batch), "ragged"))


@pytest.mark.parametrize("checkpointing", [None, "reentrant", "non-reentrant"])
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_dropout_with_the_same_draw_as_opacus(family: str, checkpointing: str | None) -> None:
    lora = {"lora_dropout": 0.3}
    tiny = tiny_model(family, lora=lora)
    batch = tiny.batch(LENGTHS)

    def losses() -> Tensor:
        torch.manual_seed(5)
        return tiny.losses(batch)

    expected = with_opacus(tiny, losses)
    tiny = tiny_model(family, lora=lora, checkpointing=checkpointing)
    torch.manual_seed(5)
    assert_close(with_engine(tiny, batch), expected)


@pytest.mark.parametrize("checkpointing", [None, "reentrant", "non-reentrant"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_autocast(family: str, checkpointing: str | None) -> None:
    tiny = tiny_model(family, checkpointing=checkpointing)
    batch = tiny.batch(LENGTHS)
    exact = vector(means(one_at_a_time(tiny, batch), "ragged"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = vector(means(one_at_a_time(tiny, batch), "ragged"))
    reader_of, count = READERS["ragged"]
    with ReaderGradients(tiny.model) as engine:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = tiny.losses(batch)
        engine.backward(losses, reader_of, count)
        got = vector({name: p.grad_sample for name, p in trained(tiny).items()})
    # as far from float32 as PEFT itself is: rounding to 8 bits, and nothing else
    assert 0 < (got - exact).norm() <= 1.5 * (alone - exact).norm() < exact.norm()


def test_a_bfloat16_base_with_float32_adapters() -> None:
    tiny = tiny_model("llama")
    for name, p in tiny.model.named_parameters():
        if "lora_" not in name:
            p.data = p.data.bfloat16()
    batch = tiny.batch(LENGTHS)
    expected = vector(one_at_a_time(tiny, batch))
    assert (vector(with_engine(tiny, batch)) - expected).norm() <= 0.02 * expected.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_record_does_not_feel_the_other_records_of_its_batch(family: str) -> None:
    tiny = tiny_model(family)
    long = tiny.batch([5, 3, 11], seed=1)
    other = tiny.batch([5, 9, 4], seed=2)
    width = other["input_ids"].shape[1]
    for key, value in other.items():  # same first record, other neighbours, other padding
        value[0] = long[key][0] if value.dim() == 1 else long[key][0, : value.shape[1]]
    assert width != long["input_ids"].shape[1]
    reader_of = torch.arange(3)
    with ReaderGradients(tiny.model) as engine:
        engine.backward(tiny.losses(long), reader_of, 3)
        first = {name: p.grad_sample[:1] for name, p in trained(tiny).items()}
        engine.backward(tiny.losses(other), reader_of, 3)
        second = {name: p.grad_sample[:1] for name, p in trained(tiny).items()}
    assert_close(first, second)


def test_a_record_that_is_not_a_number_stays_with_its_reader() -> None:
    tiny = tiny_model("bert")
    batch = tiny.batch(LENGTHS)
    clean = with_engine(tiny, batch, "reader")
    spoil = torch.tensor([1.0, 1.0, float("nan"), 1.0, 1.0, 1.0])
    reader_of, count = READERS["reader"]
    with ReaderGradients(tiny.model) as engine:
        engine.backward(tiny.losses(batch) * spoil, reader_of, count)
        for name, p in trained(tiny).items():
            assert not p.grad_sample[1].isfinite().all()
            torch.testing.assert_close(p.grad_sample[[0, 2]], clean[name][[0, 2]])


def test_no_records_at_all_give_zeros() -> None:
    tiny = tiny_model("bert", "q,v")
    with ReaderGradients(tiny.model) as engine:
        engine.backward(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 4)
        for p in trained(tiny).values():
            assert p.grad_sample.shape == (4, *p.shape)
            assert not p.grad_sample.any()


def test_a_second_pass_replaces_the_first() -> None:
    tiny = tiny_model("bert", "q,v")
    batch = tiny.batch(LENGTHS)
    reader_of, count = READERS["record"]
    with ReaderGradients(tiny.model) as engine:
        engine.backward(tiny.losses(tiny.batch(LENGTHS, seed=9)), reader_of, count)
        engine.backward(tiny.losses(batch), reader_of, count)
        got = {name: p.grad_sample for name, p in trained(tiny).items()}
    assert_close(got, one_at_a_time(tiny, batch))


class Twice(nn.Module):
    """One linear layer under two others' inputs, as in weight sharing across depth."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(x).tanh())).sum((1, 2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("dropout", [0.0, 0.5])  # fused, and PEFT's own forward with taps
def test_a_layer_called_twice_gets_the_sum_of_both_calls(dropout: float) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = LoraConfig(
        r=2,
        target_modules=["shared"],
        init_lora_weights=False,
        modules_to_save=["head"],
        lora_dropout=dropout,
    )
    model = get_peft_model(Twice(), lora)
    x = torch.randn(3, 5, 4)
    torch.manual_seed(1)
    model(x).sum().backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    torch.manual_seed(1)
    with ReaderGradients(model) as engine:
        engine.backward(model(x), torch.arange(3), 3)
        for name, p in model.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(p.grad_sample.sum(0), expected[name])


def test_two_dimensional_inputs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 1))
    x = torch.randn(3, 4)
    weights = list(model.parameters())
    expected = [torch.autograd.grad(model(x[i : i + 1]).sum(), weights) for i in range(3)]
    with ReaderGradients(model) as engine:
        engine.backward(model(x).squeeze(1), torch.arange(3), 3)
        for i, rows in enumerate(expected):
            for p, row in zip(weights, rows, strict=True):
                torch.testing.assert_close(p.grad_sample[i], row)  # type: ignore[attr-defined]


@pytest.mark.parametrize("lora", [{}, {"lora_dropout": 0.5}])
@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_under_the_engine_is_that_of_the_model(
    family: str, lora: dict[str, Any]
) -> None:
    tiny = tiny_model(family, lora=lora)
    tiny.model.eval()
    batch = tiny.batch(LENGTHS)
    with torch.no_grad():
        expected = tiny.losses(batch)
        with ReaderGradients(tiny.model):
            torch.testing.assert_close(tiny.losses(batch), expected)
    torch.testing.assert_close(tiny.losses(batch).detach(), expected)


@pytest.mark.parametrize("grad", [True, False])
def test_a_forward_pass_without_a_backward_one_keeps_no_activations(grad: bool) -> None:
    tiny = tiny_model("bert", lora={"bias": "all"})
    seen: list[weakref.ref[Tensor]] = []
    for module in tiny.model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.register_forward_hook(lambda _module, _x, y: seen.append(weakref.ref(y)))
    with ReaderGradients(tiny.model):
        with torch.set_grad_enabled(grad):
            losses = tiny.losses(tiny.batch(LENGTHS))
        del losses
        gc.collect()
        assert seen
        assert all(ref() is None for ref in seen)


def test_close_gives_the_model_back_and_may_be_repeated() -> None:
    tiny = tiny_model("gpt2")
    before = {name: sorted(vars(m)) for name, m in tiny.model.named_modules()}
    engine = ReaderGradients(tiny.model)
    engine.backward(tiny.losses(tiny.batch(LENGTHS)), *READERS["record"])
    engine.close()
    engine.close()
    assert {name: sorted(vars(m)) for name, m in tiny.model.named_modules()} == before
    assert not any(hasattr(p, "grad_sample") for p in tiny.model.parameters())
    tiny.losses(tiny.batch(LENGTHS)).mean().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in trained(tiny).values())
