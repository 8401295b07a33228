"""Layer norms train: their scales and, where they have any, shifts (Zhao et al., ICLR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.methods.parts.base_vectors import BaseVectors, is_norm

if TYPE_CHECKING:
    from torch import nn


class LayerNorms(BaseVectors):
    """Scales and shifts of norms, and the head, train."""

    what = "norms"

    def chosen(self, name: str, layer: nn.Module) -> tuple[str, ...]:  # noqa: ARG002
        """As `BaseVectors.chosen`."""
        return ("weight", "bias") if is_norm(layer) else ()
