"""Each way to get the protocol wrong is an attack that works once the defence is taken out.

An attack plays a coordinator that has all messages and nobody's help, and says whether it found
what it must not know. On the real code it is refused, or finds nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from tests.fakes.sums.secure_pool import SecurePool, made_inputs

from presspool.common.base.errors import ContractError, PressPoolError
from presspool.common.pki.keys import SigningKey
from presspool.common.secagg import pair_keys
from presspool.common.secagg.masks import SignedVector, add_mask, from_ring
from presspool.common.secagg.pair_keys import PairKeys, key_advert
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import (
    Delivery,
    MaskedInput,
    Reveal,
    Roster,
    SurvivorSet,
    named,
)
from presspool.common.secagg.secagg_outlet import SecaggOutlet
from presspool.common.secagg.secagg_plan import SecaggPlan
from presspool.common.secagg.shamir import SHARE_BYTES, combine

Vector = NDArray[np.int64]
Inputs = dict[str, Vector]
Attack = Callable[[SecurePool, Inputs], bool]
VICTIM, REST = "outlet-03", ("outlet-00", "outlet-01", "outlet-02")


def succeeds(attack: Attack, pool: SecurePool) -> bool:
    try:
        return attack(pool, made_inputs(pool))
    except PressPoolError:
        return False


def shared(summing: SecaggSum, reveals: Mapping[str, Reveal], owner: str, kind: str) -> bytes:
    """An owner's secret, from what was revealed of it."""
    points, parts = summing._plan.points, {}
    for name, reveal in reveals.items():
        if owner in dict(getattr(reveal, kind)):
            parts[points[name]] = dict(getattr(reveal, kind))[owner]
    return combine(parts, threshold=summing._plan.threshold)


def unmasked(
    masked: MaskedInput, victim: str, self_seed: bytes, pair_seeds: Mapping[str, bytes]
) -> SignedVector:
    """The input of one outlet whose seeds are known."""
    total = np.frombuffer(masked.values, dtype="<u4").copy()
    add_mask(total, self_seed, minus=True)
    for peer, seed in pair_seeds.items():
        add_mask(total, seed, minus=victim < peer)
    return from_ring(total)


def told(summing: SecaggSum, alive: Collection[str], signed: Mapping[str, bytes]) -> SurvivorSet:
    """A survivor set as this coordinator likes it."""
    parts = named({name: signed.get(name, b"") for name in alive})
    return SurvivorSet(summing._session, *summing._turn, parts)


def opened(
    pool: SecurePool, summing: SecaggSum, who: Collection[str], alive: Collection[str]
) -> dict[str, Reveal]:
    """What some outlets reveal who are told that these are alive, and sign that."""
    consents = {n: pool.outlets[n].consent(told(summing, alive, {})).signature for n in who}
    return {n: pool.outlets[n].reveal(told(summing, alive, consents)) for n in who}


def masked_inputs(
    pool: SecurePool, inputs: Inputs, round: int = 1
) -> tuple[SecaggSum, dict[str, MaskedInput]]:
    """A round up to the inputs, of which the coordinator keeps each."""
    summing, delivered = pool.to_inputs(round)
    return summing, {n: pool.outlets[n].mask(delivered[n], inputs[n]) for n in pool.outlets}


def found(
    summing: SecaggSum, masked: MaskedInput, victim: str, self_seed: bytes, key: bytes, x: Vector
) -> bool:
    """Whether the two secrets of an outlet open its input."""
    pair_seeds = summing._pair_seeds(victim, key)
    return np.array_equal(unmasked(masked, victim, self_seed, pair_seeds), x)


def how_an_input_changed(pool: SecurePool, inputs: Inputs) -> bool:
    """The self-masks of two rounds are opened; what is left are pair masks, and they cancel."""
    left = []
    for round, factor in ((1, 1), (2, 3)):
        scaled = {name: factor * values for name, values in inputs.items()}
        summing, masked = masked_inputs(pool, scaled, round)
        reveals = opened(pool, summing, pool.outlets, pool.outlets)
        seed = shared(summing, reveals, VICTIM, "self_shares")
        left.append(unmasked(masked[VICTIM], VICTIM, seed, {}))
    return np.array_equal(left[1] - left[0], 2 * inputs[VICTIM])


def test_pair_seeds_that_are_reused_between_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(how_an_input_changed, SecurePool())
    monkeypatch.setattr(PairKeys, "_derived", of_no_turn("pair"))
    assert succeeds(how_an_input_changed, SecurePool())


