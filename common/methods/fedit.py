"""FedIT: both factors of LoRA are averaged (Zhang et al., ICASSP 2024)."""

from __future__ import annotations

from presspool.common.methods.lora import A, B, Lora


class FedIt(Lora):
    """A, B and the head train."""

    factors = (A, B)
