"""What a contestant of `presspool bench simulation` is told, and how it takes its turns.

A contestant is a process that loads once and then does a round whenever it is told to. Wherever in
a framework a round begins, there it calls `next`, which tells what the last round did and waits.

Invariants:
    * A turn lasts from one return of `next` to its next call: all that a framework does between two
      rounds is in it, and its start is not.
    * All contestants are told the same sizes.

Example: ``while turns.next(done): done = one_round()``.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Self

SIZES, PORT = "PRESSPOOL_BENCH_SIZES", "PRESSPOOL_BENCH_PORT"
LOOPBACK = "127.0.0.1"
LEARNING_RATE, CLIP, NOISE = 0.1, 0.05, 20.0
"""Of every client's one step; noise is a multiple of clip, so that 500 rounds end at an ε of 5."""


@dataclass(frozen=True, kw_only=True)
class RoundSizes:
    """What a round is.

    Attributes:
        clients: that take part in every round.
        records: of each client, all of them in its one step.
        tokens: of each record.
    """

    clients: int = 50
    records: int = 2
    tokens: int = 64

    @classmethod
    def told(cls) -> Self:
        """What this process was told."""
        return cls(**json.loads(os.environ[SIZES]))

    def environment(self, port: int) -> dict[str, str]:
        """What tells a process: these sizes, and where its turns are given."""
        return {SIZES: json.dumps(asdict(self)), PORT: str(port)}


@dataclass(frozen=True, kw_only=True)
class RoundDone:
    """What a round did.

    Attributes:
        clients: whose updates are in the sum.
        records: that they trained on.
        trained: numbers that train.
        moved: L2 norm of what the round changed in them.
    """

    clients: int
    records: int
    trained: int
    moved: float


class Turns:
    """A contestant's end of the connection on which it is told to go."""

    def __init__(self) -> None:
        address = LOOPBACK, int(os.environ[PORT])
        self._stream = socket.create_connection(address).makefile("rw", encoding="utf-8")

    def next(self, done: RoundDone | None) -> bool:
        """Tell what the last round did, if there was one; returns whether there is another."""
        self._stream.write(json.dumps(asdict(done) if done else None) + "\n")
        self._stream.flush()
        return self._stream.readline() == "go\n"
