"""How masked runs end, and what is left of them: last words, erased secrets, who may speak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body, noted

from presspool.client import enforcement
from presspool.client.agent import assembly
from presspool.client.agent.spool import Spool
from presspool.client.cli.budget_cli import end
from presspool.client.enforcement import RealGate, opened
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.client.sums import sum_party
from presspool.client.sums.sum_party import FOLDER
from presspool.client.witnessing.witness_rule import WitnessRule
from presspool.client.witnessing.witness_watch import WitnessWatch
from presspool.common.base.errors import FolderError, GuardError, InputError, QuorumError
from presspool.common.base.locks import locked
from presspool.common.runs.result_file import read_result
from presspool.common.secagg.secagg_messages import CohortKeys
from presspool.server.rounds.masked_gathering import CONSENT, KEYS, REVEAL, SHARES, TRAIN
from presspool.server.rounds.server_app import serve

ONE = NAMES[0]


@pytest.fixture
def pool(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[MaskedPool]:
    run = write_run(tmp_path / "made", masked_body(contract_body, rounds=1))
    with made_pool(tmp_path, run) as made:
        yield made


def record(pool: MaskedPool, name: str) -> Path:
    """What could open an outlet's part in the run's sum."""
    return home(pool, name) / FOLDER / pool.contract.digest.removeprefix("sha256:")


def last_words(pool: MaskedPool, name: str) -> Path:
    return home(pool, name) / f"1-{REVEAL}.answer"


def home(pool: MaskedPool, name: str) -> Path:
    return pool.files[name].parent


def tasks(pool: MaskedPool, last: int) -> dict[int, Round]:
    """The tasks of a run's phases up to one that only one outlet answers."""
    seen = noted(pool)
    with pytest.raises(QuorumError):
        serve(pool.grid(lambda name, _, asked: asked == last and name != ONE), pool.folder)
    return {asked.phase: asked for asked in seen}


def task(pool: MaskedPool, phase: int) -> Round:
    """A phase's task."""
    return tasks(pool, phase)[phase]


class KilledError(BaseException):
    """The process is gone."""


def dies(*_: object) -> None:
    raise KilledError


@pytest.mark.parametrize("erased", [False, True])
def test_a_kill_around_the_erasing_loses_no_last_words(
    pool: MaskedPool, monkeypatch: pytest.MonkeyPatch, erased: bool
) -> None:
    real = sum_party.forget

    def forget(*where: Any) -> None:
        if erased:
            real(*where)
        dies()

    with monkeypatch.context() as patch:
        patch.setattr(enforcement, "forget", forget)
        with pytest.raises(KilledError):
            serve(pool.grid(), pool.folder)
    (kept,) = [file for name in NAMES if (file := last_words(pool, name)).exists()]
    first = kept.parent.name
    assert record(pool, first).exists() != erased
    said = kept.read_bytes()
    serve(pool.grid(), pool.folder)
    assert pool.mailbox[(1, REVEAL), first] == said
    assert sorted(read_result(pool.folder.path).rounds[1].outlets) == sorted(NAMES)
    assert not any(record(pool, name).exists() for name in NAMES)


def test_last_words_that_cannot_be_kept_erase_nothing(
    pool: MaskedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(pool, REVEAL)
    pool.mailbox.clear()
    monkeypatch.setattr("presspool.client.release.kept_reply.write_secret", dies)
    other = next(name for name in NAMES if name != ONE)
    with pytest.raises(KilledError):
        pool.answer(other, asked)
    assert record(pool, other).exists()


@pytest.mark.parametrize("phase", [TRAIN, CONSENT, REVEAL])
def test_a_second_program_at_a_home_has_no_part_in_its_sums(pool: MaskedPool, phase: int) -> None:
    asked = task(pool, phase)
    other = NAMES[1]
    before = record(pool, other).read_bytes()
    with (
        locked(home(pool, other) / "sums.lock", busy=FolderError("held")),
        pytest.raises(FolderError, match="another program has part"),
    ):
        pool.answer(other, asked)
    assert record(pool, other).read_bytes() == before


def test_numbers_that_are_masked_a_second_time_are_refused_on_record(pool: MaskedPool) -> None:
    asked = task(pool, TRAIN)
    other = NAMES[1]
    with opened(read_settings(pool.files[other]), loopback=True) as gate:
        delta: Any = {name: np.zeros(a.shape, np.int64) for name, a in asked.state.items()}
        gate.seal(asked, delta)
        with pytest.raises(GuardError, match="a second input"):
            gate.seal(asked, {name: a + 1 for name, a in delta.items()})
    assert pool.members[other].kinds()[-1] == "refusal"


class Log:
    """What the witnesses are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def check(self, _contract: str, *, number: int, adapter: str) -> None:
        self.asked.append((f"adapter {number}", adapter))

    def check_keys(self, _contract: str, *, keys: str) -> None:
        self.asked.append(("keys", keys))


def test_keys_are_looked_up_in_the_log_before_masks_and_the_adapter_before_training(
    pool: MaskedPool,
) -> None:
    log, asked = Log(), tasks(pool, TRAIN)
    with opened(read_settings(pool.files[NAMES[1]]), loopback=True) as real:
        gate = replace(cast(RealGate, real), witnesses=cast(WitnessRule, log))
        for phase in (KEYS, SHARES, TRAIN):
            gate.allow(asked[phase])
    cohort = CohortKeys.from_bytes(asked[KEYS].task.said, most=1 << 20)
    assert log.asked == [("keys", cohort.digest), ("adapter 1", asked[TRAIN].base)]


@pytest.fixture
def missed(pool: MaskedPool) -> MaskedPool:
    """A run that ended without one outlet's last words."""
    serve(pool.grid(lambda *asked: asked == (ONE, 1, REVEAL)), pool.folder)
    assert [name for name in NAMES if record(pool, name).exists()] == [ONE]
    return pool


def test_who_ends_a_run_that_is_over_erases_its_secrets(
    missed: MaskedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = home(missed, ONE)
    monkeypatch.setattr(
        "presspool.client.agent.home.contract_of", lambda _home, _run: missed.contract
    )
    monkeypatch.setattr(
        "presspool.client.agent.home.require_ledger", lambda _home: missed.members[ONE].ledger
    )
    monkeypatch.setattr("presspool.client.agent.home.policy_in", lambda _: read_policy_of(missed))
    with pytest.raises(InputError, match="over here"):
        end(missed.contract.digest, home=where)
    assert not record(missed, ONE).exists()


def read_policy_of(pool: MaskedPool) -> Any:
    from presspool.client.consent.policy import read_policy

    return read_policy(pool.members[ONE].policy)


@pytest.mark.parametrize(("last", "erased"), [(0, False), (1, True)])
def test_an_agent_erases_the_secrets_of_runs_that_the_log_says_are_over(
    missed: MaskedPool, last: int, erased: bool
) -> None:
    """Also of one whose last phase it slept through."""
    kept = SimpleNamespace(header=SimpleNamespace(contract=missed.contract.digest))
    spool = SimpleNamespace(
        forget=lambda _: None,
        tasks=lambda: [kept],
        contract=lambda _: missed.contract.canonical(),
    )
    watch = SimpleNamespace(is_over=lambda _: False, last=lambda _: last)
    tidy: Callable[[], None] = assembly._tidy(
        home(missed, ONE), cast(Spool, spool), cast(WitnessWatch, watch)
    )
    tidy()
    assert record(missed, ONE).exists() != erased
