"""What the coordinator keeps of a masked round, searched with the keys of members that help it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body, nobody

from presspool.client.round import Round
from presspool.client.sums.sum_party import FOLDER
from presspool.common.secagg.masks import add_mask, from_ring, to_ring
from presspool.common.secagg.pair_keys import PairKeys
from presspool.common.secagg.secagg_messages import CohortKeys, Reveal
from presspool.common.secagg.secagg_outlet import OutletRecord, SecaggOutlet
from presspool.common.secagg.secagg_plan import plan_of
from presspool.common.secagg.shamir import combine
from presspool.common.wire.flower import from_bytes
from presspool.common.wire.update import unpack_update
from presspool.server.rounds.masked_gathering import REVEAL, TRAIN
from presspool.server.rounds.server_app import serve

VICTIM = NAMES[0]
MOST = 1 << 20
Vector = NDArray[Any]


@pytest.fixture
def pool(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[MaskedPool]:
    body = masked_body(contract_body, rounds=1)
    with made_pool(tmp_path, write_run(tmp_path / "made", body)) as made:
        yield made


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Vector]:
    """What each outlet really masked."""
    found: dict[str, Vector] = {}
    real = SecaggOutlet.mask

    def mask(self: SecaggOutlet, delivery: Any, values: Vector) -> Any:
        found[self._name] = values.copy()
        return real(self, delivery, values)

    monkeypatch.setattr(SecaggOutlet, "mask", mask)
    return found


def ran(pool: MaskedPool) -> dict[str, bytes]:
    """A whole round; returns each outlet's file of secrets, as it was before it was erased."""
    secrets: dict[str, bytes] = {}
    real = pool.answer

    def answer(name: str, asked: Round) -> bytes:
        if asked.phase == REVEAL:
            (file,) = (pool.files[name].parent / FOLDER).iterdir()
            secrets[name] = file.read_bytes()
        return real(name, asked)

    pool.answer = answer  # type: ignore[method-assign]
    serve(pool.grid(nobody), pool.folder)
    return secrets


def searched(pool: MaskedPool, secrets: dict[str, bytes], helpers: Collection[str]) -> Vector:
    """The victim's masked numbers without every mask that mailbox and helpers' secrets give."""
    data = pool.mailbox[(1, TRAIN), VICTIM]
    delta = unpack_update(from_bytes(data), dtype="int32").delta
    flat = np.concatenate([delta[name].ravel() for name in sorted(delta)])
    total = to_ring(flat.astype(np.int64), 32)
    size = int.from_bytes(secrets[VICTIM][:4], "big")
    cohort = CohortKeys.from_bytes(secrets[VICTIM][4 : 4 + size], most=MOST)
    plan = plan_of(pool.contract, dict(cohort.keys))
    shares = {}
    for name in NAMES:
        said = unpack_update(from_bytes(pool.mailbox[(1, REVEAL), name])).said
        shares[plan.points[name]] = dict(Reveal.from_bytes(said, most=MOST).self_shares)[VICTIM]
    add_mask(total, combine(shares, threshold=plan.threshold), minus=True)
    for name in helpers:
        record = OutletRecord.from_bytes(secrets[name][4 + size :], most=MOST)
        keys = PairKeys(plan, name, record.secret, record.roster, known=True)
        add_mask(total, keys.pair_seed(VICTIM, (1, 1)), minus=name > VICTIM)
    return from_ring(total)


def test_nothing_that_is_kept_opens_one_outlets_numbers(
    pool: MaskedPool, inputs: dict[str, Vector]
) -> None:
    secrets = ran(pool)
    for few in ([], [NAMES[1]], [NAMES[1], NAMES[2]], [*NAMES[1:4]]):
        left = searched(pool, secrets, few)
        assert (left == inputs[VICTIM]).mean() < 0.01
        assert abs(left.astype(np.float64).std() / 2**32 - 12**-0.5) < 0.02  # uniform
    # The search is one that finds: with everybody else's keys, what is left is the input itself.
    assert np.array_equal(searched(pool, secrets, NAMES[1:]), inputs[VICTIM])
