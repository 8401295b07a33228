"""`presspool bench secagg`: a secure sum of many outlets beside the plain sum, and Flower's.

All parties of a round are played one after the other in one process, each message through its
bytes. The contestants take turns: the plain sum (float32 vectors, added as they arrive), ours in
both rings without and with outlets that drop out between shares and inputs, which is what costs
most, and SecAgg+'s parts.

Invariants:
    * Work is processor seconds of all outlets and the coordinator together. Wall-clock seconds of
      the same, on a shared machine, mean less, and stand beside it.
    * A contestant whose sum is not the integers' sum ends the measurement.
    * The exchange of keys, once a run, is measured apart.

Example: `bench_sums(SumSizes(outlets=5, parameters=100, turns=1, dropouts=1)).to_json()`.
"""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from presspool.common.base.errors import SelfTestError
from presspool.common.pki.keys import SigningKey
from presspool.common.secagg.masks import SignedVector
from presspool.common.secagg.pair_keys import gathered
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import MaskedInput, SecaggMessage
from presspool.common.secagg.secagg_outlet import SecaggOutlet
from presspool.common.secagg.secagg_plan import RINGS, SecaggPlan
from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.sums.flower_sums import flower_sum

Vector = NDArray[np.int64]
M = TypeVar("M", bound=SecaggMessage)
PLAIN, FLOWER = "plain sum", "Flower SecAgg+"
BOUND = 1 << 20  # of an integer: 30 of them are exact as float32 sums in float64, and fit 32 bits
MOST_WORK, MOST_BYTES, MOST_VECTORS = 1.5, {32: 1.1, 64: 2.2}, 3.0


@dataclass(frozen=True, kw_only=True)
class SumSizes:
    """How much is measured.

    Attributes:
        outlets: K; a fifth of them may collude.
        parameters: length of a vector.
        turns: of each contestant.
        dropouts: outlets that drop out where any do.
    """

    outlets: int = 30
    parameters: int = 300_000
    turns: int = 5
    dropouts: int = 3


@dataclass(frozen=True, kw_only=True)
class SumCost:
    """What a contestant's turns cost.

    Attributes:
        work: processor seconds of each turn.
        seconds: wall-clock seconds of each turn.
        bytes: that travelled in the last turn, both ways.
    """

    work: list[float]
    seconds: list[float]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SumFigures:
    """What was measured.

    Attributes:
        sizes: of what.
        costs: contestant to its cost.
        keys: processor seconds of one exchange of keys, of all outlets and the coordinator.
        vectors: ring's bits to the most that the coordinator held at once, in vectors.
        load: of the machine over the last minute, at the start and at the end.
        cores: of the machine.
    """

    sizes: SumSizes
    costs: dict[str, SumCost]
    keys: float
    vectors: dict[int, float]
    load: tuple[float, float]
    cores: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values, with the claims."""
        claims = [{**asdict(claim), "met": claim.met} for claim in self.claims()]
        return {**asdict(self), "claims": claims}

    def above(self, name: str) -> list[float]:
        """Of each turn, the processor seconds above the plain sum's."""
        pairs = zip(self.costs[name].work, self.costs[PLAIN].work, strict=True)
        return [ours - plain for ours, plain in pairs]

    def ratio(self, name: str) -> float:
        """Bytes ÷ the plain sum's."""
        return self.costs[name].bytes / self.costs[PLAIN].bytes

    def claims(self) -> list[Claim]:
        """What a secure sum should cost at most."""
        found = []
        for bits in RINGS:
            for gone in (0, self.sizes.dropouts):
                name = contestant(bits, gone)
                work = statistics.median(self.above(name))
                text = f"{name}: work above the plain sum, s"
                found.append(Claim(text=text, value=work, bound=MOST_WORK))
            ring, ratio = f"ring of {bits} bits", self.ratio(contestant(bits, 0))
            found.append(Claim(text=f"{ring}: bytes ÷ plain", value=ratio, bound=MOST_BYTES[bits]))
            held = self.vectors[bits]
            text = f"{ring}: vectors held at the coordinator"
            found.append(Claim(text=text, value=held, bound=MOST_VECTORS))
        return found


def contestant(bits: int, gone: int) -> str:
    """The name of ours."""
    return f"ring of {bits} bits, {gone} dropouts"


def units_of_sums(sizes: SumSizes) -> int:
    """How often `bench_sums` calls `advance`."""
    return 7 * sizes.turns + len(RINGS)


def bench_sums(sizes: SumSizes, *, advance: Callable[[], None] = lambda: None) -> SumFigures:
    """Measure all contestants in turns; raises `SelfTestError` if one does not sum."""
    before, began = os.getloadavg()[0], time.process_time()
    pools = {bits: MeasuredPool(sizes, bits) for bits in RINGS}
    keys = (time.process_time() - began) / len(RINGS)
    inputs, held = _inputs(pools[RINGS[0]].plan), dict[int, float]()
    for bits, pool in pools.items():
        held[bits] = pool.vectors_held(inputs)
        advance()
    contestants = _contestants(sizes, pools, inputs)
    turns: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contestants}
    for _ in range(sizes.turns):
        for name, (work, gone) in contestants.items():
            turns[name].append(_turn(name, work, inputs, gone))
            advance()
    costs = {name: _cost(found) for name, found in turns.items()}
    load, cores = (before, os.getloadavg()[0]), os.cpu_count() or 1
    return SumFigures(sizes=sizes, costs=costs, keys=keys, vectors=held, load=load, cores=cores)


