"""rsLoRA: FedIT whose branch is scaled by α/√r, so that a larger rank is not a softer branch.

Kalajdzievski, "A rank stabilization scaling factor for fine-tuning with LoRA" (2023), theorem 3.2.
It is FedIT with another number before the branch: α·√r there is α here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from presspool.common.methods.fedit import FedIt

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract


class RsLora(FedIt):
    """A, B and the head train."""

    options = ("use_rslora",)

    def scale(self, contract: Contract) -> float:
        """As `Method.scale`: α/√r."""
        return contract.adapter.alpha / math.sqrt(contract.adapter.rank)
