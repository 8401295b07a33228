"""What a coordinator and c colluders see is independent of an honest input, given the sum.

The whole view is taken from a real attempt: every message, and every record of a colluder. From it
follow the seeds that they know; every other seed's mask is replaced by every value of a ring of
four, as a uniform one would be. Then the honest masked inputs, counted over all of these, must be
the same for any two inputs of one sum, and others for another sum. So the view can be made again
from the sum alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from tests.fakes.sums.secure_pool import SecurePool, made_inputs

from presspool.common.secagg.masks import add_mask
from presspool.common.secagg.pair_keys import PairKeys
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import Reveal
from presspool.common.secagg.secagg_outlet import SecaggOutlet
from presspool.common.secagg.shamir import SHARE_BYTES, combine

RING = 4
COLLUDERS = {"outlet-04"}
Views = Counter[tuple[int, ...]]


class Watched:
    """An attempt, with the seeds that each outlet masked with, and what the adversary knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dropped: Collection[str]) -> None:
        self.pool = SecurePool(5, colluders=1, dropouts=1, length=1)
        self.dropped, self.used = dropped, dict[str, list[tuple[bytes, bool]]]()

        def watching(total: Any, seed: bytes, *, minus: bool = False) -> None:
            self.used[self.masking].append((seed, minus))
            add_mask(total, seed, minus=minus)

        monkeypatch.setattr(f"{SecaggOutlet.__module__}.add_mask", watching)
        self.known = set(self.learned())

    def learned(self) -> Iterator[bytes]:
        """Seeds that follow from all messages and the colluders' records; late inputs included."""
        pool, inputs = self.pool, made_inputs(self.pool)
        summing, delivered = pool.to_inputs()
        for self.masking in pool.outlets:
            self.used[self.masking] = []
            masked = pool.outlets[self.masking].mask(delivered[self.masking], inputs[self.masking])
            if self.masking not in self.dropped:
                summing.take_input(self.masking, masked)
        survivors = summing.survivor_set()
        alive = [name for name, _ in survivors.survivors]
        for name in alive:
            summing.take_consent(name, pool.outlets[name].consent(survivors))
        quorum = summing.quorum()
        reveals = {name: pool.outlets[name].reveal(quorum) for name in alive}
        yield from self.opened(summing, reveals)
        for colluder in COLLUDERS:
            record = pool.record(colluder)
            keys = PairKeys(pool.plan, colluder, record.secret, record.roster)
            yield from (keys.pair_seed(n, (1, 1)) for n in pool.outlets if n != colluder)
            yield pool.outlets[colluder]._random("self-mask")

    def opened(self, summing: SecaggSum, reveals: dict[str, Reveal]) -> Iterator[bytes]:
        """Every secret of which t shares were revealed, or came to a colluder."""
        for owner in self.pool.outlets:
            selves, keys = dict[int, bytes](), dict[int, bytes]()
            for name, point in self.pool.plan.points.items():
                if name in COLLUDERS and owner != name:
                    both = dict(self.pool.record(name).received)[owner]
                    selves[point], keys[point] = both[:SHARE_BYTES], both[SHARE_BYTES:]
                if name in reveals and owner in dict(reveals[name].self_shares):
                    selves[point] = dict(reveals[name].self_shares)[owner]
                elif name in reveals:
                    keys[point] = dict(reveals[name].pair_shares)[owner]
            threshold = self.pool.plan.threshold
            if len(selves) >= threshold:
                yield combine(selves, threshold=threshold)
            if len(keys) >= threshold:
                key = combine(keys, threshold=threshold)
                yield from summing._pair_seeds(owner, key).values()

    def views(self, inputs: dict[str, int]) -> Views:
        """The honest masked inputs, over all masks of the seeds that are not known."""
        honest = [name for name in self.used if name not in COLLUDERS]
        unknown = sorted({s for n in honest for s, _ in self.used[n]} - self.known)
        signs = np.array(
            [
                [sum(-1 if m else 1 for s, m in self.used[n] if s == u) for u in unknown]
                for n in honest
            ]
        )
        fixed = np.array([inputs[name] for name in honest])  # masks of known seeds come off again
        masks = np.array(list(product(range(RING), repeat=len(unknown)))).T
        return Counter(map(tuple, ((fixed[:, None] + signs @ masks) % RING).T.tolist()))


@pytest.mark.parametrize("dropped", [(), ("outlet-01",), ("outlet-03",)])
def test_the_view_depends_on_the_sum_alone(
    monkeypatch: pytest.MonkeyPatch, dropped: tuple[str, ...]
) -> None:
    """Also of an outlet that was called dropped although its input came."""
    watched = Watched(monkeypatch, dropped)
    alive = [n for n in watched.used if n not in COLLUDERS and n not in dropped]
    inputs = dict.fromkeys(watched.used, 0) | {alive[0]: 3}
    moved = dict.fromkeys(watched.used, 0) | {alive[1]: 1, alive[2]: 2}
    more = inputs | {alive[1]: 1}
    assert watched.views(inputs) == watched.views(moved)
    assert watched.views(inputs) != watched.views(more)
    for name in dropped:  # of whom nothing at all is seen
        assert watched.views(inputs | {name: 1}) == watched.views(inputs)


def test_a_view_with_one_seed_more_tells_of_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same method, where a dropped outlet's self-mask is known as well."""
    watched = Watched(monkeypatch, ("outlet-01",))
    inputs = dict.fromkeys(watched.used, 0)
    watched.known.add(watched.pool.outlets["outlet-01"]._random("self-mask"))
    assert watched.views(inputs) != watched.views(inputs | {"outlet-01": 1})


def test_masked_inputs_are_uniform_whatever_the_input() -> None:
    """Chi-square over the lowest four bits, in fresh attempts, at 1e-6 a tail (15 degrees)."""
    pool = SecurePool(3, colluders=0, dropouts=0, length=200)
    for round, value in enumerate((0, 1, -1000), start=1):
        _, delivered = pool.to_inputs(round)
        inputs = np.full(200, value)
        counts = np.zeros(16)
        for name in pool.outlets:
            seen = np.frombuffer(pool.outlets[name].mask(delivered[name], inputs).values, "<u4")
            counts += np.bincount(seen & 15, minlength=16)
        expected = counts.sum() / 16
        assert ((counts - expected) ** 2 / expected).sum() < 56.5
