"""The model every outlet trains: a frozen base, what the contract's method adds, the task's head.

A text is encoded by the base model; the task (`presspool.common.tasks`) says what its head reads of
the last hidden states, and the method (`presspool.common.methods`) what trains besides the head.

Invariants:
    * Everything trainable starts at public values: the head where its task puts it, the rest where
      its method does.
    * Records never mix: no batch statistics, attention masked, pooling over a record's own tokens.

Example: `model = build(contract)`; `PeftModel.from_pretrained(base(contract), "run/adapter")`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.numpy import load_file
from torch import Tensor, nn

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Model
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import WEIGHTS, State, group_of, load, trainable
from presspool.common.models.base_model import BaseModelFolder, resolve
from presspool.common.models.frozen_product import quicken
from presspool.common.models.rows import parts

if TYPE_CHECKING:
    from presspool.common.tasks.task import Task


class HeadedModel(nn.Module):
    """An encoder, what a task makes of its last states, and the task's head.

    Args:
        encoder: any transformers model with `last_hidden_state`.
        task: the one that took the model; gives pooling and head.

    Attributes:
        encoder: as given.
        task: as given.
        head: the module that reads `features`.
        config: the encoder's configuration, which PEFT asks for.
    """

    def __init__(self, encoder: Any, task: Task[Any]) -> None:
        super().__init__()
        self.encoder, self.task = encoder, task
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
        """What the head reads: `Task.pool` of the last states; arguments as above.

        Where a record has parts, the mask has each token's number (`Task.parts`).
        """
        mask = {"attention_mask": attention_mask}
        seen = parts.told(attention_mask, self.config) if self.task.parted else mask
        states = self.encoder(input_ids=input_ids, **seen).last_hidden_state
        return self.task.pool(states, attention_mask)


def base(contract: Contract) -> HeadedModel:
    """The frozen base with an untrained head, for `PeftModel.from_pretrained`; raises as both."""
    return headed(contract, loaded(contract))


def loaded(contract: Contract) -> Any:
    """The base model as transformers loads it for the contract's task.

    Raises:
        ModelError: the base model is missing or is not the pinned one.
    """
    return loaded_by(contract.model, task_of(contract))


def loaded_by(spec: Model, task: Task[Any]) -> Any:
    """A pinned base model as transformers loads it for a task; raises as `loaded`."""
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with _found(spec).alone() as folder:
        found = getattr(transformers, task.loads).from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    return found.eval()


def headed(contract: Contract, model: Any) -> HeadedModel:
    """The contract's untrained head on what `loaded` gave, which is used up.

    Raises:
        ContractError: records longer than the base model can read.
    """
    task = task_of(contract)
    encoder = task.take(model)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # no part of our output; LoRA on it would never train
    quicken(encoder)
    _check_length(encoder.config, contract.task.longest)
    return HeadedModel(encoder, task)


def build(contract: Contract) -> nn.Module:
    """The model of a contract at its public initial values; only what trains needs gradients.

    Raises:
        ContractError: what trains does not fit the base model, or records are longer than it can
            read.
        ModelError: the base model is missing or is not the pinned one.
    """
    fresh = base(contract)
    fresh.task.start(fresh)
    model = contract.method.attach(fresh, contract)
    _check_trained(model, contract)
    return model


def group_sizes(contract: Contract) -> dict[str, int]:
    """How many numbers train in each parameter group.

    Raises:
        ContractError: the adapter does not fit the base model.
        ModelError: the base model is missing or is not the pinned one.
    """
    sizes = dict.fromkeys(contract.groups, 0)
    for name, parameter in trainable(build(contract)).items():
        sizes[group_of(name)] += parameter.numel()
    return sizes


def _check_trained(model: nn.Module, contract: Contract) -> None:
    """What a pooled sum costs hangs on how many numbers are in it."""
    if contract.pooled is None or contract.pooled.parameters is None:
        return
    said = contract.pooled.parameters
    count = sum(parameter.numel() for parameter in trainable(model).values())
    if said != count:
        raise ContractError(
            "another number of trained numbers than the model has",
            where="[pooled] parameters",
            expected=count,
            got=said,
            advice="leave the key out: freezing the run fills it in",
        )


def restored(fresh: HeadedModel, contract: Contract, folder: Path) -> nn.Module:
    """The model of an adapter that `adapters.save` wrote.

    Args:
        fresh: the contract's `base`, which is used up.
        contract: the run's.
        folder: where the adapter is.

    Raises:
        ValueError: another method's adapter.
    """
    model: nn.Module = contract.method.attach(fresh, contract)
    for parameter in trainable(model).values():
        parameter.data = parameter.data.clone()  # a served base's tensors are others' as well
    stored = load_file(folder / WEIGHTS)
    if isinstance(model, PeftModel):
        _load_peft(model, stored)
    else:
        load(model, stored)
    return model


def _load_peft(model: PeftModel, stored: State) -> None:
    """By the arrays alone: what PEFT's own file beside them says is not asked."""
    known = get_peft_model_state_dict(model, save_embedding_layers=False)
    expected = {name: tuple(value.shape) for name, value in known.items()}
    if {name: tuple(array.shape) for name, array in stored.items()} != expected:
        raise ValueError("the adapter's arrays are not those of the contract's method")
    arrays = {name: torch.from_numpy(array) for name, array in stored.items()}
    set_peft_model_state_dict(model, arrays)


def headed_of(model: nn.Module) -> HeadedModel:
    """What a method was attached to."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    found: HeadedModel = inner
    return found


@lru_cache(maxsize=2)
def tokenizer(spec: Model) -> Any:
    """The pinned tokenizer of a base model, with a padding token."""
    from transformers import AutoTokenizer

    with _found(spec).alone() as folder:
        loaded = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    return loaded


@lru_cache(maxsize=2)
def is_paired(spec: Model) -> bool:
    """Whether the pinned base model is an encoder and a decoder."""
    from transformers import AutoConfig

    with _found(spec).alone() as folder:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return bool(config.is_encoder_decoder)


def _found(spec: Model) -> BaseModelFolder:
    return resolve(spec.id, weights=spec.weights, tokenizer=spec.tokenizer, manifest=spec.manifest)


def _check_length(config: Any, longest: tuple[str, int]) -> None:
    """Refuse what would fail at the first long record: that there is one is readers' data."""
    positions = getattr(config, "max_position_embeddings", None)
    key, tokens = longest
    if positions is not None and tokens > (positions := positions - parts.first(config)):
        raise ContractError(
            "records longer than the base model can read",
            where=f"[task] {key}",
            expected=f"at most {positions} tokens",
            got=tokens,
        )
