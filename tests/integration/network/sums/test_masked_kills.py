"""Kills at any moment of a masked run, on both sides: nothing is under-counted or said twice.

An outlet is killed before or after each of the acts that make something durable or let something
out; then its agent asks again, from what is on disk. A coordinator is killed between two answers;
then it sends its tasks again. All that is in memory is lost, but for the app's cached model.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import MaskedPool, MemberGrid, made_pool, masked_body, nobody

from presspool.client.consent.budget import Budget
from presspool.client.consent.meter import Meter
from presspool.client.release import kept_reply
from presspool.client.round import Round
from presspool.client.sums import sum_party
from presspool.common.base.errors import QuorumError
from presspool.common.ledger.entries import ReleaseIntent
from presspool.common.runs.result_file import read_result
from presspool.common.secagg.secagg_outlet import SecaggOutlet
from presspool.common.wire.envelope import body_digest
from presspool.server.rounds.masked_gathering import TRAIN
from presspool.server.rounds.server_app import serve

ACTS: tuple[tuple[Any, str], ...] = (
    (sum_party, "write_secret"),
    (kept_reply, "write_secret"),
    (Meter, "bind"),
    (Budget, "check"),
    (SecaggOutlet, "share"),
    (SecaggOutlet, "mask"),
    (SecaggOutlet, "consent"),
    (SecaggOutlet, "reveal"),
)


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Kills at acts that it draws, and counts."""

    def __init__(self, draw: random.Random, chance: float) -> None:
        self.draw, self.chance, self.on = draw, chance, False
        self.kills: Counter[str] = Counter()

    def strike(self, where: str) -> None:
        if self.on and self.draw.random() < self.chance:
            self.kills[where] += 1
            raise Killed

    def around(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def act(*args: Any, **more: Any) -> Any:
            self.strike(f"before {name}")
            done = real(*args, **more)
            self.strike(f"after {name}")
            return done

        return act


class KilledGrid(MemberGrid):
    """A coordinator that is killed between answers; what came before lies in its mailbox."""

    def __init__(self, pool: MaskedPool, killer: Killer) -> None:
        super().__init__(pool, nobody)
        self._killer = killer

    def _answer(self, name: str, asked: Round, message: Message) -> Message | None:
        self._killer.on = True
        try:
            self._killer.strike("coordinator")
            return super()._answer(name, asked, message)
        finally:
            self._killer.on = False


@pytest.fixture
def pools(tmp_path: Path, contract_body: dict[str, Any]) -> Iterable[MaskedPool]:
    """New pools of the same run, one after the other."""
    body = masked_body(contract_body, rounds=2)
    run = write_run(tmp_path / "made", body)

    def made() -> Iterator[MaskedPool]:
        for number in range(1000):
            folder = tmp_path / str(number)
            folder.mkdir()
            with made_pool(folder, run) as pool:
                yield pool

    return made()


def test_whoever_is_killed_when_says_everything_once_and_pays_for_it(
    pools: Iterable[MaskedPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_runs(pools, monkeypatch, kills=40)


@pytest.mark.soak
def test_two_hundred_kills(pools: Iterable[MaskedPool], monkeypatch: pytest.MonkeyPatch) -> None:
    killed_runs(pools, monkeypatch, kills=200)


def killed_runs(
    pools: Iterable[MaskedPool], monkeypatch: pytest.MonkeyPatch, *, kills: int
) -> None:
    killer = Killer(random.Random(kills), chance=0.04)
    for place, name in ACTS:
        monkeypatch.setattr(place, name, killer.around(getattr(place, name), name))
    complete = 0
    for pool in pools:
        complete += one_run(pool, killer)
        if killer.kills.total() >= kills:
            break
    assert complete > 0
    assert len(killer.kills) > len(ACTS)  # everywhere, about


def one_run(pool: MaskedPool, killer: Killer) -> bool:
    """A run that is killed and goes on; whether it was brought to its end."""
    said: dict[tuple[str, int, int], set[bytes]] = defaultdict(set)
    training: dict[int, set[str]] = defaultdict(set)  # round to who was killed while it trained
    real = pool.answer

    def answer(name: str, asked: Round) -> bytes:
        while True:
            try:
                data = real(name, asked)
            except Killed:
                training[asked.number] |= {name} if asked.phase == TRAIN else set()
                continue  # its agent asks again
            said[name, asked.number, asked.phase].add(data)
            return data

    pool.answer = answer  # type: ignore[method-assign]
    while True:
        try:
            serve(KilledGrid(pool, killer), pool.folder)
            break
        except Killed:
            continue
        except QuorumError:
            # Between masking and binding a kill costs the round, and one outlet may miss it.
            assert max(map(len, training.values()), default=0) >= 2
            check(pool, said)
            return False
    check(pool, said)
    assert read_result(pool.folder.path).status == "complete"
    return True


def check(pool: MaskedPool, said: dict[tuple[str, int, int], set[bytes]]) -> None:
    """One answer to a phase; each one that trained is bound, by its digest, in a paid run."""
    assert all(len(answers) == 1 for answers in said.values())
    for name, outlet in pool.members.items():
        entries = outlet.entries()
        bound = {e.round: e.digest for e in entries if isinstance(e, ReleaseIntent)}
        for (who, number, phase), answers in said.items():
            if (who, phase) == (name, TRAIN):
                assert {body_digest(data) for data in answers} == {bound[number]}
        assert outlet.kinds().count("reserve") <= 1
        assert not bound or "reserve" in outlet.kinds()
