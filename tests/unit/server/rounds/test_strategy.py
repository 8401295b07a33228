"""Aggregation: the weighted mean against a slow oracle, and that nothing else decides its bytes."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message
from flwr.serverapp.strategy import Strategy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays
from numpy.typing import NDArray
from tests.fakes.made_runs import STATE, Arrays, made_update, reply

from presspool.common.base.errors import QuorumError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import digest, group_of, read
from presspool.common.models.models import build
from presspool.common.wire.flower import become_server, from_bytes, from_stored, to_bytes
from presspool.common.wire.update import (
    AdapterUpdate,
    RecordState,
    array_record,
    pack_update,
    unpack_task,
)
from presspool.server.rounds.aggregators.aggregator import WeightedMean
from presspool.server.rounds.strategy import AdapterStrategy

OUTLETS = {"north-post": 30, "south-echo": 20}


class ThreeNodes:
    """As much of a Grid as a strategy asks for; no order is promised."""

    def get_node_ids(self) -> Iterable[int]:
        return [4, 2, 3]


GRID: Any = ThreeNodes()


def deltas(seed: int, state: Mapping[str, NDArray[np.float32]] = STATE) -> Arrays:
    """A random update of `state`."""
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=a.shape).astype(np.float32) for n, a in state.items()}


def slow_mean(updates: Mapping[str, Arrays], sizes: Mapping[str, int]) -> Arrays:
    """Σ n_j Δ_j / Σ n_j of every coordinate, in exact fractions."""
    total = sum(sizes[outlet] for outlet in updates)
    mean: Arrays = {}
    for name, array in next(iter(updates.values())).items():
        mean[name] = np.empty_like(array)
        for index in np.ndindex(array.shape):
            parts = [sizes[o] * Fraction(float(updates[o][name][index])) for o in updates]
            mean[name][index] = float(sum(parts) / total)
    return mean


def update_of(contract: Contract, outlet: str, state: Arrays, delta: Arrays) -> AdapterUpdate:
    return AdapterUpdate(
        outlet=outlet, round=1, contract=contract.digest, base=digest(state), delta=delta
    )


def run_round(
    contract: Contract, state: Arrays, replies: Iterable[Message]
) -> tuple[Arrays, AdapterStrategy]:
    """One round of the strategy; returns the new adapter and the strategy."""
    become_server(run_id=1)
    strategy = AdapterStrategy(contract)
    list(strategy.configure_train(1, array_record(state), ConfigRecord(), GRID))
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    return dict(RecordState(arrays)), strategy


def test_the_mean_is_the_slow_oracles() -> None:
    sizes = {"a": 7, "b": 1000, "c": 3}
    said = {outlet: deltas(seed) for seed, outlet in enumerate(sizes)}
    weights = {outlet: size / sum(sizes.values()) for outlet, size in sizes.items()}
    mean = WeightedMean({o: made_update(o, delta=d) for o, d in said.items()}, weights)
    for name, exact in slow_mean(said, sizes).items():
        np.testing.assert_allclose(mean[name], exact, rtol=1e-6)
        assert mean[name].dtype == np.float64


def test_weights_are_renormalised_over_the_outlets_that_were_admitted() -> None:
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    said = {outlet: deltas(seed) for seed, outlet in enumerate("ac")}
    mean = WeightedMean({o: made_update(o, delta=d) for o, d in said.items()}, weights)
    for name, exact in slow_mean(said, {"a": 5, "c": 2}).items():
        np.testing.assert_allclose(mean[name], exact, rtol=1e-6)


def test_one_admitted_outlet_is_its_own_mean_whatever_it_weighs() -> None:
    mean = WeightedMean({"b": made_update("b", delta=deltas(1))}, {"a": 0.999, "b": 0.001})
    for name, array in deltas(1).items():
        assert np.array_equal(mean[name], array)


def test_the_order_of_the_updates_does_not_change_a_byte() -> None:
    said = {outlet: made_update(outlet, delta=deltas(ord(outlet))) for outlet in "abcde"}
    weights = {outlet: (ord(outlet) - 90) / 10 for outlet in said}
    orders = itertools.permutations(said.items())
    sums = {WeightedMean(dict(order), weights)["a"].tobytes() for order in orders}
    assert len(sums) == 1


def test_a_small_outlet_is_not_lost_beside_a_large_one() -> None:
    """In float32, 2²⁴ + 1 = 2²⁴: the small outlet's update would vanish from the sum."""
    one = {"a": np.ones(1, np.float32)}
    large = {"a": np.full(1, 2.0**24, np.float32)}
    said = {"a": made_update("a", delta=large), "b": made_update("b", delta=one)}
    mean = WeightedMean(said, {"a": 0.5, "b": 0.5})
    assert mean["a"].tolist() == [(2.0**24 + 1) / 2]


