"""The model every outlet trains: a frozen base, what the contract's method adds, a linear head.

A text is encoded by the base model, its last hidden states are averaged over the real tokens and
scaled to length one (the pooling that sentence encoders are trained with), and a linear head gives
one logit a label. What else trains is the method's (`presspool.common.methods`).

Invariants:
    * Everything trainable starts at public values: the head at zero or at what the base makes of
      the labels' names.
    * Records never mix: no batch statistics, attention masked, pooling over a record's own tokens.

Example: `model = build(contract)`; `PeftModel.from_pretrained(base(contract), "run/adapter")`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import load_file
from torch import Tensor, nn

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Model
from presspool.common.models.adapters import WEIGHTS, load
from presspool.common.models.base_model import resolve

# A head from names starts this sure of itself: its logits lie within ± this.
NAME_SCALE = 5.0


class TextClassifier(nn.Module):
    """A text encoder, mean pooling over tokens, length normalisation, and a linear head.

    Attributes:
        encoder: any transformers model with `last_hidden_state`.
        head: `nn.Linear(hidden_size, labels)`.
        config: the encoder's configuration, which PEFT asks for.
    """

    def __init__(self, encoder: Any, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config: Any = encoder.config
        self.head = nn.Linear(self.config.hidden_size, labels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of a batch of records.

        Args:
            input_ids: (records, tokens) int64.
            attention_mask: (records, tokens) int64, 1 for real tokens.

        Returns:
            (records, labels) float32.
        """
        logits: Tensor = self.head(self.features(input_ids, attention_mask))
        return logits.float()

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the head reads: (records, hidden) mean states of length one; arguments as above."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return nn.functional.normalize(pooled, dim=-1)


def base(contract: Contract) -> TextClassifier:
    """The frozen base with an untrained head, for `PeftModel.from_pretrained`.

    Raises:
        ContractError: records longer than the base model can read.
        ModelError: the base model is missing or is not the pinned one.
    """
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    spec = contract.model
    folder = resolve(spec.id, weights=spec.weights, tokenizer=spec.tokenizer)
    encoder = AutoModel.from_pretrained(folder.path, dtype=torch.float32, use_safetensors=True)
    if encoder.config.is_encoder_decoder:
        encoder = encoder.get_encoder()
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # no part of our output; LoRA on it would never train
    _check_length(encoder.config, contract.task.max_length)
    return TextClassifier(encoder.eval(), len(contract.task.labels))


def build(contract: Contract) -> nn.Module:
    """The model of a contract at its public initial values; only what trains needs gradients.

    Raises:
        ContractError: what trains does not fit the base model, or records are longer than it can
            read.
        ModelError: the base model is missing or is not the pinned one.
    """
    classifier = base(contract)
    if contract.task.head == "names":
        _name_head(classifier, contract)
    return contract.method.attach(classifier, contract)


def restored(fresh: TextClassifier, contract: Contract, folder: Path) -> nn.Module:
    """The model of an adapter that `adapters.save` wrote.

    Args:
        fresh: the contract's `base`, which is used up.
        contract: the run's.
        folder: where the adapter is.

    Raises:
        ValueError: another method's adapter.
    """
    if (folder / "adapter_config.json").exists():
        loaded: nn.Module = PeftModel.from_pretrained(fresh, str(folder), is_trainable=True)
        return loaded
    model = contract.method.attach(fresh, contract)
    load(model, load_file(folder / WEIGHTS))
    return model


def classifier_of(model: nn.Module) -> TextClassifier:
    """What a method was attached to."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    found: TextClassifier = inner
    return found


@lru_cache(maxsize=2)
def tokenizer(spec: Model) -> Any:
    """The pinned tokenizer of a base model, with a padding token."""
    from transformers import AutoTokenizer

    folder = resolve(spec.id, weights=spec.weights, tokenizer=spec.tokenizer)
    loaded = AutoTokenizer.from_pretrained(folder.path, use_fast=True)
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    return loaded


def encode(contract: Contract, texts: list[str], *, same_width: bool = False) -> dict[str, Tensor]:
    """Token ids and mask of a batch of texts: two (records, tokens) int64 tensors.

    Longer texts are truncated to the contract's `max_length`; shorter ones are padded to the
    longest of the batch, or with `same_width` always to `max_length`.
    """
    batch = tokenizer(contract.model)(
        texts,
        truncation=True,
        max_length=contract.task.max_length,
        return_tensors="pt",
        padding="max_length" if same_width else "longest",
    )
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def token_lengths(spec: Model, texts: list[str]) -> NDArray[np.int64]:
    """Untruncated length of each text in tokens, special ones included; shape (texts,)."""
    ids = tokenizer(spec)(texts, truncation=False, verbose=False)["input_ids"]
    return np.array([len(row) for row in ids], np.int64)


@torch.no_grad()
def _name_head(classifier: TextClassifier, contract: Contract) -> None:
    """A head whose logits say how near a text is to each label's name (cosine, scaled)."""
    names = encode(contract, list(contract.task.labels))
    classifier.head.weight.copy_(NAME_SCALE * classifier.features(**names))


def _check_length(config: Any, max_length: int) -> None:
    """Refuse what would fail at the first long record: that there is one is readers' data."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ContractError(
            "records longer than the base model can read",
            where="[task] max_length",
            expected=f"at most {positions} tokens",
            got=max_length,
        )
