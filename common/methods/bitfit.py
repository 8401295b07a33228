"""BitFit: the biases train (Ben Zaken et al., ACL 2022).

But those of BERT's keys: they move all scores of one softmax alike, so they would be noise alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.methods.parts.base_vectors import BaseVectors

if TYPE_CHECKING:
    from torch import nn


class BitFit(BaseVectors):
    """Every bias of linear layers and norms, and the head, train."""

    what = "biases"

    def chosen(self, name: str, layer: nn.Module) -> tuple[str, ...]:  # noqa: ARG002
        """As `BaseVectors.chosen`."""
        return () if name.endswith(".key") else ("bias",)
