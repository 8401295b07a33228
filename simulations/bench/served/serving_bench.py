"""What a served port bears, in turns with the plain ways to serve in one run.

Measured are one adapter and eight, a load at half of what the port can, and its memory.

The contestants are processes on loopback: `presspool serve` with the adapter's folder under eight
names, which are eight adapters to it, and FastAPI with the model or with a pipeline
([`plain_port`]). All have the same texts, base, adapter, threads and callers.

Invariants:
    * Before anything is measured, all contestants give the same label to the same texts.
    * Ratios are of loads that follow one another in one turn.
    * Leaving, also by Ctrl-C, ends every process that was started.

Example: `bench_serving(read_adapter(path), ServingAsked(turns=5))`.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from presspool.common.base.errors import InputError, SelfTestError
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.served import plain_port, port_load
from presspool.simulations.bench.served.port_load import LoadTold

ONE, EIGHT, SETTLED = "one adapter", "eight adapters", 0.3
LOOKS = 10  # at memory, or more, as many as loads make so many calls
NAMES = [f"a{number}" for number in range(8)]
TEXTS, AGREED = 2_000, 8
WORDS = "the minister says treaty goal final bank profit rates school cup storm police".split()  # noqa: SIM905


@dataclass(frozen=True, kw_only=True)
class ServingAsked:
    """What is measured.

    Attributes:
        turns: of each contestant.
        seconds: of each load.
        callers: connections at once.
        requests: over which memory is watched; 0 for none.
        words: of a text.
        threads: of each process's torch.
    """

    turns: int = 5
    seconds: float = 4.0
    callers: int = 16
    requests: int = 10_000
    words: int = 12
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class ServingFigures:
    """What was measured.

    Attributes:
        asked: of the command.
        base: the base model.
        cores: of the machine.
        load: over a minute, before and after.
        fastest: contestant to its turns.
        half: eight adapters at half of what they bore in the same turn.
        memory: (calls answered before, MB of the process), in order.
        errors: of the calls over which memory was watched.
    """

    asked: ServingAsked
    base: str
    cores: int
    load: tuple[float, float]
    fastest: dict[str, list[LoadTold]]
    half: list[LoadTold]
    memory: list[tuple[int, float]]
    errors: int

    def ratios(self, name: str, other: str) -> list[float]:
        """How many times the rate of another, turn by turn."""
        pairs = zip(self.fastest[name], self.fastest[other], strict=True)
        return [mine.rate / theirs.rate for mine, theirs in pairs]

    @property
    def growth(self) -> float:
        """MB for each thousand calls, over the last seven tenths of them."""
        settled = [each for each in self.memory if each[0] >= SETTLED * self.memory[-1][0]]
        return 1000 * statistics.linear_regression(*zip(*settled, strict=True)).slope

    @property
    def lost(self) -> int:
        """Calls of ours that had no answer, in all loads."""
        ours = [*self.fastest[ONE], *self.fastest[EIGHT], *self.half]
        return self.errors + sum(one.errors for one in ours)

    def claims(self) -> list[Claim]:
        """What was aimed at."""
        rate = statistics.median(self.ratios(EIGHT, ONE))
        tail = statistics.median(one.p99 / one.median for one in self.half)
        found = [
            Claim(text="eight adapters ÷ one, calls a second", value=rate, bound=0.9, at_least=True)
        ]
        for way in plain_port.WAYS:
            ratio = statistics.median(self.ratios(ONE, way))
            text = f"one adapter ÷ FastAPI with the {way}, calls a second"
            found.append(Claim(text=text, value=ratio, bound=3, at_least=True))
        found.append(Claim(text="p99 ÷ median at half of capacity", value=tail, bound=2))
        found.append(Claim(text="calls without an answer", value=self.lost, bound=0))
        if self.memory:
            found.append(Claim(text="MB for each 1,000 calls", value=self.growth, bound=1))
        return found

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "claims": [{**asdict(c), "met": c.met} for c in self.claims()]}


def loads_of(asked: ServingAsked) -> int:
    """How often `bench_serving` tells of its advance."""
    return (asked.turns + 1) * (3 + len(plain_port.WAYS)) + (LOOKS if asked.requests else 0)


def bench_serving(
    adapter: AdapterFolder, asked: ServingAsked, advance: Callable[[], None] = lambda: None
) -> ServingFigures:
    """Load all contestants in turns; the first turn of each warms it up.

    Args:
        adapter: of the task `classification`.
        asked: what is measured.
        advance: told of each load.

    Raises:
        InputError: another task, or no `wrk`.
        SelfTestError: a contestant does not start, or answers otherwise.
    """
    port_load.require_wrk()
    if adapter.contract.task.kind != "classification":
        raise InputError(
            "the plain ways answer with labels",
            where=str(adapter.path),
            expected="an adapter of the task classification",
            got=adapter.contract.task.kind,
        )
    before = os.getloadavg()[0]
    with TemporaryDirectory(prefix="presspool-bench-") as place, ExitStack() as stack:
        race = _Race(Path(place), adapter, asked, stack)
        for number in range(asked.turns + 1):
            race.turn(number, advance)
        memory, errors = race.watched(advance) if asked.requests else ([], 0)
    return ServingFigures(
        asked=asked,
        base=adapter.contract.model.id,
        cores=os.cpu_count() or 1,
        load=(before, os.getloadavg()[0]),
        fastest={name: loads[1:] for name, loads in race.fastest.items()},
        half=race.half[1:],
        memory=memory,
        errors=errors,
    )


class _Race:
    """The contestants, and what they did."""

    def __init__(
        self, place: Path, adapter: AdapterFolder, asked: ServingAsked, stack: ExitStack
    ) -> None:
        self._place, self._asked = place, asked
        served = [f"{name}={adapter.path}" for name in NAMES]
        ours = ["presspool.cli", "serve", *served, "--port", "0", "--json"]
        theirs = {way: [plain_port.__name__, way, str(adapter.path)] for way in plain_port.WAYS}
        process, address = stack.enter_context(self._started(ours))
        self._ours = psutil.Process(process.pid)
        self._addresses = {ONE: address, EIGHT: address}
        for way, words in theirs.items():
            self._addresses[way] = stack.enter_context(self._started(words))[1]
        self._bodies = {name: self._written(count) for name, count in _ASKED.items()}
        self._agree()
        self.fastest: dict[str, list[LoadTold]] = {name: [] for name in self._addresses}
        self.half = list[LoadTold]()

    def turn(self, number: int, advance: Callable[[], None]) -> None:
        """One load of each, and one at half of capacity."""
        for name in self.fastest:
            self.fastest[name].append(self._fastest(name))
            advance()
        rate = self.fastest[EIGHT][-1].rate / 2
        bodies = self._bodies[EIGHT].read_text().splitlines()
        seconds = 2 * self._asked.seconds
        self.half.append(
            port_load.at_rate(
                self._addresses[EIGHT], bodies, rate=rate, seconds=seconds, seed=number
            )
        )
        advance()

    def watched(self, advance: Callable[[], None]) -> tuple[list[tuple[int, float]], int]:
        """Memory of our process over so many calls, and the calls that were lost."""
        calls = errors = 0
        found = [(0, self._ours.memory_info().rss / 1e6)]
        for part in range(1, LOOKS + 1):
            while len(found) <= part or calls * LOOKS < part * self._asked.requests:
                told = self._fastest(EIGHT)
                calls, errors = calls + told.calls, errors + told.errors
                found.append((calls, self._ours.memory_info().rss / 1e6))
            advance()
        return found, errors

    def _fastest(self, name: str) -> LoadTold:
        bodies = self._bodies.get(name, self._bodies[ONE])
        return port_load.fastest(
            self._addresses[name], bodies, callers=self._asked.callers, seconds=self._asked.seconds
        )

    def _written(self, adapters: int) -> Path:
        path, draw = self._place / f"{adapters}.jsonl", random.Random(1)  # noqa: S311 - no secret
        texts = [" ".join(draw.choices(WORDS, k=self._asked.words)) for _ in range(TEXTS)]
        bodies = [{"model": NAMES[i % adapters], "input": text} for i, text in enumerate(texts)]
        path.write_text("".join(f"{json.dumps(body)}\n" for body in bodies))
        return path

    def _agree(self) -> None:
        for body in self._bodies[EIGHT].read_text().splitlines()[:AGREED]:
            said = {name: _label(at, body) for name, at in self._addresses.items()}
            if len(set(said.values())) > 1:
                raise SelfTestError("contestants answer differently", where=body, got=said)

    @contextmanager
    def _started(self, words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A process of this Python that tells its address, for as long as the block lasts."""
        count = str(self._asked.threads)
        threads = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        log = self._place / f"{len(list(self._place.iterdir()))}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", *words],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={**os.environ, **threads},
            )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if told := _ADDRESS.search(line):
                    break
            else:
                raise SelfTestError("does not start", where=words[0], got=log.read_text()[-500:])
            yield process, told[1]
        finally:
            process.terminate()
            process.wait()


_ADDRESS = re.compile(r'"address": "([^"]+)"')
_ASKED = {ONE: 1, EIGHT: len(NAMES)}


def _label(address: str, body: str) -> str:
    kind = {"content-type": "application/json"}
    asked = urllib.request.Request(f"{address}{port_load.ROUTE}", body.encode(), kind)  # noqa: S310
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - our own port
        said: str = json.load(answer)["data"][0]["label"]
    return said
