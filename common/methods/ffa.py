"""FFA-LoRA: A frozen at its public values, B averaged (Sun et al., ICLR 2024, section 4).

With one shared A, averaging B is averaging the products B A: nothing is lost.
"""

from __future__ import annotations

from presspool.common.methods.lora import B, Lora


class Ffa(Lora):
    """B and the head train."""

    factors = (B,)
