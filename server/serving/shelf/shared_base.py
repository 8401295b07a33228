"""The one base model in memory, and models of adapters that share its tensors.

Invariants:
    * However many adapters there are, the base's numbers are in memory once: a copy has modules of
      its own, and parameters of its own around the same storage.
    * No adapter changes the base: what trains has storage of its own before anything is loaded
      into it (`presspool.common.models.models.restored`).

Example: `SharedBase(contract).restored(folder)` is what `restored(base(contract), …)` is.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.models import HeadedModel, headed, loaded
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.common.released.adapter_model import put_on


class SharedBase:
    """A base model, as transformers loads it for one kind of task.

    Args:
        contract: names the base model, by its hashes.

    Attributes:
        model: the contract's pins.
        device: where it is.

    Raises:
        ModelError: the base model is missing or is not the pinned one.
    """

    def __init__(self, contract: Contract) -> None:
        self.model, self._loads = contract.model, task_of(contract).loads
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._loaded = loaded(contract).to(self.device)

    def headed(self, contract: Contract) -> HeadedModel:
        """A base of its own for a contract, with an untrained head; raises as `require`."""
        self.require(contract)
        made: HeadedModel = headed(contract, _sharing(self._loaded)).to(self.device)
        return made

    def restored(self, folder: AdapterFolder) -> nn.Module:
        """The model of an adapter.

        Raises:
            InputError: it was trained on another base model.
            FolderError: the weights are of another method than the contract's.
        """
        return put_on(self.headed(folder.contract), folder).to(self.device).eval()

    def require(self, contract: Contract) -> None:
        """Return if a contract's model is this one.

        Raises:
            InputError: it is another, or the same for another kind of task.
        """
        if contract.model != self.model:
            raise InputError(
                "an adapter of another base model",
                expected=_named(self.model),
                got=_named(contract.model),
                advice="serve it by a program of its own: each has one base model in memory",
            )
        if (loads := task_of(contract).loads) != self._loads:
            raise InputError(
                "an adapter that needs the base model in another form",
                expected=self._loads,
                got=loads,
                advice="serve adapters that write apart from those that read",
            )


def _named(model: Any) -> str:
    return f"{model.id} ({model.weights})"


def _sharing(model: Any) -> Any:
    """A copy around the same storage."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.data, requires_grad=False) for p in model.parameters()
    }
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, memo)
