"""`presspool bench simulation`: rounds of our simulation in turns with other simulators' rounds.

Every contestant trains the same adapter on equal clients, loads once and then does one round a
turn. What starts, and what grows, is measured apart: a whole run on Ray beside one on this
machine's processes, and memory over many rounds.

Invariants:
    * Turns of all contestants alternate in one run, and ratios are taken turn by turn.
    * The first turn of each warms up and is not counted.
    * A round that did not train all clients' records, or in which not every client added noise of
      its own, ends the measurement.

Example: `bench_simulation(SimulationAsked(clients=3, turns=1, only=("bare loop",))).to_json()`.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from presspool.common.base.errors import InputError, SelfTestError
from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.simulators.contestant_process import ContestantProcess, RoundTaken
from presspool.simulations.bench.simulators.grid_race import GridRace, raced
from presspool.simulations.bench.simulators.memory_growth import MemoryGrowth, grown
from presspool.simulations.bench.simulators.simulator_rooms import ROOMS, cache_folder, room
from presspool.simulations.bench.simulators.simulator_turns import (
    CLIP,
    LEARNING_RATE,
    NOISE,
    RoundSizes,
)

OURS = "presspool, 1 worker"
TOLERANCE = 0.05  # of the length of a change that is nearly all noise
RACES = 2  # runs on each grid
Advance = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to simulate a round.

    Attributes:
        words: of its process.
        what: it does in a round.
        bound: how many times as fast ours should be; None for our own.
        turns: that it gets at most, without the one that warms up; None for all.
        warms: whether its first turn is left out.
    """

    words: tuple[str, ...]
    what: str
    bound: float | None = None
    turns: int | None = None
    warms: bool = True


