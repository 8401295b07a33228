"""Members that change or go while a masked run goes on, and a coordinator that restarts after it.

The coordinator's real mailbox and Grid; members' real gates answer what lies in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_pool import (
    CONTRACT_KEY,
    RUN,
    made_outlet,
    meanwhile,
    open_desk,
    signed_update,
)
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, MaskedPool, made_pool, masked_body

from presspool.client.round import Round
from presspool.common.base.errors import AdmissionError, QuorumError
from presspool.common.runs.result_file import read_result
from presspool.common.wire.envelope import TaskHeader
from presspool.common.wire.flower import from_bytes
from presspool.server.rounds import round_checkpoint
from presspool.server.rounds.masked_gathering import CONSENT, KEYS, REVEAL, SHARES, TRAIN
from presspool.server.rounds.server_app import serve
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.mailbox import Mailbox

GONE = NAMES[1]


@pytest.fixture
def pool(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[MaskedPool]:
    run = write_run(tmp_path / "made", masked_body(contract_body, rounds=1))
    with made_pool(tmp_path, run) as made:
        yield made


class KilledError(BaseException):
    """The coordinator is gone."""


class Desk:
    """A coordinator's mailbox, and members who answer what lies in it."""

    def __init__(self, pool: MaskedPool, folder: Path) -> None:
        self.pool, self.box = pool, open_desk(folder)
        self.dropped, self.members = set[str](), set(NAMES)

    def grid(self, grid: type[GrpcGrid] = GrpcGrid) -> GrpcGrid:
        return grid(
            self.box,
            run=RUN,
            key=CONTRACT_KEY,
            outlets=NAMES,
            members=lambda: self.members,
            keys=lambda: self.pool.keys,
            dropped=lambda: self.dropped,
            phase=60.0,
        )

    def answering(self) -> AbstractContextManager[None]:
        def step() -> None:
            for name in NAMES:
                self._answer(name)

        return meanwhile(step)

    def _answer(self, name: str) -> None:
        found = self.box.next_task(name)
        if found is None or name not in self.members:
            return
        header, _ = found
        asked = Round.of(from_bytes(b"".join(self.box.task_body(header))))
        body = self.pool.answer(name, asked)
        try:
            self._send(name, header, body)
        except AdmissionError as error:
            if (name, error.code) != (GONE, "late"):  # nobody waits for one that is gone
                raise

    def _send(self, name: str, header: TaskHeader, body: bytes) -> None:
        update = signed_update(header, body)
        upload = self.box.receive(name, made_outlet(name).update_key, update)
        assert upload is not None
        upload.add(body)
        upload.finish()


@pytest.fixture
def desk(pool: MaskedPool, tmp_path: Path) -> Desk:
    return Desk(pool, tmp_path)


def killed_in(phase: int) -> type[GrpcGrid]:
    """A coordinator that is killed when it has handed a phase out."""

    class Killed(GrpcGrid):
        def _wait(self, tasks: Any, seconds: float) -> None:
            if self._place[1] == phase:
                raise KilledError
            super()._wait(tasks, seconds)

    return Killed


def taken_by(box: Mailbox, phase: int) -> set[str]:
    return box.asked(RUN, 1, phase)


@pytest.mark.parametrize("way", ["dropped", "revoked"])
@pytest.mark.parametrize("phase", [TRAIN, CONSENT, REVEAL])
def test_what_was_handed_out_stays_true_when_a_member_goes_and_the_coordinator_restarts(
    desk: Desk, phase: int, way: str
) -> None:
    with desk.answering(), pytest.raises(KilledError):
        serve(desk.grid(killed_in(phase)), desk.pool.folder)
    assert GONE in taken_by(desk.box, phase)
    if way == "dropped":
        desk.dropped.add(GONE)
        desk.box.leave_out(RUN, GONE)
    else:
        desk.members.discard(GONE)
    with desk.answering():
        serve(desk.grid(), desk.pool.folder)
    done = read_result(desk.pool.folder.path).rounds[1]
    in_sum = phase > TRAIN
    assert sorted(done.outlets) == [name for name in NAMES if in_sum or name != GONE]
    for later in range(phase + 1, REVEAL + 1):
        assert GONE not in taken_by(desk.box, later)


