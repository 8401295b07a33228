"""Measurements of `presspool bench transport`, and what they say about the transport's targets.

Invariants:
    * Ratios are taken turn by turn and summed up by their median, so that a slow minute of the
      machine, which falls on a whole turn, cancels out.
    * Nothing is asserted about times; `claims` says beside each target whether it was met.

Example:
    >>> turns = [Turn(ours=(0.1, 0.3, 0.2), arrivals=(0.1,), stock=(11.0, 2.0))]
    >>> load = Load(outlets=8, megabytes=0, turns=1)
    >>> TransportMeasurement(load=load, turns=turns, peak_bytes=0).speed_up
    55.0
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from presspool.simulations.bench.claims import Claim

NO_OP_SECONDS, SPEED_UP, UPDATES, IDLE, MASKED = 0.25, 3.0, 3.0, 1.5, 4.0  # what it must reach


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent.

    Attributes:
        outlets: how many.
        megabytes: size of the adapter and of each update, in 10^6 bytes; 0 for next to nothing.
        turns: that each contestant gets.
    """

    outlets: int
    megabytes: int
    turns: int


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of everybody, in seconds a round.

    Attributes:
        ours: our rounds.
        arrivals: of them, from the first outlet's ready answer until the coordinator has all.
        idle: our rounds while connections stand open that do nothing; none where not measured.
        masked: our rounds whose answers are masked; likewise.
        stock: stock Flower's round and its arrivals, or None where it does not take part.
    """

    ours: tuple[float, ...]
    arrivals: tuple[float, ...]
    idle: tuple[float, ...] = ()
    masked: tuple[float, ...] = ()
    stock: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class TransportMeasurement:
    """What a load cost.

    Attributes:
        load: what was sent.
        turns: in their order.
        peak_bytes: the coordinator's memory, above what it held with the adapter ready.
    """

    load: Load
    turns: Sequence[Turn]
    peak_bytes: int

    @property
    def ours(self) -> list[float]:
        """Seconds of our rounds."""
        return [seconds for turn in self.turns for seconds in turn.ours]

    @property
    def stock(self) -> list[float]:
        """Seconds of stock Flower's rounds."""
        return [turn.stock[0] for turn in self.turns if turn.stock is not None]

    @property
    def speed_up(self) -> float:
        """Stock Flower's seconds by ours."""
        return statistics.median(
            turn.stock[0] / statistics.median(turn.ours) for turn in self.turns if turn.stock
        )

    @property
    def arrivals(self) -> tuple[float, float]:
        """Median seconds that answers were under way: ours, and stock Flower's."""
        ours = statistics.median(one for turn in self.turns for one in turn.arrivals)
        return ours, statistics.median(turn.stock[1] for turn in self.turns if turn.stock)

    @property
    def arrival_speed_up(self) -> float:
        """Stock Flower's seconds by ours that answers were under way."""
        return statistics.median(
            turn.stock[1] / statistics.median(turn.arrivals) for turn in self.turns if turn.stock
        )

    @property
    def slow_down(self) -> float:
        """Our seconds with idle connections by those without."""
        return statistics.median(
            statistics.median(t.idle) / statistics.median(t.ours) for t in self.turns if t.idle
        )

    @property
    def mask_factor(self) -> float:
        """Our seconds of masked rounds by those of open ones."""
        return statistics.median(
            statistics.median(t.masked) / statistics.median(t.ours) for t in self.turns if t.masked
        )

    @property
    def updates_held(self) -> float:
        """The memory, in updates."""
        return self.peak_bytes / (self.load.megabytes * 1e6)


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(seconds) < 2:
        return (seconds[0],) * 3
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True, kw_only=True)
class TransportBench:
    """All measurements of one run of the command.

    Attributes:
        machine: what it ran on, for people.
        small: rounds of next to nothing.
        large: rounds of large updates.
        many: as `large`, with more outlets, for the memory.
    """

    machine: dict[str, str]
    small: TransportMeasurement
    large: TransportMeasurement
    many: TransportMeasurement

    def claims(self) -> Iterator[Claim]:
        """The targets, as far as they were measured."""
        small, large = self.small, self.large
        yield Claim(
            text=f"seconds of a round of no work, {small.load.outlets} outlets, median",
            value=quartiles(small.ours)[1],
            bound=NO_OP_SECONDS,
        )
        if large.stock:
            size = f"updates of {large.load.megabytes} MB from {large.load.outlets} outlets"
            yield Claim(
                text=f"{size} arrive: stock Flower ÷ ours",
                bound=SPEED_UP,
                value=large.arrival_speed_up,
                at_least=True,
            )
        for one in (large, self.many):
            yield Claim(
                text=f"coordinator's memory in updates, {one.load.outlets} outlets",
                value=one.updates_held,
                bound=UPDATES,
            )
        yield Claim(
            text="a round with 500 idle connections ÷ one without",
            value=small.slow_down,
            bound=IDLE,
        )
        if any(turn.masked for turn in small.turns):
            yield Claim(
                text=f"a masked round of no work, {small.load.outlets} outlets ÷ one in the open",
                value=small.mask_factor,
                bound=MASKED,
            )

    def to_json(self) -> dict[str, Any]:
        """Everything measured and derived, as plain values."""
        loads = {
            name: asdict(one)
            | {"quartiles": quartiles(one.ours)}
            | (
                {"stock_quartiles": quartiles(one.stock), "ratio": one.speed_up}
                if one.stock
                else {}
            )
            for name, one in (("small", self.small), ("large", self.large), ("many", self.many))
        }
        claims = [asdict(claim) | {"met": claim.met} for claim in self.claims()]
        return {"machine": self.machine, "loads": loads, "claims": claims}
