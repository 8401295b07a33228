"""What no other point beats, by a slow oracle, and what all trials together cost."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.sweeps.made_trials import made_row

from presspool.common.tasks.metric import Metric
from presspool.simulations.sweeps.front import TriedPoint, bill, front, tried

HITS = Metric(name="hits", title="Hits", higher_is_better=True, primary=True)
LOSS = Metric(name="loss", title="Loss", higher_is_better=False, unit="nats")


def made_point(number: int, figure: float, epsilon: float, moved: float) -> TriedPoint:
    return TriedPoint(
        number=number,
        values={},
        figure=figure,
        worst=figure,
        best=figure,
        epsilon=epsilon,
        bytes_moved=moved,
        trials=1,
    )


few = st.integers(0, 3)


@given(st.lists(st.tuples(few, few, few), max_size=8), st.sampled_from([HITS, LOSS]))
def test_the_front_is_what_the_definition_says(
    goods: list[tuple[int, int, int]], m: Metric
) -> None:
    points = [made_point(n, *map(float, good)) for n, good in enumerate(goods)]
    sign = 1 if m.higher_is_better else -1

    def beaten(one: TriedPoint) -> bool:
        for other in points:
            better = sign * (other.figure - one.figure)
            cheaper = one.epsilon - other.epsilon, one.bytes_moved - other.bytes_moved
            gains = (better, *cheaper)
            if min(gains) >= 0 and max(gains) > 0:
                return True
        return False

    assert front(points, m) == [point for point in points if not beaten(point)]


def test_an_unprotected_point_beats_no_private_one() -> None:
    private, open_ = made_point(0, 0.5, 3.0, 100), made_point(1, 0.9, math.inf, 100)
    assert front([private, open_], HITS) == [private, open_]
    assert front([private, made_point(1, 0.5, math.inf, 100)], HITS) == [private]


def test_points_are_means_over_their_seeds_the_best_first() -> None:
    rows = [
        made_row(0, point=0, metrics={"hits": 0.2}),
        made_row(1, point=0, metrics={"hits": 0.4}, bytes_up=300),
        made_row(2, point=1, metrics={"hits": 0.9}, epsilon=3.0),
        made_row(3, point=1, metrics={"hits": 0.7}, epsilon=2.0),
        made_row(4, point=2, metrics={"hits": 1.0}),
        made_row(5, point=2, state="failed", metrics={}),
        made_row(6, point=3, metrics={"hits": 1.0}),
        made_row(7, point=3, metrics={"hits": None}),
        made_row(8, point=4, metrics={"hits": 1.0}),
    ]
    found = tried(rows, HITS, seeds=2)
    assert [point.number for point in found] == [1, 0]
    best, other = found
    assert (round(best.figure, 9), best.worst, best.best, best.epsilon) == (0.8, 0.7, 0.9, 3.0)
    assert other.bytes_moved == 250
    assert [
        p.number
        for p in tried(rows[:4], Metric(**vars(HITS) | {"higher_is_better": False}), seeds=2)
    ] == [0, 1]


def test_every_trial_is_on_the_bill_also_those_that_were_not_chosen() -> None:
    rows = [
        made_row(0, epsilon=0.1),
        made_row(1, epsilon=0.2, state="pruned"),
        made_row(2, epsilon=0.3, state="failed", metrics={}),
        made_row(3, epsilon=math.inf, delta=None),
        made_row(4, epsilon=None, delta=None, state="failed", metrics={}),
    ]
    cost = bill(rows)
    assert (cost.epsilon, cost.delta) == (Decimal("0.6"), Decimal("3e-5"))  # exact, unlike floats
    assert (cost.paid, cost.unprotected) == (3, 1)
