"""How much an outlet computes at a time: speed and memory, and nothing that privacy depends on.

Invariants:
    * What is computed together follows from contract, model and device, never from readers' data;
      where a device turns out too small for it, that shows on made records
      (`presspool.client.engine.alike`).
    * Of what is released nothing changes beyond float rounding.

Example: `compute = Compute(); compute.prepare(model)`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from presspool.common.contract.contract import Contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapters import trainable
from presspool.common.models.batch_shapes import ROWS, TOKENS, BatchShapes
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import headed_of

FLOAT = 4
"""Bytes of a float32."""
_SEAT = 8
"""Float32s that a seat holds of each number: adapter, gradient, moments, sums and their noise."""


def checkpoint(encoder: Any) -> None:
    """From now on the layers make their activations again in the backward pass."""
    encoder.gradient_checkpointing_enable({"use_reentrant": False})
    for module in encoder.modules():
        # Layers checkpoint only in training mode; their children stay in evaluation mode.
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


@dataclass(kw_only=True)
class Compute:
    """One device, and how much of it is used at a time.

    Attributes:
        device: "cpu" or "cuda".
        tokens: of a batch; None for what suits the device.
        gradient_bytes: of the gradients of a batch's records, and of those of a group of readers.
        activations: what the frozen layers made of records, kept between steps and rounds.
        proved: digests of the contract and the adapter that were tried last.
        by_rows: digest of the contract that was tried last with an adapter for each row, and
            whether rows are then what they are where all have one.
    """

    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    tokens: int | None = None
    gradient_bytes: int = 1 << 28
    activations: ActivationCache = field(default_factory=ActivationCache)
    proved: tuple[str, str] | None = None
    by_rows: tuple[str, bool] | None = None

    def prepare(self, model: nn.Module) -> None:
        """Move the model to the device, without dropout; on CUDA with gradient checkpointing.

        Dropout would draw from a generator that is not the outlet's own, and a private gradient
        has noise enough.
        """
        model.to(self.device).eval()
        encoder = headed_of(model).encoder
        if self.device == "cuda":
            # The same bits each time: parallel additions in the order of arrival would differ.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        if self.device == "cuda" and encoder.supports_gradient_checkpointing:
            checkpoint(encoder)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 on CUDA; the CPU computes in float32."""
        on_cuda = self.device == "cuda"
        return torch.autocast("cuda", dtype=torch.bfloat16) if on_cuda else nullcontext()

    def trunk(self, model: nn.Module, contract: Contract) -> FrozenTrunk:
        """The contract's model, computing in this device's shapes."""
        held = self.readers_at_once(list(trainable(model).values()))
        shapes = BatchShapes(
            max_length=contract.task.max_length,
            tokens=self.tokens or TOKENS[self.device],
            most_rows=min(ROWS[self.device], held),
        )
        return FrozenTrunk(model, contract, shapes)

    def halve(self, widest: int, parameters: Sequence[Tensor]) -> bool:
        """Take half as much at a time from now on.

        Returns:
            False where it is one record of the `widest` and one reader already.
        """
        tokens = self.tokens or TOKENS[self.device]
        if tokens < 2 * widest and self.readers_at_once(parameters) == 1:
            return False
        self.by_rows = None  # was tried with other shapes
        self.tokens, self.gradient_bytes = max(1, tokens // 2), max(1, self.gradient_bytes // 2)
        return True

    def readers_at_once(self, parameters: Sequence[Tensor]) -> int:
        """Readers whose gradients `gradient_bytes` hold; at least one."""
        trained = sum(parameter.numel() for parameter in parameters)
        return max(1, self.gradient_bytes // (FLOAT * trained))

    def seats_at_once(self, parameters: Sequence[Tensor]) -> int:
        """Outlets whose adapters and optimisers `gradient_bytes` hold; at least one."""
        return max(1, self.readers_at_once(parameters) // _SEAT)
