"""A process that promotes an adapter and is killed at one of the kernel calls that this takes.

Example: `python -m tests.fakes.registry.registry_children REGISTRY KEYS WHICH 3` dies at the third.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from presspool.server.registry.adapter_registry import Move, open_registry
from presspool.server.registry.registry_keys import RegistryKeys

CALLS = ("open", "fsync", "link", "unlink", "mkdir")


def killed_at(call: int) -> None:
    """Before the call of this number, from 1, nothing more is done."""
    left = [call]

    def watched(real: Any) -> Any:
        def run(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return run

    for name in CALLS:
        setattr(os, name, watched(getattr(os, name)))


def main(registry: str, keys: str, which: str, call: str) -> None:
    opened = open_registry(registry)
    held = RegistryKeys.read(Path(keys), name=opened.about.name)
    one = opened.shelves.find(which)
    killed_at(int(call))
    opened.move("promote", one, held, Move(by="A", reason="b", without_gate=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