class MeasuredPool:
    """Outlets whose keys are exchanged, and the rounds that they made."""

    def __init__(self, sizes: SumSizes, bits: int) -> None:
        signers = {f"outlet-{at:02}": SigningKey.generate() for at in range(sizes.outlets)}
        self.plan = SecaggPlan(
            run="bench",
            contract="sha256:" + 64 * "0",
            cohort={name: signer.public for name, signer in signers.items()},
            colluders=sizes.outlets // 5,
            dropouts=sizes.dropouts,
            ring_bits=bits,
            length=sizes.parameters,
            bound=BOUND,
        )
        begun = (SecaggOutlet.begin(self.plan, n, s, lambda _: None) for n, s in signers.items())
        self._outlets = dict(zip(signers, begun, strict=True))
        adverts = {name: outlet.advertise() for name, outlet in self._outlets.items()}
        self._roster, self._round = gathered(self.plan, adverts), 0
        for outlet in self._outlets.values():
            outlet.join(self._roster)

    def sum(self, inputs: Mapping[str, Vector], gone: Collection[str]) -> tuple[SignedVector, int]:
        """The sum of those who are not gone after the shares, and the bytes that travelled."""
        self._sent, summing = 0, self._shared()
        delivered = summing.deliveries()
        left = [name for name in self._outlets if name not in gone]
        for name in left:
            box = self._over(delivered[name])
            summing.take_input(name, self._over(self._outlets[name].mask(box, inputs[name])))
        return self._opened(summing, left), self._sent

    def vectors_held(self, inputs: Mapping[str, Vector]) -> float:
        """The coordinator's peak from the first input to the sum, in vectors of the ring."""
        summing = self._shared()
        boxes = summing.deliveries().items()
        sent = {n: self._outlets[n].mask(box, inputs[n]).to_bytes() for n, box in boxes}
        tracemalloc.start()
        for name, data in sent.items():
            arrived = memoryview(data).tobytes  # a copy, as it comes from a connection
            masked = MaskedInput.from_bytes(arrived(), most=self.plan.message_bytes)
            summing.take_input(name, masked)
            del masked
        self._opened(summing, list(self._outlets))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        vector = self.plan.length * self.plan.ring_bits / 8
        return 1 + peak / vector  # the sum was there before

    def _shared(self) -> SecaggSum:
        self._round, self._sent = self._round + 1, 0
        summing = SecaggSum(self.plan, self._roster, round=self._round, attempt=1)
        for name, outlet in self._outlets.items():
            summing.take_shares(name, self._over(outlet.share(self._round, 1)))
        return summing

    def _opened(self, summing: SecaggSum, left: list[str]) -> SignedVector:
        survivors = summing.survivor_set()
        for name in left:
            consent = self._outlets[name].consent(self._over(survivors))
            summing.take_consent(name, self._over(consent))
        quorum = summing.quorum()
        for name in left:
            reveal = self._outlets[name].reveal(self._over(quorum))
            summing.take_reveal(name, self._over(reveal))
        return summing.total()

    def _over(self, message: M) -> M:
        """A message at the other end of a connection."""
        data = message.to_bytes()
        self._sent += len(data)
        return type(message).from_bytes(data, most=self.plan.message_bytes)


Work = Callable[[Mapping[str, Vector], Collection[str]], tuple[SignedVector, int]]


def _contestants(
    sizes: SumSizes, pools: Mapping[int, MeasuredPool], inputs: Mapping[str, Vector]
) -> dict[str, tuple[Work, Collection[str]]]:
    last = list(inputs)[sizes.outlets - sizes.dropouts :]
    threshold = pools[RINGS[0]].plan.threshold
    found: dict[str, tuple[Work, Collection[str]]] = {PLAIN: (_plain, ())}
    for gone in ((), last):
        for bits, pool in pools.items():
            found[contestant(bits, len(gone))] = pool.sum, gone
        name = f"{FLOWER}, {len(gone)} dropouts"
        found[name] = lambda x, gone: flower_sum(x, gone=gone, threshold=threshold), gone
    return found


def _inputs(plan: SecaggPlan) -> dict[str, Vector]:
    draw = np.random.default_rng(1)
    return {name: draw.integers(-BOUND, BOUND, plan.length) for name in plan.cohort}


def _plain(inputs: Mapping[str, Vector], gone: Collection[str]) -> tuple[SignedVector, int]:
    sent, total = 0, np.zeros(len(next(iter(inputs.values()))))
    for name in inputs.keys() - set(gone):
        data = inputs[name].astype("<f4").tobytes()
        sent += len(data)
        total += np.frombuffer(data, dtype="<f4")
    return total.astype(np.int64), sent


def _turn(
    name: str, work: Work, inputs: Mapping[str, Vector], gone: Collection[str]
) -> tuple[float, float, int]:
    began, busy = time.perf_counter(), time.process_time()
    total, sent = work(inputs, gone)
    cost = time.process_time() - busy, time.perf_counter() - began, sent
    if not np.array_equal(total, sum(x for n, x in inputs.items() if n not in gone)):
        raise SelfTestError("does not sum", where=name)
    return cost


def _cost(turns: list[tuple[float, float, int]]) -> SumCost:
    work, seconds, sent = zip(*turns, strict=True)
    return SumCost(work=list(work), seconds=list(seconds), bytes=sent[-1])