def of_no_turn(kind: str) -> Callable[..., bytes]:
    """The fault: keys of one kind that are the same in all rounds."""
    real = PairKeys._derived

    def derived(self: PairKeys, peer: str, use: str, turn: Any, *names: str) -> bytes:
        return real(self, peer, use, (0, 0) if use == kind else turn, *names)

    return derived


def self_mask_of_last_round(pool: SecurePool, inputs: Inputs) -> bool:
    """Opened in round 1, where the victim was alive; in round 2 its pair seeds are."""
    summing, _ = masked_inputs(pool, inputs)
    seed = shared(summing, opened(pool, summing, REST, pool.outlets), VICTIM, "self_shares")
    summing, masked = masked_inputs(pool, inputs, round=2)
    key = shared(summing, opened(pool, summing, REST, REST), VICTIM, "pair_shares")
    return found(summing, masked[VICTIM], VICTIM, seed, key, inputs[VICTIM])


def test_a_self_mask_that_is_reused_between_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(self_mask_of_last_round, SecurePool())
    pool = SecurePool()
    monkeypatch.setattr(secrets, "token_bytes", bytes)
    assert succeeds(self_mask_of_last_round, pool)


def both_kinds(pool: SecurePool, inputs: Inputs) -> bool:
    """The same outlets are asked for one kind of shares, are killed, and asked for the other."""
    summing, masked = masked_inputs(pool, inputs)
    seed = shared(summing, opened(pool, summing, REST, pool.outlets), VICTIM, "self_shares")
    pool.restart()
    key = shared(summing, opened(pool, summing, REST, REST), VICTIM, "pair_shares")
    return found(summing, masked[VICTIM], VICTIM, seed, key, inputs[VICTIM])


def test_both_kinds_of_shares_revealed_of_one_outlet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(both_kinds, SecurePool())
    monkeypatch.setattr(SecaggOutlet, "_agreed", whatever_set)
    assert succeeds(both_kinds, SecurePool())


def whatever_set(outlet: SecaggOutlet, survivors: SurvivorSet) -> bytes:
    """The fault: what was signed before is forgotten."""
    return survivors.agreement({*dict(outlet._record.received), outlet._name})


def two_groups(pool: SecurePool, inputs: Inputs) -> bool:
    """Three of seven outlets are told that the last is alive, three others that it dropped out."""
    *others, victim = pool.outlets
    summing, masked = masked_inputs(pool, inputs)
    seed = shared(summing, opened(pool, summing, others[:3], pool.outlets), victim, "self_shares")
    key = shared(summing, opened(pool, summing, others[3:], others), victim, "pair_shares")
    return found(summing, masked[victim], victim, seed, key, inputs[victim])


