"""Five tiny transformers with random weights, LoRA and a loss per record: the engine's test bench.

Each is a real Hugging Face architecture built from its config, so that layers, masks, caches and
checkpointing are those that users train. Dropout of the base model is 0, so that a record's loss
does not depend on the draw. LoRA's B starts random, not zero, so that A has a gradient too.

Example:
    >>> tiny = tiny_model("bert")
    >>> tiny.losses(tiny.batch([5, 7])).shape
    torch.Size([2])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tests.fakes.bases.language_bases import LLAMA
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY, CLASSES = 50, 3
FAMILIES = ("bert", "gpt2", "llama", "qwen2", "t5")
QUERY_VALUE = {
    "bert": ["query", "value"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
    "t5": ["q", "v"],
}

Batch = dict[str, Tensor]


class Classifier(nn.Module):
    """An encoder, the mean over a record's own tokens, and a linear head."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, CLASSES)
        self.config = encoder.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1))  # type: ignore[no-any-return]

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        self.encoder.gradient_checkpointing_enable(**kwargs)

    def enable_input_require_grads(self) -> None:
        self.encoder.enable_input_require_grads()


def _bert(attention: str) -> nn.Module:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation=attention,
    )
    return Classifier(BertModel(config, add_pooling_layer=False))


def _gpt2(attention: str) -> nn.Module:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_inner=24,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation=attention,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    model: nn.Module = GPT2LMHeadModel(config)
    return model


def _llama_like(kind: Any, config: Any) -> Callable[[str], nn.Module]:
    def build(attention: str) -> nn.Module:
        return kind(  # type: ignore[no-any-return]
            config(
                **LLAMA,
                vocab_size=VOCABULARY,
                attn_implementation=attention,
                use_cache=False,
                bos_token_id=0,
                eos_token_id=0,
                pad_token_id=0,
            )
        )

    return build


def _t5(attention: str) -> nn.Module:
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        attn_implementation=attention,
        use_cache=False,
    )
    model: nn.Module = T5ForConditionalGeneration(config)
    return model


_BUILDERS: dict[str, Callable[[str], nn.Module]] = {
    "bert": _bert,
    "gpt2": _gpt2,
    "llama": _llama_like(LlamaForCausalLM, LlamaConfig),
    "qwen2": _llama_like(Qwen2ForCausalLM, Qwen2Config),
    "t5": _t5,
}


def _tokens(lengths: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids (records, longest) and their mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(1, VOCABULARY, mask.shape, generator=generator)
    return ids * mask, mask.long()


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A PEFT model and how to make batches and losses for it."""

    family: str
    model: Any

    def batch(self, lengths: Sequence[int], seed: int = 0) -> Batch:
        """Random records of the given numbers of tokens."""
        ids, mask = _tokens(lengths, seed)
        batch = {"input_ids": ids, "attention_mask": mask}
        if self.family == "bert":
            return batch | {"labels": ids.sum(1) % CLASSES}
        if self.family == "t5":
            targets, seen = _tokens([1 + n // 2 for n in lengths], seed + 1)
            return batch | {"labels": targets.masked_fill(seen == 0, -100)}
        return batch | {"labels": ids.masked_fill(mask == 0, -100)}

    def losses(self, batch: Batch) -> Tensor:
        """(records,): cross entropy, for language models averaged over a record's own tokens."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        if self.family == "bert":
            return F.cross_entropy(self.model(**inputs), batch["labels"], reduction="none")
        if self.family == "t5":
            logits, labels = self.model(**batch).logits, batch["labels"]
        else:
            logits, labels = self.model(**inputs).logits[:, :-1], batch["labels"][:, 1:]
        token = F.cross_entropy(logits.mT, labels, reduction="none", ignore_index=-100)
        return token.sum(1) / (labels != -100).sum(1).clamp(min=1)


def plain(family: str, attention: str = "sdpa", seed: int = 0) -> nn.Module:
    """The model of a family without LoRA; arguments as for `tiny_model`."""
    torch.manual_seed(seed)
    return _BUILDERS[family](attention)


def tiny_model(
    family: str,
    targets: str | list[str] = "all-linear",
    *,
    attention: str = "sdpa",
    checkpointing: str | None = None,
    lora: dict[str, Any] | None = None,
    seed: int = 0,
) -> TinyModel:
    """A tiny model under LoRA, in training mode.

    Args:
        family: one of `FAMILIES`.
        targets: "q,v", "all-linear", or PEFT's own target_modules.
        attention: "sdpa" or "eager".
        checkpointing: None, "reentrant" or "non-reentrant".
        lora: further fields of `LoraConfig`.
        seed: of the weights.
    """
    base = plain(family, attention, seed)
    config: dict[str, Any] = {"r": 2, "lora_alpha": 4, "init_lora_weights": False}
    config["target_modules"] = QUERY_VALUE[family] if targets == "q,v" else targets
    if family == "bert":
        config["modules_to_save"] = ["head"]
        # all-linear only spares the head of Hugging Face's own classes
        config["exclude_modules"] = ["head"]
    model = get_peft_model(base, LoraConfig(**config | (lora or {})))
    if checkpointing:
        reentrant = checkpointing == "reentrant"
        base.gradient_checkpointing_enable(  # type: ignore[operator]
            gradient_checkpointing_kwargs={"use_reentrant": reentrant}
        )
        base.enable_input_require_grads()  # type: ignore[operator]
    return TinyModel(family=family, model=model.train())