vectors = numpy_arrays(
    np.float32, 5, elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
)


@given(left=vectors, right=vectors, scale=st.integers(-8, 8), shares=st.integers(1, 99))
def test_the_mean_is_linear_in_the_updates(
    left: NDArray[np.float32], right: NDArray[np.float32], scale: int, shares: int
) -> None:
    """mean(s·x, s·y) = s·mean(x, y), and mean(x, y) = mean(x, 0) + mean(0, y)."""
    weights = {"a": shares / 100, "b": 1 - shares / 100}

    def mean(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
        said = {"a": made_update("a", delta={"w": a}), "b": made_update("b", delta={"w": b})}
        return WeightedMean(said, weights)["w"]

    # A power of two or a small integer scales float32 exactly here, so only the sum may round.
    scaled = mean(
        (left.astype(np.float64) * scale).astype(np.float32),
        (right.astype(np.float64) * scale).astype(np.float32),
    )
    np.testing.assert_allclose(scaled, scale * mean(left, right), rtol=1e-6, atol=1e-3)
    zero = np.zeros_like(left)
    np.testing.assert_allclose(
        mean(left, right), mean(left, zero) + mean(zero, right), rtol=1e-12, atol=1e-9
    )


@given(values=vectors, shares=st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_outlets_that_agree_are_not_changed_by_averaging(
    values: NDArray[np.float32], shares: list[int]
) -> None:
    said = {f"o{i}": made_update(f"o{i}", delta={"w": values}) for i in range(len(shares))}
    weights = {f"o{i}": share / sum(shares) for i, share in enumerate(shares)}
    mean = WeightedMean(said, weights)["w"].astype(np.float32)
    np.testing.assert_array_equal(mean, values)


# --- The strategy -------------------------------------------------------------------------------


@pytest.fixture(params=["ffa", "fedit"])
def either(request: pytest.FixtureRequest, contract_body: dict[str, Any]) -> Contract:
    """The test contract with either method."""
    adapter = {**contract_body["adapter"], "method": request.param}
    return parse_contract({**contract_body, "adapter": adapter})


def test_a_round_moves_every_trained_array_by_the_populations_mean(either: Contract) -> None:
    state = read(build(either))
    said = {outlet: deltas(seed, state) for seed, outlet in enumerate(OUTLETS)}
    replies = [
        reply(update_of(either, outlet, state, delta), node=node)
        for node, (outlet, delta) in enumerate(said.items(), start=2)
    ]
    after, strategy = run_round(either, state, replies)
    for name, exact in slow_mean(said, OUTLETS).items():
        np.testing.assert_allclose(after[name], state[name] + exact, rtol=1e-5, atol=1e-6)
        assert after[name].dtype == np.float32
    assert list(strategy.traffic.admitted.updates) == sorted(OUTLETS)


def test_fedit_averages_both_factors_and_ffa_only_b_and_the_head(
    contract_body: dict[str, Any],
) -> None:
    def names(method: str) -> set[str]:
        adapter = {**contract_body["adapter"], "method": method}
        return set(read(build(parse_contract({**contract_body, "adapter": adapter}))))

    fedit, ffa = names("fedit"), names("ffa")
    assert {name for name in fedit if "lora_A" in name} == fedit - ffa
    assert len(fedit - ffa) == len([name for name in ffa if "lora_B" in name]) == 4
    assert {group_of(name) for name in ffa} == {"adapter", "head"}


def test_with_ffa_the_mean_of_b_is_the_mean_of_the_products(contract: Contract) -> None:
    """Sun et al. 2024: with one shared A, averaging B loses nothing; with FedIT it would."""
    model = build(contract)
    state = read(model)
    said = {outlet: deltas(seed, state) for seed, outlet in enumerate(OUTLETS)}
    replies = [
        reply(update_of(contract, outlet, state, delta), node=node)
        for node, (outlet, delta) in enumerate(said.items(), start=2)
    ]
    after, _ = run_round(contract, state, replies)
    b_name = next(name for name in state if "lora_B" in name)
    factor = dict(model.named_parameters())[b_name.replace("lora_B", "lora_A")]
    a = factor.detach().numpy().astype(np.float64)
    products = [(state[b_name] + said[o][b_name]).astype(np.float64) @ a for o in OUTLETS]
    mean = (30 * products[0] + 20 * products[1]) / 50
    np.testing.assert_allclose(after[b_name].astype(np.float64) @ a, mean, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_replies_does_not_change_a_byte(contract: Contract) -> None:
    state = read(build(contract))
    replies = [
        reply(update_of(contract, outlet, state, deltas(seed, state)), node=2 + seed)
        for seed, outlet in enumerate(OUTLETS)
    ]
    one, _ = run_round(contract, state, replies)
    other, _ = run_round(contract, state, replies[::-1])
    assert digest(one) == digest(other)


def test_every_node_gets_the_same_whole_task(contract: Contract) -> None:
    become_server(run_id=1)
    state = read(build(contract))
    strategy = AdapterStrategy(contract)
    messages = list(strategy.configure_train(2, array_record(state), ConfigRecord(), GRID))
    assert [message.metadata.dst_node_id for message in messages] == [2, 3, 4]
    for message in messages:
        task = unpack_task(message.content)
        assert (task.round, task.digest) == (2, contract.digest)
        assert task.contract.encode() == contract.canonical()
        assert digest(task.state) == digest(state)
    floats = sum(array.size for array in state.values())
    assert strategy.traffic.bytes_down == 3 * 4 * floats


def test_bytes_up_count_refused_updates_too_but_not_failures(contract: Contract) -> None:
    state = read(build(contract))
    quorum_of_one = contract.replace(federation={"quorum": 1})
    late = AdapterUpdate(
        outlet="south-echo",
        round=9,
        contract=quorum_of_one.digest,
        base=digest(state),
        delta=deltas(1, state),
    )
    replies = [
        reply(update_of(quorum_of_one, "north-post", state, deltas(0, state)), node=2),
        reply(late, node=3),
        reply(Error(code=5, reason="internal-error"), node=4),
    ]
    _, strategy = run_round(quorum_of_one, state, replies)
    assert strategy.traffic.bytes_up == 2 * 4 * sum(array.size for array in state.values())
    assert strategy.traffic.admitted.refused == {
        "south-echo": "wrong-round",
        "node 4": "internal-error",
    }


def test_nothing_is_averaged_without_a_quorum(contract: Contract) -> None:
    state = read(build(contract))
    with pytest.raises(QuorumError):
        run_round(contract, state, [reply(update_of(contract, "north-post", state, state))])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda delta: {**delta, next(iter(delta)): np.ones(1, np.float32)},
        lambda delta: {name: np.full_like(array, np.nan) for name, array in delta.items()},
        lambda delta: {name: 1e6 * array for name, array in delta.items()},
    ],
    ids=["broadcastable", "nan", "norm"],
)
def test_a_spoilt_update_never_touches_the_sum(
    contract: Contract, spoil: Callable[[Arrays], Arrays]
) -> None:
    quorum_of_one = contract.replace(federation={"quorum": 1})
    state = read(build(quorum_of_one))
    good = update_of(quorum_of_one, "north-post", state, deltas(0, state))
    bad = update_of(quorum_of_one, "south-echo", state, spoil(deltas(1, state)))
    alone, _ = run_round(quorum_of_one, state, [reply(good)])
    beside, strategy = run_round(quorum_of_one, state, [reply(bad, node=3), reply(good)])
    assert digest(alone) == digest(beside)
    assert list(strategy.traffic.admitted.refused) == ["south-echo"]


def small(seed: int, state: Arrays) -> Arrays:
    """As `deltas`, within the norm's cap however many numbers there are."""
    return {name: np.float32(1e-3) * array for name, array in deltas(seed, state).items()}


@pytest.mark.parametrize("count", [2, 6])
def test_updates_that_lie_stored_are_averaged_to_the_same_bytes_in_the_room_of_one(
    count: int, contract: Contract
) -> None:
    """Over the wire an update is its bytes on the desk; more outlets need no more memory."""
    outlets = [f"outlet-{number}" for number in range(count)]
    many = contract.replace(outlets=dict.fromkeys(outlets, 50), federation={"quorum": count})
    state = {f"w{number}": np.zeros(50_000, np.float32) for number in range(20)}
    one = 4 * 20 * 50_000
    bodies = {
        o: to_bytes(pack_update(update_of(many, o, state, small(n, state))))
        for n, o in enumerate(outlets)
    }
    in_memory = [reply(from_bytes(body), node=2 + n) for n, body in enumerate(bodies.values())]
    expected, _ = run_round(many, state, in_memory)
    del in_memory
    stored = [
        reply(from_stored(io.BytesIO(body)), node=2 + n) for n, body in enumerate(bodies.values())
    ]
    tracemalloc.start()
    try:
        found, _ = run_round(many, state, stored[::-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest(found) == digest(expected)
    assert peak < 2.5 * one  # the task, the new adapter, and a few arrays


def test_outlets_are_never_asked_to_evaluate(contract: Contract) -> None:
    strategy: Strategy = AdapterStrategy(contract)
    nothing = strategy.configure_evaluate(1, array_record(STATE), ConfigRecord(), GRID)
    assert list(nothing) == []
    assert strategy.aggregate_evaluate(1, []) is None