def test_a_threshold_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(two_groups, SecurePool(7))
    monkeypatch.setattr(SecaggPlan, "threshold", property(lambda plan: len(plan.cohort) // 2))
    assert succeeds(two_groups, SecurePool(7))


def many_stories(pool: SecurePool, inputs: Inputs, *, signed: bool) -> bool:
    """A sum of four of ten outlets is opened, where the plan has six or more.

    Each outlet is told that four others dropped out, not the same four, so that of six outlets six
    say that they did. Shares alone do not see it.
    """
    outlets = list(pool.outlets)
    gone, alive = outlets[:6], outlets[6:]
    summing, masked = masked_inputs(pool, inputs)
    not_told = [{at, (at + 1) % 6} for at in range(6)] + [{0, 1}, {2, 3}, {4, 5}, {0, 3}]
    told_to = {
        name: [n for n in outlets if n not in gone or gone.index(n) in spared]
        for name, spared in zip(outlets, not_told, strict=True)
    }
    consents = {
        name: pool.outlets[name].consent(told(summing, told_to[name], {})).signature
        for name in outlets
    }
    reveals = {
        n: pool.outlets[n].reveal(told(summing, told_to[n], consents if signed else {}))
        for n in outlets
    }
    total = np.zeros(pool.plan.length, dtype="<u4")
    for name in alive:
        total += np.frombuffer(masked[name].values, dtype="<u4")
        add_mask(total, shared(summing, reveals, name, "self_shares"), minus=True)
    for name in gone:
        seeds = summing._pair_seeds(name, shared(summing, reveals, name, "pair_shares"))
        for peer in alive:
            add_mask(total, seeds[peer], minus=peer < name)
    return np.array_equal(from_ring(total), np.sum([inputs[n] for n in alive], axis=0))


def test_a_survivor_set_that_nobody_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = partial(many_stories, signed=False)
    assert not succeeds(attack, SecurePool(10, dropouts=4))
    monkeypatch.setattr(SecaggOutlet, "_check_signatures", lambda *_: None)
    assert succeeds(attack, SecurePool(10, dropouts=4))


def test_a_survivor_set_that_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = partial(many_stories, signed=True)
    assert not succeeds(attack, SecurePool(10, dropouts=4))
    monkeypatch.setattr(SurvivorSet, "agreement", lambda survivors, _: survivors.context)
    assert succeeds(attack, SecurePool(10, dropouts=4))


def two_attempts(pool: SecurePool, inputs: Inputs) -> bool:
    """A round is opened, said to have failed, and opened again without one outlet."""
    summing, _ = masked_inputs(pool, inputs)
    opened(pool, summing, pool.outlets, pool.outlets)
    pool.restart()
    total = pool.attempt(inputs, attempt=2, leaving={"inputs": [VICTIM]})
    return np.array_equal(total, np.sum([inputs[n] for n in REST], axis=0))


def test_a_round_that_is_opened_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(two_attempts, SecurePool())
    real = SecaggOutlet._keep

    def forgetful(self: SecaggOutlet, changes: dict[str, Any]) -> None:
        real(self, changes | {"revealed": 0})

    monkeypatch.setattr(SecaggOutlet, "_keep", forgetful)
    assert succeeds(two_attempts, SecurePool())


def invented_outlets(pool: SecurePool, inputs: Inputs) -> bool:
    """All peers of the victim are the coordinator's: it made their keys and opens their shares."""
    plan, turn, outlet = pool.plan, (1, 1), pool.outlets[VICTIM]
    made = {name: X25519PrivateKey.generate().private_bytes_raw() for name in REST}
    adverts = {n: key_advert(plan, n, SigningKey.generate(), made[n]) for n in REST}
    parts = {n: advert.key + advert.signature for n, advert in adverts.items()}
    roster = Roster(plan.context, named({**dict(pool.roster.adverts), **parts}))
    outlet.join(roster)
    peers = {n: PairKeys(plan, n, made[n], roster.adverts) for n in REST}
    bundle = dict(outlet.share(*turn).sealed)
    sealed = {n: keys.seal(VICTIM, turn, bytes(66), bytes(12)) for n, keys in peers.items()}
    box = Delivery(peers[REST[0]].session, *turn, named(sealed))
    masked = outlet.mask(box, inputs[VICTIM])
    opens = {plan.points[n]: keys.open(VICTIM, turn, bundle[n]) for n, keys in peers.items()}
    shares = {point: both[:SHARE_BYTES] for point, both in opens.items()}
    seeds = {n: keys.pair_seed(VICTIM, turn) for n, keys in peers.items()}
    seed = combine(shares, threshold=plan.threshold)
    return np.array_equal(unmasked(masked, VICTIM, seed, seeds), inputs[VICTIM])


def test_a_pair_with_keys_that_the_coordinator_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(invented_outlets, SecurePool(join=False))
    monkeypatch.setattr(pair_keys, "verify", lambda *_: None)
    assert succeeds(invented_outlets, SecurePool(join=False))


def replayed_shares(pool: SecurePool, inputs: Inputs) -> bool:
    """Round 1 calls the victim dropped; in round 2 its shares of round 1 come, and it is alive."""
    summing, masked = masked_inputs(pool, inputs)
    old = {name: dict(summing._bundles[VICTIM].sealed)[name] for name in REST}
    key = shared(summing, opened(pool, summing, REST, REST), VICTIM, "pair_shares")
    later, delivered = pool.to_inputs(2)
    for name in REST:
        box = named({**dict(delivered[name].sealed), VICTIM: old[name]})
        pool.outlets[name].mask(Delivery(later._session, 2, 1, box), inputs[name])
    reveals = opened(pool, later, REST, pool.outlets)
    seed = shared(later, reveals, VICTIM, "self_shares")
    return found(summing, masked[VICTIM], VICTIM, seed, key, inputs[VICTIM])


def test_shares_of_another_round_that_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not succeeds(replayed_shares, SecurePool())
    monkeypatch.setattr(PairKeys, "_derived", of_no_turn("channel"))
    assert succeeds(replayed_shares, SecurePool())


def test_a_ring_in_which_the_sum_wraps_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack, but a false sum: the bound is of one input, and the ring must hold K of them."""
    with pytest.raises(ContractError, match="take ring_bits = 64"):
        SecurePool(bound=2**31 - 1)
    monkeypatch.setattr(SecaggPlan, "_check_ring", lambda _: None)
    pool = SecurePool(bound=2**31 - 1)
    inputs = {name: np.full(3, pool.plan.bound) for name in pool.outlets}
    assert pool.attempt(inputs).tolist() != [4 * pool.plan.bound] * 3
