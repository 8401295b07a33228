"""A coordinator and members who do not keep to masked sums: what each gets, which is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body, noted

from presspool.client import client_app
from presspool.client.release.release import release
from presspool.client.round import Round
from presspool.client.sums.sum_party import FOLDER
from presspool.common.base.errors import GuardError, PressPoolError, QuorumError
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State
from presspool.common.pki.keys import KEY_BYTES
from presspool.common.runs.result_file import read_result
from presspool.common.secagg.secagg_messages import (
    Bundles,
    CohortKeys,
    Consent,
    Roster,
    ShareBundle,
    SurvivorSet,
    named,
)
from presspool.common.wire.flower import from_bytes, to_bytes
from presspool.common.wire.update import AdapterUpdate, pack_update, unpack_update
from presspool.server.rounds.masked_gathering import CONSENT, KEYS, REVEAL, SHARES, TRAIN
from presspool.server.rounds.server_app import serve

Body = dict[str, Any]
MOST = 1 << 20
Lie = Callable[[bytes], bytes]


@pytest.fixture
def body(contract_body: Body) -> Body:
    return masked_body(contract_body, rounds=1)


@pytest.fixture
def pool(tmp_path: Path, body: Body) -> Iterator[MaskedPool]:
    with made_pool(tmp_path, write_run(tmp_path / "made", body)) as made:
        yield made


def nothing(_: bytes) -> bytes:
    return b""


def another_contract(said: bytes) -> bytes:
    return replace(CohortKeys.from_bytes(said, most=MOST), context=bytes(32)).to_bytes()


def one_more(said: bytes) -> bytes:
    cohort = CohortKeys.from_bytes(said, most=MOST)
    keys = named({**dict(cohort.keys), "x-invented": b"k" * KEY_BYTES})
    return replace(cohort, keys=keys).to_bytes()


def own_key_in_a_place(said: bytes) -> bytes:
    roster = Roster.from_bytes(said, most=MOST)
    adverts = dict(roster.adverts)
    adverts[NAMES[4]] = b"\x09" * KEY_BYTES + adverts[NAMES[4]][KEY_BYTES:]
    return replace(roster, adverts=named(adverts)).to_bytes()


def of_three(said: bytes) -> bytes:
    bundles = Bundles.from_bytes(said, most=MOST)
    return replace(bundles, bundles=bundles.bundles[:3]).to_bytes()


def shares_for_another(said: bytes) -> bytes:
    bundles = Bundles.from_bytes(said, most=MOST)
    turned = {}
    for name, raw in bundles.bundles:
        one = ShareBundle.from_bytes(raw, most=MOST)
        parts = [part for _, part in one.sealed]
        names = [peer for peer, _ in one.sealed]
        sealed = named(dict(zip(names, parts[1:] + parts[:1], strict=True)))
        turned[name] = replace(one, sealed=sealed).to_bytes()
    return replace(bundles, bundles=named(turned)).to_bytes()


def sum_of_three(said: bytes) -> bytes:
    survivors = SurvivorSet.from_bytes(said, most=MOST)
    return replace(survivors, survivors=survivors.survivors[:3]).to_bytes()


def signed_by_three(said: bytes) -> bytes:
    survivors = SurvivorSet.from_bytes(said, most=MOST)
    bare = {name: b"" if name in NAMES[3:] else signed for name, signed in survivors.survivors}
    return replace(survivors, survivors=named(bare)).to_bytes()


def without_one_that_signed(said: bytes) -> bytes:
    survivors = SurvivorSet.from_bytes(said, most=MOST)
    return replace(survivors, survivors=survivors.survivors[:4]).to_bytes()


def lying(pool: MaskedPool, phase: int, lie: Lie) -> None:
    """A coordinator says something else in a phase."""
    real = pool.answer

    def answer(name: str, asked: Round) -> bytes:
        if asked.phase == phase:
            asked = Round(replace(asked.task, said=lie(asked.task.said)))
        return real(name, asked)

    pool.answer = answer  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("phase", "lie"),
    [
        (KEYS, nothing),
        (KEYS, another_contract),
        (KEYS, one_more),
        (SHARES, nothing),
        (SHARES, own_key_in_a_place),
        (TRAIN, nothing),
        (TRAIN, of_three),
        (TRAIN, shares_for_another),
        (CONSENT, nothing),
        (CONSENT, sum_of_three),
        (REVEAL, signed_by_three),
        (REVEAL, without_one_that_signed),
    ],
)
def test_a_coordinator_that_lies_in_a_phase_hears_one_word(
    pool: MaskedPool, phase: int, lie: Lie
) -> None:
    lying(pool, phase, lie)
    grid = pool.grid()
    with pytest.raises(QuorumError, match="sum-refused"):
        serve(grid, pool.folder)
    assert {asked.phase for _, asked, _ in grid.sent} == set(range(1, phase))
    for outlet in pool.members.values():
        kinds = outlet.kinds()
        assert kinds.count("refusal") == 1
        assert ("reserve" in kinds) == (phase > TRAIN)  # what is refused before costs nothing


def test_two_stories_of_who_is_in_the_sum_are_not_both_signed(pool: MaskedPool) -> None:
    """Else shares of both of one outlet's masks could be had, and with them its numbers."""
    real, seen = pool.answer, noted(pool)
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda _name, _round, phase: phase == REVEAL), pool.folder)
    asked = next(each for each in seen if each.phase == CONSENT)
    other = Round(replace(asked.task, said=without_one_that_signed(asked.task.said)))
    for name in NAMES[:4]:
        with pytest.raises(GuardError, match="a second one in one attempt"):
            real(name, other)
        assert real(name, asked) == pool.mailbox[(1, CONSENT), name]  # and the first is said again


