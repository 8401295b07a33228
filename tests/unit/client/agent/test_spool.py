"""The spool: what a kill leaves is whole, one agent works in it, and replies never change."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import rfc8785
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_pool import made_task, signed_update, task_body

from presspool.client.agent.spool import Spool
from presspool.client.agent.spool_files import SpooledTask
from presspool.common.base.errors import FolderError, LinkError, StorageError
from presspool.common.wire.envelope import HEADER_BYTES

BODY = task_body(1)


def a_task(round: int = 1, run: str = "run-1") -> tuple[SpooledTask, bytes]:
    body = task_body(round)
    return SpooledTask(*made_task("north-post", body, round=round, run=run)), body


def accept(spool: Spool, round: int = 1, run: str = "run-1") -> SpooledTask:
    task, body = a_task(round, run)
    spool.accept(task, [body[:100], body[100:]])
    return task


def sealed(spool: Spool, task: SpooledTask, body: bytes = b"reply") -> bytes:
    spool.seal(task, signed_update(task.header, body), body)
    signed, parts = spool.reply(task)
    return signed.body + signed.signature + b"".join(parts)


def names(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir()} - {""}


def test_a_task_is_unfinished_then_undelivered_then_neither(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "work") as spool:
        task = accept(spool)
        assert (spool.unfinished(), spool.undelivered()) == (task, None)
        assert spool.body(task) == BODY
        sealed(spool, task)
        assert (spool.unfinished(), spool.undelivered()) == (None, task)
        spool.finish(task)
        assert (spool.unfinished(), spool.undelivered()) == (None, None)
        spool.want_again(task)
        assert spool.undelivered() == task


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        task = accept(spool)
    with Spool.open(tmp_path) as spool:
        assert spool.unfinished() == task
        assert spool.body(task) == BODY
        before = sealed(spool, task)
    with Spool.open(tmp_path) as spool:
        signed, parts = spool.reply(task)
        assert signed.body + signed.signature + b"".join(parts) == before


def test_the_newest_task_of_a_run_is_that_of_its_newest_phase(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        for phase in (1, 2):
            body = task_body(1, phase=phase)
            task = SpooledTask(*made_task("north-post", body, phase=phase))
            spool.accept(task, [body])
            assert spool.tasks() == [task]
            sealed(spool, task)
        assert spool.undelivered() == task


def test_work_of_an_older_version_is_thrown_away_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool.open(tmp_path) as spool:
        old, other = accept(spool), accept(spool, run="run-2")
        sealed(spool, old)
    path = tmp_path / f"{old.header.task}.task"
    header = {name: value for name, value in asdict(old.header).items() if name != "phase"}
    said = rfc8785.dumps(header)
    path.write_bytes(len(said).to_bytes(4, "big") + said + old.signed.signature + BODY)
    with caplog.at_level(logging.WARNING), Spool.open(tmp_path) as spool:
        assert spool.tasks() == [other]
    assert "older version" in caplog.text
    assert not list(tmp_path.glob(f"{old.header.task}.*"))


def test_a_newer_task_replaces_the_run_s_older_one_and_no_other_run_s(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        old, other = accept(spool), accept(spool, run="run-2")
        sealed(spool, old)
        spool.finish(old)
        new = accept(spool, round=2)
        assert spool.newest("run-1") == new
        assert spool.newest("run-2") == other
        assert spool.newest("run-3") is None
        assert len(list(tmp_path.glob("*.task"))) == 2
        assert not list(tmp_path.glob("*.reply"))
        assert not list(tmp_path.glob("*.done"))


def test_of_two_tasks_of_a_run_that_a_kill_left_the_newer_counts(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        for round in (3, 2, 4, 1):
            task, body = a_task(round)
            with Spool.open(tmp_path / f"{round}") as aside:
                aside.accept(task, [body])
            (tmp_path / f"{round}" / f"{task.header.task}.task").rename(
                tmp_path / f"{task.header.task}.task"
            )
        newest = spool.newest("run-1")
        assert newest is not None
        assert newest.header.round == 4
    with Spool.open(tmp_path) as spool:
        assert len(list(tmp_path.glob("*.task"))) == 1
        assert spool.tasks() == [newest]


@pytest.mark.parametrize(
    "parts", [[BODY[:-1]], [BODY, b"!"], [b"x" + BODY[1:]], [], [BODY, bytes(2**20), bytes(2**20)]]
)
def test_a_body_that_is_not_the_header_s_is_not_accepted(
    tmp_path: Path, parts: list[bytes]
) -> None:
    task, _ = a_task()
    with Spool.open(tmp_path) as spool:
        with pytest.raises(LinkError, match="did not arrive whole"):
            spool.accept(task, parts)
        assert spool.unfinished() is None
        assert names(tmp_path) == set()


def test_a_link_that_breaks_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> object:
        yield BODY[:100]
        raise LinkError("cut")

    task, _ = a_task()
    with Spool.open(tmp_path) as spool:
        with pytest.raises(LinkError, match="cut"):
            spool.accept(task, breaking())  # type: ignore[arg-type]
        assert names(tmp_path) == set()


def test_a_second_agent_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with (
        Spool.open(tmp_path),
        pytest.raises(FolderError, match="another agent"),
        Spool.open(tmp_path),
    ):
        pass
    with Spool.open(tmp_path) as spool:
        assert spool.tasks() == []


def test_half_written_files_of_a_killed_agent_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".0123.task.tmp").write_bytes(b"half")
    with Spool.open(tmp_path) as spool:
        assert spool.tasks() == []
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "content", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x02{}" + bytes(64)]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{'0' * 32}.task").write_bytes(content)
    with pytest.raises(FolderError, match=r"0\.task: damaged"), Spool.open(tmp_path):
        pass


def test_a_full_disk_while_sealing_leaves_the_task_unfinished(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        task = accept(spool)
        with full_disk(room=100), pytest.raises(StorageError):
            sealed(spool, task)
        assert spool.unfinished() == task
        sealed(spool, task)
        assert spool.undelivered() == task


def test_room_is_kept_for_answers_that_are_still_to_come(tmp_path: Path) -> None:
    (first, _), (other, body) = a_task(), a_task(run="run-2")
    answer = 2 * first.header.allowance  # in two copies
    room = HEADER_BYTES + first.header.bytes + answer + answer
    with Spool.open(tmp_path, room=room) as spool:
        accept(spool)
        with pytest.raises(StorageError, match="no room for another task"):
            spool.accept(other, [body])
        newer = accept(spool, round=2)  # in its place, with its room
        sealed(spool, newer)
        spool.accept(other, [body])
        assert spool.tasks() == [other, newer]


def test_an_answer_that_the_app_keeps_goes_when_it_is_sealed_or_replaced(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        for round in (1, 2, 3):
            task = accept(spool, round=round)
            spool.answer(task.header.task).write_bytes(b"paid for")
            if round == 2:
                sealed(spool, task)
                assert not list(tmp_path.glob("*.answer"))
        assert [path.stem for path in tmp_path.glob("*.answer")] == [task.header.task]
    with Spool.open(tmp_path) as spool:  # and survives a restart
        assert spool.answer(task.header.task).read_bytes() == b"paid for"
