"""The process of one contestant.

Example: ``python -m presspool.simulations.bench.simulators.contestant bare``
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module

from presspool.simulations.bench.simulators.simulator_turns import RoundSizes

MODULES = {
    "bare": "bare_loop",
    "pool": "pool_rounds",
    "pfl": "rooms.pfl_rounds",
    "flower": "flower_rounds",
    "nvflare": "rooms.nvflare_rounds",
}


def main(name: str, *words: str) -> None:
    """Load a contestant and let it take its turns."""
    warnings.filterwarnings("ignore")
    module = import_module(f"{__package__}.{MODULES[name]}")
    getattr(module, name)(RoundSizes.told(), *words)


if __name__ == "__main__":
    main(*sys.argv[1:])
