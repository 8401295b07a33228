"""The rows of `presspool bench engine`: a model, its trained layers, records of given lengths.

Weights are random where the base model is not at hand; they time the same.

Example:
    >>> ROWS["minilm-qv"].lengths[:2], max(ROWS["minilm-qv-mixed"].lengths)
    ((128, 128), 87)
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2Model,
)

from presspool.common.base.errors import ModelError
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import DEFAULT_ID

MORE_ON_CUDA = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model, its LoRA targets and a batch.

    Attributes:
        title: for tables.
        model: key of `ENCODERS`.
        targets: PEFT's target_modules.
        records: records a step.
        tokens: the contract's max_length, which all records have if no other lengths are given.
        given: tokens of each record.
        cuda_only: whether a CPU would take too long.
    """

    title: str
    model: str
    targets: str | tuple[str, ...]
    records: int
    tokens: int = 128
    given: tuple[int, ...] = ()
    cuda_only: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each record."""
        return self.given or (self.tokens,) * self.records

    def on(self, device: str) -> Self:
        """The row as a device gets it: a graphics processor is given more records at a time."""
        times = MORE_ON_CUDA if device == "cuda" else 1
        return replace(self, records=times * self.records, given=times * self.given)


# Tokens (all-MiniLM-L6-v2) of 2,000 headlines of ABC News (Australia) and of 1,900 articles of AG
# News (title and description): 16 evenly spaced quantiles of each; each reader has one of both.
_HEADLINES = (6, 7, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 11, 11, 12, 13)
_ARTICLES = (48, 60, 36, 87, 45, 54, 39, 70, 50, 42, 64, 30, 58, 46, 56, 52)
MIXED = tuple(length for pair in zip(_HEADLINES, _ARTICLES, strict=True) for length in pair)

ROWS = {
    "minilm-qv": Row(title="MiniLM q,v", model="minilm", targets=("query", "value"), records=32),
    "minilm-all": Row(title="MiniLM all-linear", model="minilm", targets="all-linear", records=32),
    "minilm-qv-mixed": Row(
        title="MiniLM q,v, mixed lengths",
        model="minilm",
        targets=("query", "value"),
        records=32,
        given=MIXED,
    ),
    "minilm-all-mixed": Row(
        title="MiniLM all-linear, mixed lengths",
        model="minilm",
        targets="all-linear",
        records=32,
        given=MIXED,
    ),
    "bert-all": Row(title="BERT-base all-linear", model="bert", targets="all-linear", records=8),
    "gpt2-qv": Row(title="GPT-2 q,v", model="gpt2", targets=("c_attn",), records=8),
    "smollm2-qv": Row(
        title="SmolLM2-135M q,v",
        model="smollm2",
        targets=("q_proj", "v_proj"),
        records=16,
        tokens=64,
    ),
    "qwen-all": Row(
        title="Qwen-0.5B shape all-linear",
        model="qwen",
        targets="all-linear",
        records=1,
        tokens=512,
        cuda_only=True,
    ),
    "llama-qv": Row(
        title="Llama of 1.5 B q,v",
        model="llama",
        targets=("q_proj", "v_proj"),
        records=1,
        tokens=512,
        cuda_only=True,
    ),
}


def _minilm() -> Any:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        **off,
    )
    if torch.get_default_device().type == "meta":  # nothing is loaded where nothing is made
        return BertModel(config, add_pooling_layer=False)
    try:
        folder = resolve(DEFAULT_ID, weights=None, tokenizer=None).path
    except ModelError:  # the shape is what costs; random weights time the same
        return BertModel(config, add_pooling_layer=False)
    return BertModel.from_pretrained(folder, add_pooling_layer=False, **off)


def _bert() -> Any:
    config = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return BertModel(config, add_pooling_layer=False)


def _gpt2() -> Any:
    return GPT2Model(GPT2Config(use_cache=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


def _qwen() -> Any:
    config = Qwen2Config(
        hidden_size=896,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        use_cache=False,
    )
    return Qwen2Model(config)


def _writer(**sizes: int) -> Any:
    """A language model of SmolLM2's kind."""
    config = LlamaConfig(vocab_size=49_152, tie_word_embeddings=True, use_cache=False, **sizes)
    return LlamaForCausalLM(config)


def _smollm2() -> Any:
    return _writer(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
    )


def _llama() -> Any:
    return _writer(
        hidden_size=2048,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=4,
        intermediate_size=6656,
    )


ENCODERS = {
    "minilm": _minilm,
    "bert": _bert,
    "gpt2": _gpt2,
    "smollm2": _smollm2,
    "qwen": _qwen,
    "llama": _llama,
}
"""Classifiers' encoders, and language models with their words."""
