"""Tasks of masked sums that do not go together, and programs that meet at one outlet's home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body, nobody, noted

from presspool.client.round import Round
from presspool.client.sums import sum_party
from presspool.common.base.errors import GuardError, QuorumError
from presspool.common.secagg.secagg_messages import CohortKeys, named
from presspool.server.rounds.masked_gathering import CONSENT, KEYS, REVEAL, SHARES, TRAIN
from presspool.server.rounds.server_app import serve


@pytest.fixture
def pool(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[MaskedPool]:
    run = write_run(tmp_path / "made", masked_body(contract_body, rounds=2))
    with made_pool(tmp_path, run) as made:
        yield made


def asked_in(pool: MaskedPool, round: int, phase: int) -> Round:
    """The task of a phase, which nobody has answered yet."""
    seen = noted(pool)
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda _name, *place: place == (round, phase)), pool.folder)
    earlier = next(a for a in seen if (a.number, a.phase) == (round, phase - 1))
    seen.clear()

    def only_hears(_name: str, asked: Round) -> bytes:
        seen.append(asked)
        raise QuorumError("not now")

    real = pool.answer
    pool.answer = only_hears  # type: ignore[method-assign, assignment]
    with pytest.raises(QuorumError):
        serve(pool.grid(nobody), pool.folder)
    pool.answer = real  # type: ignore[method-assign]
    assert earlier.phase == phase - 1
    return seen[0]


def test_words_of_one_round_in_a_task_of_another_are_refused_before_anything_is_paid(
    pool: MaskedPool,
) -> None:
    asked = asked_in(pool, 1, TRAIN)
    with pytest.raises(GuardError, match="of another round than its task") as caught:
        pool.answer(NAMES[0], Round(replace(asked.task, round=2)))
    assert caught.value.code == "sum-refused"
    assert "reserve" not in pool.members[NAMES[0]].kinds()


@pytest.mark.parametrize("phase", [CONSENT, REVEAL])
def test_no_set_of_survivors_counts_in_a_task_of_another_round(
    pool: MaskedPool, phase: int
) -> None:
    """Else the last round's secrets would be erased before it, or not erased after it."""
    asked = asked_in(pool, 2, phase)
    with pytest.raises(GuardError, match="of another round than its task"):
        pool.answer(NAMES[0], Round(replace(asked.task, round=1)))
    assert list((pool.files[NAMES[0]].parent / sum_party.FOLDER).iterdir())
    serve(pool.grid(), pool.folder)


@pytest.mark.parametrize("phase", [CONSENT, REVEAL])
def test_who_has_released_nothing_in_a_round_says_no_more_in_it(
    pool: MaskedPool, phase: int
) -> None:
    """Numbers that were masked and never bound are in no sum."""
    asked = asked_in(pool, 1, TRAIN)
    with pytest.raises(GuardError) as caught:
        pool.answer(NAMES[0], Round(replace(asked.task, phase=phase, said=b"")))
    assert caught.value.code == "round-not-agreed"


def test_a_run_has_one_cohort_also_for_who_does_not_know_its_members(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    run = write_run(tmp_path / "made", masked_body(contract_body, rounds=1))
    with made_pool(tmp_path, run, strangers=NAMES[1:2]) as pool:
        seen = noted(pool)
        with pytest.raises(QuorumError):
            serve(pool.grid(lambda _name, _round, phase: phase == SHARES), pool.folder)
        asked, said = seen[0], pool.mailbox[(1, KEYS), NAMES[0]]
        cohort = CohortKeys.from_bytes(asked.task.said, most=1 << 20)
        others = named({**dict(cohort.keys), NAMES[1]: bytes(31) + b"\1"})
        other = replace(cohort, keys=others).to_bytes()
        with pytest.raises(GuardError, match="another cohort than before"):
            pool.answer(NAMES[0], Round(replace(asked.task, said=other)))
        assert pool.answer(NAMES[0], asked) == said  # and the first is answered again
