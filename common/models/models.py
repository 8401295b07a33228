"""The model every outlet trains: a frozen base, LoRA through PEFT, and the task's head.

A text is encoded by the base model, and the task (`presspool.common.tasks`) says what its head
reads of the last hidden states. The head is a module in PEFT's `modules_to_save`, so the whole
trainable part is one ordinary PEFT adapter.

Invariants:
    * Everything trainable starts at public values: B at zero, the head where its task puts it, A
      from the contract's seed by SHAKE-256, which is the same on every machine and in every
      version of torch.
    * Records never mix: no batch statistics, attention masked, pooling over a record's own tokens.

Example: `model = build(contract)`; `PeftModel.from_pretrained(base(contract), "run/adapter")`.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Model
from presspool.common.contract.doors import task_of
from presspool.common.models.base_model import resolve

if TYPE_CHECKING:
    from presspool.common.tasks.task import Task


class HeadedModel(nn.Module):
    """An encoder, what a task makes of its last states, and the task's head.

    Args:
        encoder: any transformers model with `last_hidden_state`.
        task: gives pooling and head.

    Attributes:
        encoder: as given.
        head: the module that reads `features`.
        config: the encoder's configuration, which PEFT asks for.
    """

    def __init__(self, encoder: Any, task: Task[Any]) -> None:
        super().__init__()
        self.encoder, self._pool = encoder, task.pool
        self.config: Any = encoder.config
        self.head = task.head(encoder)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the head says of a batch of records.

        Args:
            input_ids: (records, tokens) int64.
            attention_mask: (records, tokens) int64, 1 for real tokens.

        Returns:
            (records, ...) float32, of a per-token head (records, tokens, ...).
        """
        outputs: Tensor = self.head(self.features(input_ids, attention_mask))
        return outputs.float()

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the head reads: `Task.pool` of the last states; arguments as above."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self._pool(states, attention_mask)


def base(contract: Contract) -> HeadedModel:
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
    return HeadedModel(encoder.eval(), task_of(contract))


def build(contract: Contract) -> PeftModel:
    """The PEFT model of a contract at its public initial values; only what trains needs gradients.

    Raises:
        ContractError: the adapter's targets do not exist in the base model, or records are longer
            than it can read.
        ModelError: the base model is missing or is not the pinned one.
    """
    spec, spec_id = contract.adapter, contract.model.id
    headed = base(contract)
    _check_targets(headed, spec.targets)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(spec.targets),
        modules_to_save=["head"],
        layers_to_transform=_last_layers(headed.config, spec.layers),
    )
    task_of(contract).start(headed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT misses a hub name on our wrapper; it is set below
        model = get_peft_model(headed, config)
    model.peft_config["default"].base_model_name_or_path = spec_id
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.data = public_factor(contract.seed, name, tuple(parameter.shape))
            parameter.requires_grad_(spec.aggregation == "fedit")
        if "lora_B" in name:
            parameter.requires_grad_(spec.aggregation != "head")
    return model


@lru_cache(maxsize=2)
def tokenizer(spec: Model) -> Any:
    """The pinned tokenizer of a base model, with a padding token."""
    from transformers import AutoTokenizer

    folder = resolve(spec.id, weights=spec.weights, tokenizer=spec.tokenizer)
    loaded = AutoTokenizer.from_pretrained(folder.path, use_fast=True)
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    return loaded


def token_lengths(spec: Model, texts: list[str]) -> NDArray[np.int64]:
    """Untruncated length of each text in tokens, special ones included; shape (texts,)."""
    ids = tokenizer(spec)(texts, truncation=False, verbose=False)["input_ids"]
    return np.array([len(row) for row in ids], np.int64)


def public_factor(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """A frozen or initial LoRA factor that anybody can derive from the contract's seed.

    Uniform in ±1/√fan_in, the range of PEFT's own Kaiming initialisation (a = √5), from a SHAKE-256
    stream over seed and parameter name.

    Args:
        seed: the contract's public seed.
        name: the parameter's name.
        shape: (rank, fan_in).

    Returns:
        float32 tensor of `shape`.
    """
    stream = hashlib.shake_256(b"presspool/public-init/v1\0" + f"{seed}\0{name}".encode())
    words = np.frombuffer(stream.digest(4 * math.prod(shape)), dtype="<u4")
    bound = 1 / math.sqrt(shape[-1])
    values = (words.astype(np.float64) / 2**31 - 1) * bound
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


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


def _last_layers(config: Any, count: int | None) -> list[int] | None:
    """Indices of the last `count` layers; None for all."""
    total: int = config.num_hidden_layers
    if count is None:
        return None
    if count > total:
        raise ContractError(
            "more layers than the base model has",
            where="[adapter] layers",
            expected=f"at most {total}",
            got=count,
        )
    return list(range(total - count, total))


def _check_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    layers = [
        n
        for n, module in model.named_modules()
        if _linear(module) and n.partition(".")[0] != "head"
    ]
    if missing := [t for t in targets if not any(f".{n}".endswith(f".{t}") for n in layers)]:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise ContractError(
            "LoRA targets that this base model does not have",
            where="[adapter] targets",
            expected=f"names among {', '.join(names)}",
            got=", ".join(missing),
        )


def _linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