def test_a_member_that_left_before_a_phase_is_not_asked_in_it(desk: Desk) -> None:
    with desk.answering(), pytest.raises(KilledError):
        serve(desk.grid(killed_in(SHARES)), desk.pool.folder)
    desk.dropped.add(GONE)
    desk.box.leave_out(RUN, GONE)
    assert desk.box.next_task(GONE) is None
    with desk.answering():
        serve(desk.grid(), desk.pool.folder)
    assert GONE not in taken_by(desk.box, TRAIN)
    assert sorted(read_result(desk.pool.folder.path).rounds[1].outlets) == sorted(
        set(NAMES) - {GONE}
    )


def test_a_run_s_cohort_is_that_of_its_start_whoever_has_another_key_later(desk: Desk) -> None:
    with desk.answering(), pytest.raises(KilledError):
        serve(desk.grid(killed_in(KEYS)), desk.pool.folder)
    before = round_checkpoint.load(desk.pool.folder.checkpoint, digest=desk.pool.contract.digest)
    desk.pool.keys = {**desk.pool.keys, GONE: bytes(31) + b"\1"}
    with desk.answering():
        serve(desk.grid(), desk.pool.folder)
    after = round_checkpoint.load(desk.pool.folder.checkpoint, digest=desk.pool.contract.digest)
    assert before is not None
    assert after is not None
    assert after.kept.startswith(before.kept)
    assert sorted(read_result(desk.pool.folder.path).rounds[1].outlets) == sorted(NAMES)


def test_a_run_begins_with_all_of_its_outlets_and_writes_down_who_they_are(desk: Desk) -> None:
    told: list[tuple[int, str | None]] = []
    every = dict(desk.pool.keys)
    del desk.pool.keys[GONE]
    with pytest.raises(QuorumError, match=f"without {GONE}"):
        serve(desk.grid(), desk.pool.folder)
    desk.pool.keys = every
    with desk.answering():
        serve(
            desk.grid(),
            desk.pool.folder,
            committed=lambda number, _digest, _outlets, keys: told.append((number, keys)),
        )
    assert [number for number, _ in told] == [0, 1]
    assert told[0][1] is not None
    assert told[0][1].startswith("sha256:")
    assert told[1][1] is None


def goes_at(desk: Desk, phase: int, way: str) -> type[GrpcGrid]:
    """A coordinator from which a member goes while a phase is made, and that is then killed."""

    class Going(killed_in(phase)):  # type: ignore[misc]
        def get_node_ids(self) -> Any:
            if self._place[1] == phase - 1:
                go(desk, way)
            return super().get_node_ids()

    return Going


def go(desk: Desk, way: str) -> None:
    if way == "dropped":
        desk.dropped.add(GONE)
        desk.box.leave_out(RUN, GONE)
    else:
        desk.members.discard(GONE)


@pytest.mark.parametrize("way", ["dropped", "revoked"])
@pytest.mark.parametrize("phase", [SHARES, TRAIN, CONSENT, REVEAL])
def test_a_member_that_goes_while_a_phase_is_made_of_its_answer_is_a_part_of_it(
    desk: Desk, phase: int, way: str
) -> None:
    """Else the phase would be made anew without it after a restart, and be another one."""
    with desk.answering(), pytest.raises(KilledError):
        serve(desk.grid(goes_at(desk, phase, way)), desk.pool.folder)
    assert GONE in desk.dropped or GONE not in desk.members
    with desk.answering():
        serve(desk.grid(), desk.pool.folder)
    assert read_result(desk.pool.folder.path).status == "complete"


@pytest.mark.parametrize("phase", [TRAIN, CONSENT, REVEAL])
def test_an_answer_that_a_phase_was_not_made_of_does_not_count_when_its_member_is_back(
    desk: Desk, phase: int
) -> None:
    """It answered and was revoked, and was admitted again before the coordinator restarted."""

    class Revoked(killed_in(phase)):  # type: ignore[misc]
        def _wait(self, tasks: Any, seconds: float) -> None:
            super()._wait(tasks, seconds)
            if self._place[1] == phase - 1:
                desk.members.discard(GONE)

    with desk.answering(), pytest.raises(KilledError):
        serve(desk.grid(Revoked), desk.pool.folder)
    assert GONE not in taken_by(desk.box, phase)
    desk.members.add(GONE)
    with desk.answering():
        serve(desk.grid(), desk.pool.folder)
    assert read_result(desk.pool.folder.path).status == "complete"
    assert GONE not in taken_by(desk.box, phase)