CONTESTANTS = {
    OURS: Contestant(
        words=("pool", "1"),
        what="`presspool simulate` with one worker process: contract, admission, outlets' "
        "engine with clipping per reader and noise from the outlet's own generator, checkpoint",
    ),
    "presspool, 0 workers": Contestant(
        words=("pool", "0"), what="the same, outlets served in the coordinator's process"
    ),
    "bare loop": Contestant(
        words=("bare",),
        what="PEFT, one forward and backward pass a client, clipped and noised; nothing travels, "
        "nothing is kept",
        bound=2.0,
    ),
    "pfl-research": Contestant(
        words=("pfl",),
        what="`FederatedAveraging` on its simulated backend, its Gaussian mechanism on each user's "
        "update: clips and noises",
        bound=2.0,
    ),
    "flower": Contestant(
        words=("flower",),
        what="`FedAvg` over its Ray backend, one actor that keeps the model; the bare loop's step "
        "in the client: clips and noises",
        bound=3.0,
    ),
    "nvflare": Contestant(
        words=("nvflare",),
        what="`FedAvg` in its simulator, one process at a time, which it starts anew for every "
        "client; the bare loop's step in the client: clips and noises; one turn",
        bound=3.0,
        turns=1,
        warms=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class SimulationAsked:
    """How much is measured.

    Attributes:
        clients: of a round.
        turns: that are counted of each contestant.
        only: contestants; all if empty.
        rounds: over which our memory is watched.
        race: rounds of a whole run on both grids.
    """

    clients: int = 50
    turns: int = 5
    only: tuple[str, ...] = ()
    rounds: int = 0
    race: int = 0


@dataclass(frozen=True, kw_only=True)
class SimulationFigures:
    """What was measured.

    Attributes:
        sizes: of a round.
        first: contestant to the seconds of its first round.
        turns: contestant to its counted turns.
        absent: contestant that could not take part to why.
        race: whole runs on both grids, if they were measured.
        growth: our memory over many rounds, if it was measured.
        load: of the machine over the last minute, at the start and at the end.
        cores: of the machine.
    """

    sizes: RoundSizes
    first: dict[str, float]
    turns: dict[str, list[RoundTaken]]
    absent: dict[str, str] = field(default_factory=dict)
    race: GridRace | None = None
    growth: MemoryGrowth | None = None
    load: tuple[float, float] = (0.0, 0.0)
    cores: int = 1

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values, with the claims."""
        claims = [{**asdict(claim), "met": claim.met} for claim in self.claims()]
        return {**asdict(self), "claims": claims}

    def times(self, name: str, what: str) -> list[float]:
        """Of each turn, a contestant's seconds (or work) ÷ ours in that turn."""
        pairs = zip(self.turns[name], self.turns[OURS], strict=False)
        return [getattr(theirs, what) / getattr(ours, what) for theirs, ours in pairs]

    def claims(self) -> list[Claim]:
        """What our simulation should reach."""
        found = []
        for name, kind in CONTESTANTS.items():
            if kind.bound and self.turns.get(name) and self.turns.get(OURS):
                text = f"{name} ÷ ours, seconds a round"
                value = statistics.median(self.times(name, "seconds"))
                found.append(Claim(text=text, value=value, bound=kind.bound, at_least=True))
        return found + [part.claim for part in (self.race, self.growth) if part]


def units_of_rounds(asked: SimulationAsked) -> int:
    """How often `bench_simulation` calls `advance`; raises `InputError` for strange names."""
    taken = sum(_turns_of(CONTESTANTS[name], asked.turns) for name in _chosen(asked.only))
    return taken + asked.rounds + (2 * RACES if asked.race else 0)


def bench_simulation(
    asked: SimulationAsked, *, rooms: Path | None = None, advance: Advance = lambda: None
) -> SimulationFigures:
    """Let the contestants take turns, then watch memory and race the grids, as far as asked for.

    Args:
        asked: how much is measured.
        rooms: folder of the virtual environments of simulators that need their own; None for the
            user's cache.
        advance: called after each turn, round or run.

    Raises:
        InputError: there is no such contestant.
        SelfTestError: one does not train what it should.
    """
    before, sizes = os.getloadavg()[0], RoundSizes(clients=asked.clients)
    first, found, absent = _turns(asked, sizes, rooms or cache_folder(), advance)
    growth = grown(asked.rounds, advance=advance) if asked.rounds else None
    race = raced(asked.race, turns=RACES, sizes=sizes, advance=advance) if asked.race else None
    return SimulationFigures(
        sizes=sizes,
        first=first,
        turns=found,
        absent=absent,
        race=race,
        growth=growth,
        load=(before, os.getloadavg()[0]),
        cores=os.cpu_count() or 1,
    )


def _turns(
    asked: SimulationAsked, sizes: RoundSizes, rooms: Path, advance: Advance
) -> tuple[dict[str, float], dict[str, list[RoundTaken]], dict[str, str]]:
    """Seconds of everybody's first round, the counted turns, and who could not take part."""
    absent = dict[str, str]()
    with ExitStack() as open_:
        processes = dict[str, ContestantProcess]()
        for name in _chosen(asked.only):
            try:
                processes[name] = open_.enter_context(_started(name, sizes, rooms))
            except (InputError, SelfTestError) as error:
                if CONTESTANTS[name].bound is None:
                    raise
                absent[name] = " ".join(f"{error.what}: {error.got}".split())
        taken: dict[str, list[RoundTaken]] = {name: [] for name in processes}
        for number in range(asked.turns + 1):
            for name, process in processes.items():
                if number < _turns_of(CONTESTANTS[name], asked.turns):
                    taken[name].append(_checked(name, process.turn(), sizes))
                    advance()
    first = {name: turns[0].seconds for name, turns in taken.items()}
    counted = {name: turns[CONTESTANTS[name].warms :] for name, turns in taken.items()}
    return first, counted, absent


def _chosen(only: Sequence[str]) -> list[str]:
    if strange := set(only) - set(CONTESTANTS):
        raise InputError(
            "no such contestant",
            where="--only",
            expected=", ".join(CONTESTANTS),
            got=", ".join(sorted(strange)),
        )
    return [name for name in CONTESTANTS if not only or name in only]


def _turns_of(kind: Contestant, turns: int) -> int:
    counted = turns if kind.turns is None else min(turns, kind.turns)
    return counted + kind.warms


def _started(name: str, sizes: RoundSizes, rooms: Path) -> ContestantProcess:
    words = CONTESTANTS[name].words
    python = room(words[0], rooms) if words[0] in ROOMS else Path(sys.executable)
    return ContestantProcess(words, sizes, python=python)


def _checked(name: str, turn: RoundTaken, sizes: RoundSizes) -> RoundTaken:
    """The turn, if it trained what it should."""
    done = turn.done
    asked = sizes.clients, sizes.clients * sizes.records
    # Noise outweighs gradients by far, so the length of the mean says whether all clients added it.
    length = LEARNING_RATE * CLIP * NOISE * math.sqrt(done.trained / sizes.clients)
    noised = abs(done.moved - length) < TOLERANCE * length
    if (done.clients, done.records) != asked or not noised:
        raise SelfTestError(
            "a round did not train what it should",
            where=name,
            expected=f"{asked[0]} clients, {asked[1]} records, a change of about {length:.2f}",
            got=asdict(done),
        )
    return turn
