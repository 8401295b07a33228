"""What the engine must refuse, each by the name of the guilty module and the reason.

Every case here once trained something wrong, or nothing, in silence: a reduced loss, records that
feel each other, an adapter without gradients (opacus issue 820).
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.fakes.tiny_models import Classifier, tiny_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.common.base.errors import EngineError

RECORDS = torch.arange(3)


class Plain(nn.Module):
    """A model whose middle is given by the test; records are the first dimension."""

    def __init__(self, middle: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.head = nn.Linear(4, 4), middle, nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.first(x))).flatten(1).sum(1)  # type: ignore[no-any-return]


def refusal(model: nn.Module, x: Tensor | None = None) -> str:
    """The message with which the model is refused, at the door or in its first pass."""
    x = torch.randn(3, 4) if x is None else x
    with pytest.raises(EngineError) as refused, ReaderGradients(model) as engine:
        engine.backward(model(x), RECORDS, 3)
    assert not any("forward" in vars(m) for m in model.modules())
    return str(refused.value)


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


# --- losses and readers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduce", "words"),
    [
        (lambda losses: losses.mean(), "not yet summed"),
        (lambda losses: losses.mean().reshape(1), "not yet summed"),
        (lambda losses: losses[:2], "not yet summed"),
        (lambda losses: losses.unsqueeze(1), "not yet summed"),
        (lambda losses: losses.detach(), "detached"),
        (lambda losses: (losses > 0).long(), "detached"),
        (lambda losses: losses.mean().expand(3), "records of one batch are mixed"),
        (lambda losses: losses - losses.mean(), "records of one batch are mixed"),
        (lambda losses: losses.softmax(0), "records of one batch are mixed"),
    ],
)
def test_losses_that_are_not_one_per_record(reduce: Callable[[Tensor], Tensor], words: str) -> None:
    model = Plain(nn.Tanh())
    with ReaderGradients(model) as engine, pytest.raises(EngineError, match=words):
        engine.backward(reduce(model(torch.randn(3, 4))), RECORDS, 3)


@pytest.mark.parametrize("readers", [[0, 2, 1], [1, 0, 0], [0, 1, 3], [-1, 0, 1], [0.0, 1.0, 2.0]])
def test_readers_out_of_order_or_range(readers: list[float]) -> None:
    model = Plain(nn.Tanh())
    with ReaderGradients(model) as engine, pytest.raises(EngineError, match="reader_of"):
        engine.backward(model(torch.randn(3, 4)), torch.tensor(readers), 3)


# --- records that feel each other ---------------------------------------------------------------


class Mixing(nn.Module):
    """Adds to each record something of the batch's other records."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return x + self.how(x)


@pytest.mark.parametrize(
    "middle",
    [
        frozen(nn.BatchNorm1d(4)),
        Mixing(lambda x: x.mean(0, keepdim=True)),
        Mixing(lambda x: x.roll(1, dims=0)),
        Mixing(lambda x: x.cumsum(0)),
        frozen(nn.TransformerEncoderLayer(4, 1, 4, dropout=0.0)),  # takes dimension 0 for time
    ],
)
def test_a_middle_that_mixes_records(middle: nn.Module) -> None:
    message = refusal(Plain(middle), torch.randn(3, 4) if _flat(middle) else torch.randn(3, 3, 4))
    assert "records of one batch are mixed" in message
    assert message.startswith("first")


def _flat(middle: nn.Module) -> bool:
    return not isinstance(middle, nn.TransformerEncoderLayer)


def test_mixed_records_are_found_again_in_a_second_pass() -> None:
    model = Plain(Mixing(lambda x: x.roll(1, dims=0)))
    with ReaderGradients(model) as engine:
        for _ in range(2):
            with pytest.raises(EngineError, match="mixed"):
                engine.backward(model(torch.randn(3, 4)), RECORDS, 3)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]


class Broadcast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.start = nn.Linear(4, 4), nn.Buffer(torch.ones(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.start)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("middle", "length"), [(TimeFirst(), 5), (TimeFirst(), 3), (Broadcast(), 5)]
)
def test_a_trained_layer_that_is_not_batch_first(middle: nn.Module, length: int) -> None:
    message = refusal(Plain(middle), torch.randn(3, length, 4))
    # where time is as long as the batch, sizes agree and only the proof of isolation can tell
    assert "middle.inner" in message
    assert ("mixed" if length == 3 else "records as its first dimension") in message


# --- parameters without an exact gradient -------------------------------------------------------


class OwnLinear(nn.Linear):
    """A subclass may compute anything."""


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (nn.Embedding(3, 4), "weight of Embedding"),
        (nn.Conv1d(1, 1, 1), "weight and bias of Conv1d"),
        (nn.BatchNorm1d(4), "BatchNorm1d"),
        (nn.MultiheadAttention(4, 1), "in_proj_weight and in_proj_bias of MultiheadAttention"),
        (nn.LSTM(4, 4), "LSTM"),
        (nn.LayerNorm((3, 4)), "LayerNorm"),
        (nn.PReLU(), "PReLU"),
        (OwnLinear(4, 4), "weight and bias of OwnLinear"),
        (Bare(), "scale of Bare"),
    ],
)
def test_modules_without_a_formula(middle: nn.Module, words: str) -> None:
    message = refusal(Plain(middle))
    assert message.startswith("middle: no exact per-reader gradient")
    assert words in message


