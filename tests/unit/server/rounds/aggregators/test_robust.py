"""Robust rules against slow oracles, against attackers, and in contracts that name them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from tests.fakes.made_runs import made_update
from tests.fakes.sums.poisoning import ATTACKS

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import ROBUST_RULES
from presspool.common.wire.update import AdapterUpdate
from presspool.server.rounds.aggregators.aggregator import WeightedMean

Body = dict[str, Any]
Vector = NDArray[np.float64]
OUTLETS, ATTACKERS, CAP = 8, 2, 100.0
RULES = tuple(name for name in ROBUST_RULES.names if name != "mean")
CUT = 3  # where a vector is cut into the two arrays of an update


def updates(rows: Vector) -> dict[str, AdapterUpdate]:
    """Outlet to update, of (outlets, d)."""
    rows = rows.astype(np.float32)
    return {
        f"outlet-{i}": made_update(f"outlet-{i}", delta={"a": row[:CUT], "b": row[CUT:][:, None]})
        for i, row in enumerate(rows)
    }


def combined(rule: str, rows: Vector, attackers: int = ATTACKERS) -> Vector:
    """What a rule makes of (outlets, d)."""
    said = updates(rows)
    if rule == "mean":
        return flat(WeightedMean(said, dict.fromkeys(said, 1.0)))
    return flat(ROBUST_RULES[rule](said, attackers))


def flat(change: Mapping[str, Vector]) -> Vector:
    assert (len(change), list(change)) == (2, ["a", "b"])
    return np.concatenate([change["a"], change["b"][:, 0]])


def made(seed: int, outlets: int = OUTLETS, size: int = 7) -> Vector:
    """Honest updates around (1, 2, 3, ...), (outlets, size)."""
    noise = np.random.default_rng(seed).standard_normal((outlets, size))
    return np.asarray((np.arange(1, size + 1) + noise).astype(np.float32).astype(np.float64))


def slow(rule: str, rows: Vector) -> Vector:
    """The rule by its definition."""
    count, f = len(rows), ATTACKERS
    if rule == "trimmed-mean":
        return np.array([np.mean(sorted(column)[f : count - f]) for column in rows.T])
    if rule == "median":
        return np.array([np.median(column) for column in rows.T])
    if rule == "krum":
        gaps = [[float(np.sum((a - b) ** 2)) for b in rows] for a in rows]
        scores = [
            sum(sorted(gap for j, gap in enumerate(own) if j != i)[: count - f - 2])
            for i, own in enumerate(gaps)
        ]
        best = sorted(range(count), key=lambda i: scores[i])[: count - f]
        return np.asarray(rows[best].mean(axis=0))

    def distances(at: Any) -> float:
        return float(np.linalg.norm(rows - at, axis=1).sum())

    start: Any = rows.mean(axis=0)
    found = minimize(distances, start, method="BFGS")
    return np.asarray(found.x)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("outlets", [8, 9])
def test_rules_are_what_their_definitions_say(rule: str, outlets: int) -> None:
    for seed in range(5):
        rows = made(seed, outlets)
        rows[:ATTACKERS] *= -5
        rows = rows.astype(np.float32).astype(np.float64)
        close = 1e-3 if rule == "rfa" else 1e-9
        np.testing.assert_allclose(combined(rule, rows), slow(rule, rows), atol=close)


@pytest.mark.parametrize("rule", RULES)
def test_who_answers_first_decides_nothing(rule: str) -> None:
    said = updates(made(1))
    orders = [dict(said.items()), dict(reversed(said.items()))]
    first, second = (flat(ROBUST_RULES[rule](order, ATTACKERS)).tobytes() for order in orders)
    assert first == second


@pytest.mark.parametrize("rule", RULES)
def test_f_outlets_cannot_take_the_result_with_them(rule: str) -> None:
    """However far they go, what comes out stays near the honest."""
    honest = made(2, OUTLETS - ATTACKERS)
    radius = np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    for size, seed in itertools.product((1e1, 1e4), range(3)):
        direction = np.random.default_rng(seed).standard_normal(honest.shape[1])
        rows = np.vstack([honest, np.tile(size * direction, (ATTACKERS, 1))])
        away = combined(rule, rows) - honest.mean(axis=0)
        assert np.linalg.norm(away) < 2 * radius
        assert np.linalg.norm(combined("mean", rows) - honest.mean(axis=0)) > 0.2 * size


@pytest.mark.parametrize("rule", ["trimmed-mean", "median"])
def test_coordinates_stay_within_those_of_the_honest(rule: str) -> None:
    honest = made(3, OUTLETS - ATTACKERS)
    for signs in itertools.product((-1e6, 1e6), repeat=2):
        rows = np.vstack([honest, *(np.full((1, honest.shape[1]), s) for s in signs)])
        found = combined(rule, rows)
        assert (found >= honest.min(axis=0) - 1e-5).all()
        assert (found <= honest.max(axis=0) + 1e-5).all()


def test_equal_updates_are_their_own_combination() -> None:
    rows = np.tile(np.arange(7.0), (OUTLETS, 1))
    for rule in RULES:
        np.testing.assert_allclose(combined(rule, rows), rows[0], atol=1e-12)


def accuracy(rule: str, attack: str, *, attackers: int = ATTACKERS) -> float:
    """Of a linear classifier that 8 outlets train together on noisy gradients, 2 of them lying."""
    random = np.random.default_rng(11)
    truth = random.standard_normal(20)
    inputs = random.standard_normal((OUTLETS, 200, 20))
    labels = np.sign(inputs @ truth)
    if attack == "label flip":
        labels[OUTLETS - attackers :] *= -1
    weights = np.zeros(20)
    for _ in range(40):
        margins = labels * (inputs @ weights)
        pulls = labels * expit(-margins)
        rows = np.einsum("op,opd->od", pulls, inputs) / 200
        rows += 0.02 * random.standard_normal(rows.shape)
        if attack in ATTACKS:
            rows[OUTLETS - attackers :] = ATTACKS[attack](rows[: OUTLETS - attackers], CAP)
        weights = weights + combined(rule, rows)
    tested = random.standard_normal((2000, 20))
    return float(np.mean(np.sign(tested @ weights) == np.sign(tested @ truth)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attack", [*ATTACKS, "label flip"])
def test_two_of_eight_outlets_cannot_spoil_the_model(rule: str, attack: str) -> None:
    assert accuracy(rule, attack) >= 0.95 * accuracy("mean", "none")


@pytest.mark.parametrize("attack", ["sign flip", "scaling", "inner product"])
def test_the_mean_collapses_where_robust_rules_stand(attack: str) -> None:
    assert accuracy("mean", attack) < 0.75 * accuracy("mean", "none")


def asked(body: Body, **federation: Any) -> Contract:
    outlets = {f"outlet-{i}": 100 for i in range(OUTLETS)}
    return parse_contract(
        body | {"outlets": outlets, "federation": body["federation"] | federation}
    )


def test_a_contract_without_a_rule_is_the_one_it_was(contract_body: Body) -> None:
    plain = asked(contract_body, quorum=5)
    assert b"robust" not in plain.canonical()
    assert plain.digest == asked(contract_body, quorum=5, robust="mean", attackers=0).digest
    robust = asked(contract_body, quorum=5, robust="median", attackers=2)
    assert b'"attackers":2' in robust.canonical()


@pytest.mark.parametrize(
    ("federation", "says"),
    [
        ({"robust": "median"}, "give both keys or neither"),
        ({"attackers": 1}, "give both keys or neither"),
        ({"robust": "median", "attackers": 2, "quorum": 4}, "raise the quorum to 5"),
        ({"robust": "krum", "attackers": 2, "quorum": 6}, "raise the quorum to 7"),
        ({"robust": "medain", "attackers": 1}, "did you mean 'median'"),
        ({"robust": "krum", "attackers": 1, "quorum": 9}, "lower the quorum or add outlets"),
    ],
)
def test_what_cannot_stand_its_attackers_is_refused(
    contract_body: Body, federation: Body, says: str
) -> None:
    with pytest.raises(ContractError, match=says):
        asked(contract_body, **federation)


def test_sums_of_a_pool_cannot_be_looked_into(contract_body: Body) -> None:
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    body = contract_body | {
        "privacy": privacy | {"epsilon": 6.0},
        "pooled": {"colluders": 1, "dropouts": 0},
    }
    with pytest.raises(ContractError, match="only the sum of all updates is seen"):
        asked(body, trust="pooled", rounds=2, local_steps=1, quorum=5, robust="median", attackers=2)
