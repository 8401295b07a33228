"""An adapter on a base model of its own, for an export to change, write and compare.

Invariant: whoever compares two of them computes outputs in one way, `Placed.outputs`, so that what
differs is what was written and read.

Example: `placed(read_adapter(path)).outputs(task.encode(["Cup final"]))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from presspool.common.contract.contract import Contract
from presspool.common.models.models import HeadedModel, headed, headed_of, loaded
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.common.released.adapter_model import put_on
from presspool.common.tasks.task import Task

HEAD = "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A model in place.

    Attributes:
        contract: its run's.
        whole: the model of transformers that its encoder is of.
        model: what the method made of it.
    """

    contract: Contract
    whole: Any
    model: nn.Module

    @property
    def headed(self) -> HeadedModel:
        """Encoder and head, whatever the method put around or into them."""
        return headed_of(self.model)

    @property
    def task(self) -> Task[Any]:
        """The one that took the model."""
        return self.headed.task

    @property
    def folds(self) -> bool:
        """Whether nothing of the method is left in it."""
        return self.model is self.headed

    @torch.inference_mode()
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the head says of a batch that `Task.encode` made."""
        said: Tensor = self.headed(**batch)
        return said

    @torch.inference_mode()
    def spelt(self, outputs: Tensor) -> Tensor:
        """Outputs as numbers that say an answer: of states the logits of tokens."""
        if self.task.groups != ("adapter",):
            return outputs
        words = self.whole.get_output_embeddings() or self.whole.get_input_embeddings()
        said: Tensor = outputs @ words.weight.T
        return said

    def folded(self) -> Placed:
        """The base alone, changed; this one is used up.

        Raises:
            InputError: the method's layers cannot be folded.
        """
        return replace(self, model=self.contract.method.folded(self.model).eval())


def placed(folder: AdapterFolder) -> Placed:
    """The adapter of a checked folder on a base of its own.

    Raises:
        ModelError: the base model is missing or is not the one that the adapter was trained on.
        FolderError: the weights are of another method than the contract's.
    """
    contract, whole = folder.contract, loaded(folder.contract)
    model = put_on(headed(contract, whole), folder)
    return Placed(contract=contract, whole=whole, model=model.eval())


def read_back(contract: Contract, whole: Any, folder: Path) -> Placed:
    """A model that another library read, with the head that lies beside it.

    Args:
        contract: the run's.
        whole: a model of transformers, used up.
        folder: holds `HEAD` where the task's head has numbers.
    """
    from safetensors.torch import load_model

    model = headed(contract, whole)
    if list(model.head.parameters()):
        load_model(model.head, folder / HEAD)
    return Placed(contract=contract, whole=whole, model=model.eval())


def save_head(model: HeadedModel, folder: Path) -> None:
    """Keep the head's numbers beside what other libraries read; nothing where it has none."""
    from safetensors.torch import save_file

    head: Any = model.head
    wrapped = getattr(head, "modules_to_save", None)  # by PEFT
    inner = head if wrapped is None else wrapped["default"]
    if numbers := {name: value.contiguous() for name, value in inner.state_dict().items()}:
        save_file(numbers, folder / HEAD, metadata={"format": "pt"})
