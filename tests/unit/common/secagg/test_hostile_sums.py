"""What a hostile coordinator or outlet sends is one error each, and changes and reveals nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.fakes.sums.secure_pool import SecurePool, made_inputs, plan_of

from presspool.common.base.errors import EvidenceError, PlanError, QuorumError, StorageError
from presspool.common.secagg.pair_keys import ADVERT_TAG, gathered
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import (
    SurvivorSet,
    named,
    packed,
)
from presspool.common.secagg.secagg_outlet import SecaggOutlet

A, B, C, D = "outlet-00", "outlet-01", "outlet-02", "outlet-03"
Change = Callable[[Any], Any]


def put(**parts: bytes) -> Change:
    """A list of names with one of them put in, or changed."""
    clean = {name.replace("_", "-"): part for name, part in parts.items()}
    return lambda held: named({**dict(held), **clean})


def left_out(name: str) -> Change:
    return lambda held: tuple(pair for pair in held if pair[0] != name)


def changed(message: Any, field: str, change: Change) -> Any:
    return replace(message, **{field: change(getattr(message, field))})


ELSEWHERE: list[tuple[str, Change]] = [
    ("context", lambda _: bytes(32)),
    ("round", lambda n: n + 1),
    ("attempt", lambda n: n + 1),
]


# --- keys ----------------------------------------------------------------------------------------


def resigned(pool: SecurePool, name: str, key: bytes, signer: str = "") -> bytes:
    """An entry of a roster with a key that was chosen, signed by the outlet itself or another."""
    sign = pool.signers[signer or name].sign
    return key + sign(ADVERT_TAG, packed(pool.plan.context, name, key))


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda p: p.hex()[:8])
def test_points_of_low_order_are_no_keys(point: bytes) -> None:
    pool = SecurePool(join=False)
    bad = changed(pool.roster, "adverts", put(outlet_01=resigned(pool, B, point)))
    with pytest.raises(EvidenceError, match="low order"):
        pool.outlets[A].join(bad)


def test_a_second_spelling_of_a_key_is_none() -> None:
    """The curve ignores the highest bit, and takes coordinates modulo its prime."""
    pool = SecurePool(join=False)
    key = dict(pool.roster.adverts)[C][:32]
    for other in (key[:31] + bytes([key[31] | 128]), (2**255 - 19 + 9).to_bytes(32, "little")):
        bad = changed(pool.roster, "adverts", put(outlet_01=resigned(pool, B, other)))
        with pytest.raises(EvidenceError, match="malformed"):
            pool.outlets[A].join(bad)


@pytest.mark.parametrize("owner", [A, C])
def test_a_key_that_is_reflected_is_refused(owner: str) -> None:
    """B gives out as its own the key of the very outlet that it talks to, or of a third."""
    pool = SecurePool(join=False)
    key = dict(pool.roster.adverts)[owner][:32]
    bad = changed(pool.roster, "adverts", put(outlet_01=resigned(pool, B, key)))
    with pytest.raises(EvidenceError, match="the same key for two outlets"):
        pool.outlets[A].join(bad)


@pytest.mark.parametrize(
    ("field", "change", "says"),
    [
        ("context", lambda _: bytes(32), "of another run"),
        ("adverts", put(outlet_01=bytes(96)), "not signed by this outlet"),
        ("adverts", put(outlet_01=b""), "malformed"),
        ("adverts", put(nobody=bytes(96)), "not the cohort"),
        ("adverts", left_out(B), "missing: outlet-01"),
    ],
)
def test_a_roster_that_is_not_of_this_cohort(field: str, change: Change, says: str) -> None:
    pool = SecurePool(join=False)
    with pytest.raises(EvidenceError, match=says):
        pool.outlets[A].join(changed(pool.roster, field, change))
    with pytest.raises(PlanError, match="no keys"):
        pool.outlets[A].share(1, 1)


def test_a_key_signed_for_another_run_or_by_another_outlet_is_refused() -> None:
    pool = SecurePool(join=False)
    other = SecurePool(join=False, run="run-2")
    for part in (dict(other.roster.adverts)[B], resigned(pool, B, bytes([9]) * 32, signer=C)):
        with pytest.raises(EvidenceError, match="not signed by this outlet for this run"):
            pool.outlets[A].join(changed(pool.roster, "adverts", put(outlet_01=part)))


def test_the_coordinator_checks_what_it_gathers() -> None:
    pool = SecurePool(join=False)
    adverts = {name: outlet.advertise() for name, outlet in pool.outlets.items()}
    for bad in (replace(adverts[B], context=bytes(32)), adverts[C]):
        with pytest.raises(EvidenceError):
            gathered(pool.plan, {**adverts, B: bad})


def test_a_second_roster_is_refused_also_after_a_restart() -> None:
    """A colluder signs two keys; an outlet that took one roster takes no other."""
    pool = SecurePool()
    second = changed(
        pool.roster, "adverts", put(outlet_01=resigned(pool, B, (9).to_bytes(32, "little")))
    )
    for _ in range(2):
        with pytest.raises(EvidenceError, match="a second one"):
            pool.outlets[A].join(second)
        pool.restart()
    pool.outlets[A].join(pool.roster)


def test_keys_that_could_not_be_saved_are_not_used() -> None:
    pool = SecurePool(join=False)

    def full(_: bytes) -> None:
        raise StorageError("cannot write")

    pool.outlets[A]._save = full
    with pytest.raises(StorageError):
        pool.outlets[A].join(pool.roster)
    with pytest.raises(PlanError, match="no keys"):
        pool.outlets[A].share(1, 1)


# --- an outlet -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "change"), ELSEWHERE)
def test_an_outlet_takes_no_message_of_elsewhere(field: str, change: Change) -> None:
    pool, inputs = SecurePool(), made_inputs(SecurePool())
    summing, delivered = pool.to_inputs()
    with pytest.raises(EvidenceError, match="of another"):
        pool.outlets[A].mask(changed(delivered[A], field, change), inputs[A])
    for name, outlet in pool.outlets.items():
        summing.take_input(name, outlet.mask(delivered[name], inputs[name]))
    survivors = summing.survivor_set()
    for step in (pool.outlets[A].consent, pool.outlets[A].reveal):
        with pytest.raises(EvidenceError, match="of another"):
            step(changed(survivors, field, change))


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (put(outlet_01=b""), EvidenceError, "shares from outlet-01: does not open"),
        (put(outlet_01=bytes(94)), EvidenceError, "does not open"),
        (put(outlet_00=bytes(94)), EvidenceError, "nobody else in the cohort"),
        (put(nobody=bytes(94)), EvidenceError, "nobody else in the cohort"),
        (lambda held: held[:1], QuorumError, "nothing was revealed"),
        (lambda held: ((B, held[1][1]), *held[1:]), EvidenceError, "does not open"),
    ],
)
def test_a_delivery_that_is_false(change: Change, kind: type[Exception], says: str) -> None:
    pool = SecurePool()
    _, delivered = pool.to_inputs()
    before = pool.records[A]
    with pytest.raises(kind, match=says):
        pool.outlets[A].mask(changed(delivered[A], "sealed", change), made_inputs(pool)[A])
    assert pool.records[A] == before


def test_one_input_an_attempt_and_one_delivery() -> None:
    pool = SecurePool()
    _, delivered = pool.to_inputs()
    values = made_inputs(pool)[A]
    first = pool.outlets[A].mask(delivered[A], values)
    fewer = changed(delivered[A], "sealed", left_out(B))
    for _ in range(2):
        assert pool.outlets[A].mask(delivered[A], values) == first
        for box, other in ((delivered[A], values + 1), (fewer, values)):
            with pytest.raises(PlanError, match="a second input"):
                pool.outlets[A].mask(box, other)
        pool.restart()


@pytest.mark.parametrize("values", [np.zeros(4, np.int64), np.zeros(3), np.zeros((3, 1), np.int64)])
def test_an_input_of_another_form(values: Any) -> None:
    pool = SecurePool()
    _, delivered = pool.to_inputs()
    with pytest.raises(PlanError, match=r"int64, \(3,\)"):
        pool.outlets[A].mask(delivered[A], values)


@pytest.mark.parametrize("turn", [(0, 1), (1, 0), (2**31, 1), (-1, 1)])
def test_numbers_that_are_no_attempt(turn: tuple[int, int]) -> None:
    with pytest.raises(EvidenceError, match="no attempt"):
        SecurePool().outlets[A].share(*turn)


def test_an_attempt_that_is_over_is_over() -> None:
    pool = SecurePool()
    outlet = pool.outlets[A]
    bundle = outlet.share(2, 2)
    assert outlet.share(2, 2) == bundle
    for turn in ((2, 1), (1, 9)):
        with pytest.raises(PlanError, match="that is over"):
            outlet.share(*turn)
    assert outlet.share(2, 3) != bundle


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (left_out(A), EvidenceError, "without us"),
        (put(nobody=b""), EvidenceError, "with others than sent"),
        (lambda held: held[:2], QuorumError, "too few outlets"),
    ],
)
def test_survivor_sets_that_cannot_be(change: Change, kind: type[Exception], says: str) -> None:
    pool = SecurePool()
    _, delivered = pool.to_inputs()
    outlet = pool.outlets[A]
    survivors = SurvivorSet(delivered[A].context, 1, 1, named(dict.fromkeys(pool.outlets, b"")))
    with pytest.raises(EvidenceError):
        outlet.consent(survivors)  # no input was sent yet
    outlet.mask(delivered[A], made_inputs(pool)[A])
    with pytest.raises(kind, match=says):
        outlet.consent(changed(survivors, "survivors", change))
    outlet.consent(survivors)


def test_nothing_is_revealed_without_enough_true_signatures() -> None:
    pool, inputs = SecurePool(), made_inputs(SecurePool())
    summing, delivered = pool.to_inputs()
    for name, outlet in pool.outlets.items():
        summing.take_input(name, outlet.mask(delivered[name], inputs[name]))
    survivors = summing.survivor_set()
    with pytest.raises(EvidenceError, match="not signed here"):
        pool.outlets[A].reveal(survivors)
    signed = {name: pool.outlets[name].consent(survivors).signature for name in (A, B, C)}
    forged = {**signed, C: signed[B]}
    for signatures, says in (
        ({}, "signed by too few"),
        ({A: signed[A], B: signed[B]}, "signed by too few"),
        (forged, "does not verify"),
        ({**signed, D: b"x"}, "does not verify"),
    ):
        before = pool.records[A]
        with pytest.raises(EvidenceError, match=says):
            pool.outlets[A].reveal(changed(survivors, "survivors", put(**signatures)))
        assert pool.records[A] == before
    assert pool.outlets[A].reveal(changed(survivors, "survivors", put(**signed))).round == 1


def test_a_record_of_another_run_or_of_other_numbers_is_refused() -> None:
    pool, name = SecurePool(), A
    for numbers in ({"run": "run-2"}, {"colluders": 1}, {"length": 4}):
        plan = plan_of(pool.signers, **numbers)
        with pytest.raises(EvidenceError, match="record: of another run"):
            SecaggOutlet(plan, name, pool.signers[name], pool.record(name), lambda _: None)


# --- kills ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("killed_at", range(4))
def test_a_kill_while_a_record_is_saved(killed_at: int, durable: bool) -> None:
    """Whatever of the two records is there afterwards, the step is done again to the same bytes."""
    pool, seen, saves = SecurePool(), dict[str, bytes](), [0]
    inputs = made_inputs(pool)
    keep = pool.outlets[A]._save

    def save(record: bytes) -> None:
        saves[0] += 1
        if saves[0] - 1 != killed_at or durable:
            keep(record)
        if saves[0] - 1 == killed_at:
            raise KeyboardInterrupt

    pool.outlets[A]._save = save

    def again(step: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except KeyboardInterrupt:
            pool.restart(A)
            answer = work()
            assert seen.setdefault(step, answer.to_bytes()) == work().to_bytes()
            return answer

    summing = pool.coordinator()
    for name in pool.outlets:
        summing.take_shares(name, again("share", lambda: pool.outlets[name].share(1, 1)))  # noqa: B023
    box = summing.deliveries()
    for name in pool.outlets:
        summing.take_input(
            name,
            again("mask", lambda: pool.outlets[name].mask(box[name], inputs[name])),  # noqa: B023
        )
    survivors = summing.survivor_set()
    for name in pool.outlets:
        summing.take_consent(name, again("sign", lambda: pool.outlets[name].consent(survivors)))  # noqa: B023
    quorum = summing.quorum()
    for name in pool.outlets:
        summing.take_reveal(name, again("reveal", lambda: pool.outlets[name].reveal(quorum)))  # noqa: B023
    assert summing.total().tolist() == np.sum([*inputs.values()], axis=0).tolist()
    assert saves[0] > killed_at


# --- the coordinator -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "field", "change", "says"),
    [
        *((A, field, change, "of another") for field, change in ELSEWHERE),
        ("nobody", "round", lambda n: n, "from nobody who was asked"),
        (A, "pair_seeds", lambda b: b + b"x", "malformed"),
        (A, "self_check", lambda b: b + b"x", "malformed"),
        (A, "sealed", put(outlet_01=b""), "malformed"),
        (A, "sealed", put(nobody=bytes(94)), "malformed"),
        (A, "sealed", left_out(B), "malformed"),
        (B, "round", lambda n: n, "malformed"),  # A's shares in B's name
    ],
)
def test_shares_that_are_false(sender: str, field: str, change: Change, says: str) -> None:
    pool = SecurePool()
    summing, bundle = pool.coordinator(), pool.outlets[A].share(1, 1)
    with pytest.raises(EvidenceError, match=says):
        summing.take_shares(sender, changed(bundle, field, change))
    summing.take_shares(A, bundle)
    with pytest.raises(EvidenceError, match="a second one"):
        summing.take_shares(A, bundle)


def test_inputs_consents_and_reveals_that_are_false() -> None:
    pool, inputs = SecurePool(), made_inputs(SecurePool())
    summing, delivered = pool.to_inputs(gone={D})

    def refused(says: str, take: Callable[[str, Any], None], sender: str, message: Any) -> None:
        with pytest.raises(EvidenceError, match=says):
            take(sender, message)

    masked = {n: pool.outlets[n].mask(delivered[n], inputs[n]) for n in (A, B, C)}
    refused("malformed", summing.take_input, A, changed(masked[A], "values", lambda b: b[:-1]))
    refused("malformed", summing.take_input, A, changed(masked[A], "values", lambda b: b * 2))
    refused("nobody who was asked", summing.take_input, D, masked[A])
    for name in (A, B, C):
        summing.take_input(name, masked[name])
    refused("a second one", summing.take_input, A, masked[A])
    survivors = summing.survivor_set()
    refused("too late", summing.take_input, A, masked[A])
    consents = {n: pool.outlets[n].consent(survivors) for n in (A, B, C)}
    refused("does not verify", summing.take_consent, A, consents[B])
    refused("malformed", summing.take_consent, A, changed(consents[A], "signature", lambda _: b""))
    assert summing.missing() == [A, B, C]
    for name in (A, B, C):
        summing.take_consent(name, consents[name])
    reveals = {n: pool.outlets[n].reveal(summing._survivors()) for n in (A, B, C)}
    refused("too late", summing.take_reveal, A, reveals[A])
    summing.quorum()
    refused("malformed", summing.take_reveal, A, changed(reveals[A], "self_shares", left_out(B)))
    refused("malformed", summing.take_reveal, A, changed(reveals[A], "pair_shares", put(x=b"")))
    summing.take_reveal(A, reveals[A])
    with pytest.raises(QuorumError, match="too few reveals"):
        summing.total()
    false = changed(reveals[B], "self_shares", put(outlet_02=b"\1" + bytes(32)))
    summing.take_reveal(B, false)
    summing.take_reveal(C, reveals[C])
    with pytest.raises(EvidenceError, match="self-mask of outlet-02: not the one"):
        summing.total()
    assert summing.step == "reveals"


def test_a_bundle_for_other_keys_is_of_another_run() -> None:
    pool, other = SecurePool(), SecurePool()
    with pytest.raises(EvidenceError, match="of another run, or with other keys"):
        pool.coordinator().take_shares(A, other.outlets[A].share(1, 1))
    with pytest.raises(EvidenceError, match="of another run, or of other numbers"):
        SecaggSum(pool.plan, other.roster, round=1, attempt=1)


def test_no_secret_is_in_an_error_or_a_repr() -> None:
    """Of everything that raises above, the text and the reprs of all that it went through."""
    pool = SecurePool()
    _, delivered = pool.to_inputs()
    outlet, record = pool.outlets[A], pool.record(A)
    secrets = [
        record.secret,
        record.root,
        outlet._random("self-mask"),
        outlet._random("pair seeds"),
    ]
    secrets += [outlet._keys.pair_seed(B, (1, 1)), pool.signers[A].secret]
    shown = [repr(x) for x in (outlet, record, outlet._keys, delivered[A], outlet.share(1, 1))]
    try:
        outlet.mask(changed(delivered[A], "sealed", put(outlet_01=bytes(94))), made_inputs(pool)[A])
    except EvidenceError:
        shown.append(traceback.format_exc())
    for secret in secrets:
        for text in shown:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