def test_nothing_trainable() -> None:
    assert "no trainable parameter" in refusal(frozen(Plain(nn.Tanh())))


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"alora_invocation_tokens": [1]}, "LoRA variant"),
        ({"target_modules": ["query", "word_embeddings"]}, "LoRA of kind Embedding"),
    ],
)
def test_kinds_of_lora_that_are_refused(lora: dict[str, Any], words: str) -> None:
    tiny = tiny_model("bert", "q,v", lora=lora)
    with pytest.raises(EngineError, match=words):
        ReaderGradients(tiny.model)


def test_dora_trains_without_dropout_only() -> None:
    tiny = tiny_model("bert", "q,v", lora={"use_dora": True, "lora_dropout": 0.3})
    batch = tiny.batch([3, 4])
    with ReaderGradients(tiny.model):
        with pytest.raises(EngineError, match="without dropout"):
            tiny.losses(batch)
        with torch.no_grad():
            assert tiny.losses(batch).isfinite().all()


def test_several_active_adapters() -> None:
    tiny = tiny_model("llama")
    tiny.model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    tiny.model.base_model.set_adapter(["default", "second"])
    with pytest.raises(EngineError, match=r"self_attn\.q_proj: several adapters"):
        ReaderGradients(tiny.model)


def test_merged_adapters() -> None:
    tiny = tiny_model("llama", "q,v")
    tiny.model.merge_adapter()
    with pytest.raises(EngineError, match="merged"):
        ReaderGradients(tiny.model)


@pytest.mark.parametrize("how", ["merged", "disabled"])
def test_an_adapter_that_is_switched_off_after_the_engine_was_attached(how: str) -> None:
    tiny = tiny_model("llama", "q,v")
    batch = tiny.batch([3, 4, 5])
    with ReaderGradients(tiny.model) as engine:
        if how == "merged":
            tiny.model.merge_adapter()
        else:
            tiny.model.base_model.disable_adapter_layers()
            for name, p in tiny.model.named_parameters():
                p.requires_grad_("lora_" in name)
        tiny.model.enable_input_require_grads()  # so that there is something to differentiate
        with pytest.raises(EngineError, match=r"lora_A.*silently never train"):
            engine.backward(tiny.losses(batch), RECORDS, 3)


# --- adapters that would silently never train ---------------------------------------------------


def test_an_adapter_that_the_loss_does_not_use() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
    )
    with_pooler = Classifier(BertModel(config))  # whose output the classifier never looks at
    model = get_peft_model(with_pooler, LoraConfig(target_modules=["query", "pooler.dense"]))
    ids = torch.ones(3, 5, dtype=torch.int64)
    with ReaderGradients(model) as engine, pytest.raises(EngineError, match=r"pooler.*never train"):
        engine.backward(model(ids, ids).sum(1), RECORDS, 3)


class CutOff(nn.Module):
    """Reentrant checkpointing over inputs that need no gradient: torch only warns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.inner, x, use_reentrant=True)
        return self.head(x).squeeze(1)  # type: ignore[no-any-return]


def test_reentrant_checkpointing_that_cuts_the_graph() -> None:
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad"):
        message = refusal(CutOff())
    assert message.startswith("inner.weight: a trained parameter received no gradient")
    assert "enable_input_require_grads()" in message


class Reuse(nn.Module):
    """Uses a layer's weight behind the layer's back, as tied embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.layer.weight  # type: ignore[no-any-return]


def test_a_parameter_used_outside_its_layer() -> None:
    message = refusal(Plain(Reuse()))
    assert message.startswith("middle.layer.weight: a trained parameter is also used outside")


def test_a_tied_layer_shares_one_sum() -> None:
    model = Plain(nn.Linear(4, 4))
    assert isinstance(model.middle, nn.Linear)
    model.middle.weight = model.first.weight
    x = torch.randn(3, 4)
    model(x).sum().backward()
    expected = model.first.weight.grad
    with ReaderGradients(model) as engine:
        engine.backward(model(x), RECORDS, 3)
        rows = model.first.weight.grad_sample  # type: ignore[attr-defined]
    torch.testing.assert_close(rows.sum(0), expected)


# --- use ----------------------------------------------------------------------------------------


def test_two_engines_on_one_model() -> None:
    model = Plain(nn.Tanh())
    with ReaderGradients(model) as engine:
        with pytest.raises(EngineError, match="first: the layer's forward pass is already"):
            ReaderGradients(model)
        engine.backward(model(torch.randn(3, 4)), RECORDS, 3)  # the first one still works


def test_a_backward_pass_past_the_engine() -> None:
    model = Plain(nn.Tanh())
    with ReaderGradients(model), pytest.raises(EngineError, match="outside the engine"):
        model(torch.randn(3, 4)).sum().backward()


def test_after_a_refusal_the_engine_works_and_leaves_no_old_gradient() -> None:
    model = Plain(nn.Tanh())
    with ReaderGradients(model) as engine:
        engine.backward(model(torch.randn(3, 4)), RECORDS, 3)
        with pytest.raises(EngineError):
            engine.backward(model(torch.randn(3, 4))[:0].sum() + model.head.bias, RECORDS[:1], 1)
        assert all(p.grad_sample is None and p.grad is None for p in model.parameters())  # type: ignore[attr-defined]
        engine.backward(model(torch.randn(3, 4)), RECORDS, 3)
        assert all(len(p.grad_sample) == 3 for p in model.parameters())  # type: ignore[attr-defined]