def altered(
    pool: MaskedPool, outlet: str, phase: int, change: Callable[..., AdapterUpdate]
) -> None:
    """A member says something else in a phase."""
    real = pool.answer

    def answer(name: str, asked: Round) -> bytes:
        data = real(name, asked)
        if (name, asked.phase) != (outlet, phase):
            return data
        update = unpack_update(from_bytes(data), dtype="int32" if phase == TRAIN else "float32")
        return to_bytes(pack_update(change(update)))

    pool.answer = answer  # type: ignore[method-assign]


def said(words: bytes) -> Callable[[AdapterUpdate], AdapterUpdate]:
    return lambda update: replace(update, said=words)


def floats(update: AdapterUpdate) -> AdapterUpdate:
    return replace(update, delta={n: a.astype(np.float32) for n, a in update.delta.items()})


def signed_else(update: AdapterUpdate) -> AdapterUpdate:
    consent = Consent.from_bytes(update.said, most=MOST)
    return replace(update, said=replace(consent, signature=bytes(64)).to_bytes())


@pytest.mark.parametrize(
    ("phase", "change"),
    [
        (SHARES, said(b"garbage")),
        (TRAIN, floats),
        (CONSENT, said(b"garbage")),
        (CONSENT, signed_else),
        (REVEAL, said(b"garbage")),
    ],
)
def test_a_member_that_says_something_else_is_left_out_of_the_phase(
    pool: MaskedPool, phase: int, change: Callable[[AdapterUpdate], AdapterUpdate]
) -> None:
    altered(pool, NAMES[1], phase, change)
    serve(pool.grid(), pool.folder)
    (_, done) = read_result(pool.folder.path).rounds
    assert done.refused == {NAMES[1]: "malformed"}
    assert (NAMES[1] in done.outlets) == (phase > TRAIN)


def test_a_member_that_spoils_the_sum_fails_the_round_by_its_number(
    pool: MaskedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say who it was."""
    right = release

    def spoiled(update: AdapterUpdate, contract: Contract, seal: Callable[[State], State]) -> bytes:
        if update.outlet == NAMES[1]:
            update = replace(update, delta={n: a + (1 << 24) for n, a in update.delta.items()})
        return right(update, contract, seal)

    monkeypatch.setattr(client_app, "release", spoiled)
    with pytest.raises(PressPoolError, match="round 1: the sum of 5 outlets is longer") as caught:
        serve(pool.grid(), pool.folder)
    assert not any(name in str(caught.value) for name in NAMES)
    assert not (pool.folder.path / "adapter").exists()


def test_what_could_open_a_sum_is_for_the_outlet_s_own_user_alone(pool: MaskedPool) -> None:
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda _name, _round, phase: phase == REVEAL), pool.folder)
    for file in pool.files.values():
        (record,) = (file.parent / FOLDER).iterdir()
        assert record.stat().st_mode & 0o077 == 0
        assert record.parent.stat().st_mode & 0o077 == 0
        record.chmod(0o644)
    with pytest.raises(QuorumError, match="outlet-misconfigured"):
        serve(pool.grid(), pool.folder)
