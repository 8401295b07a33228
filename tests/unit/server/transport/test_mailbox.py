"""The desk: what counts as a task's update, what is refused, and what a restart finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select, text
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_pool import (
    RUN,
    made_outlet,
    made_task,
    open_desk,
    signed_update,
    task_body,
    update_header,
)

from presspool.common.base.errors import AdmissionError, PressPoolError, StorageError
from presspool.common.wire.envelope import (
    CHUNK_BYTES,
    EXTRA_BYTES,
    UPDATE_TAG,
    Signed,
    TaskHeader,
    UpdateHeader,
    read_header,
    sign_update,
)
from presspool.server.database import _MIGRATIONS as MIGRATIONS
from presspool.server.database import Database
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.mailbox_rows import chunk_sizes
from presspool.server.transport.mailbox_schema import ReceiptRow, TaskRow, UpdateRow
from presspool.server.transport.upload import BATCH_BYTES

NORTH, SOUTH = "north-post", "south-echo"
OLDER_TAG = UPDATE_TAG.replace("v2", "v1")
BODY = task_body(1)
UPDATE = b"an update's body"
RECEIPTS = select(ReceiptRow)


@pytest.fixture
def desk(database_url: str) -> Iterator[Mailbox]:
    """Each test runs on SQLite and on PostgreSQL."""
    with opened(database_url) as desk:
        yield desk


@contextmanager
def opened(url: str, *, migrate: bool = False) -> Iterator[Mailbox]:
    """As a coordinator does when it starts, or `presspool coordinator migrate` before that."""
    database = Database.open(url, migrate=migrate)
    desk = Mailbox(database)
    desk.sweep()
    yield desk
    database.close()


def hand_out(
    desk: Mailbox, round: int = 1, run: str = RUN, **changes: Any
) -> dict[str, TaskHeader]:
    body = task_body(round)
    tasks = [made_task(name, body, round=round, run=run, **changes) for name in (NORTH, SOUTH)]
    desk.hand_out(tasks, body)
    found = {name: desk.next_task(name) for name in (NORTH, SOUTH)}
    return {name: task[0] for name, task in found.items() if task}


def deliver(desk: Mailbox, signed: Signed, body: bytes = UPDATE, *, outlet: str = NORTH) -> None:
    """As the service does it, in chunks of up to `CHUNK_BYTES`."""
    upload = desk.receive(outlet, made_outlet(outlet).update_key, signed)
    if upload is None:
        return
    try:
        for start in range(0, len(body), CHUNK_BYTES):
            upload.add(body[start : start + CHUNK_BYTES])
        upload.finish()
    finally:
        upload.close()


def refused(desk: Mailbox, signed: Signed, body: bytes = UPDATE, *, outlet: str = NORTH) -> str:
    """The code of a refusal, which must be on record."""
    before = len(desk.refusals())
    with pytest.raises(AdmissionError) as error:
        deliver(desk, signed, body, outlet=outlet)
    (record,) = desk.refusals()[before:]
    assert (record.outlet, record.code) == (outlet, error.value.code)
    return error.value.code


def stored(desk: Mailbox, task: TaskHeader) -> bytes:
    header, body = desk.update(task.task)
    return body.read(header.bytes + 1)


def chunks(desk: Mailbox) -> int:
    with desk._database.reading() as session:
        return int(session.connection().exec_driver_sql("SELECT count(*) FROM chunks").scalar_one())


def test_a_task_is_the_outlet_s_until_its_update_is_there(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    assert tasks[NORTH].outlet == NORTH
    assert b"".join(desk.task_body(tasks[NORTH])) == BODY
    assert desk.answered(t.task for t in tasks.values()) == set()
    deliver(desk, signed_update(tasks[NORTH], UPDATE))
    assert desk.next_task(NORTH) is None
    assert desk.next_task(SOUTH) is not None
    assert desk.answered(t.task for t in tasks.values()) == {tasks[NORTH].task}
    assert stored(desk, tasks[NORTH]) == UPDATE
    assert desk.refusals() == []


def test_an_outlet_without_a_task_gets_none(desk: Mailbox) -> None:
    hand_out(desk)
    assert desk.next_task("west-wind") is None


def test_the_body_of_an_update_lies_in_rows_of_bounded_size(desk: Mailbox) -> None:
    body = bytes(range(256)) * (17 * CHUNK_BYTES // 512)  # 8.5 chunks: more than a batch
    assert len(body) > BATCH_BYTES
    tasks = hand_out(desk, allowance=len(body))
    deliver(desk, signed_update(tasks[NORTH], body), body)
    header, there = desk.update(tasks[NORTH].task)
    with desk._database.reading() as session:
        upload = session.get_one(UpdateRow, tasks[NORTH].task).upload
        sizes = list(chunk_sizes(session, upload))
    assert sizes == [CHUNK_BYTES] * 8 + [CHUNK_BYTES // 2]
    assert header.bytes == len(body)
    assert stored(desk, tasks[NORTH]) == body
    for at in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, len(body) - 3, len(body)):
        there.seek(at)
        assert there.read(CHUNK_BYTES + 2) == body[at : at + CHUNK_BYTES + 2]
        assert there.tell() == min(at + CHUNK_BYTES + 2, len(body))


def test_a_body_that_was_thrown_away_in_the_middle_of_reading_is_an_error(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    deliver(desk, signed_update(tasks[NORTH], UPDATE))
    _, there = desk.update(tasks[NORTH].task)
    desk.finish(RUN)
    with pytest.raises(StorageError, match="gone"):
        there.read(len(UPDATE))


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"run": "run-2"}, "wrong-run"),
        ({"round": 2}, "wrong-round"),
        ({"contract": "sha256:" + "d" * 64}, "wrong-contract"),
        ({"base": "sha256:" + "d" * 64}, "wrong-base"),
        ({"nonce": "d" * 32}, "wrong-nonce"),
        ({"bytes": len(BODY) + EXTRA_BYTES + 1}, "too-large"),
    ],
)
def test_an_update_of_something_else_is_refused_by_its_header(
    desk: Mailbox, changes: dict[str, Any], code: str
) -> None:
    tasks = hand_out(desk)
    assert refused(desk, signed_update(tasks[NORTH], UPDATE, **changes)) == code
    assert desk.next_task(NORTH) is not None


def test_a_copy_of_another_outlet_s_update_is_refused(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    copied = signed_update(tasks[SOUTH], UPDATE)
    assert refused(desk, copied, outlet=NORTH) == "bad-signature"
    forged = update_header(tasks[SOUTH], UPDATE, key=update_header(tasks[NORTH], UPDATE).key)
    mine = sign_update(forged, made_outlet(NORTH).update)
    assert refused(desk, mine, outlet=NORTH) == "wrong-outlet"


def test_a_header_that_is_none_is_refused(desk: Mailbox) -> None:
    hand_out(desk)
    key = made_outlet(NORTH).update
    assert refused(desk, Signed(b"{}", key.sign(UPDATE_TAG, b"{}"))) == "malformed"
    assert refused(desk, Signed(b"{}", key.sign(OLDER_TAG, b"{}"))) == "wrong-version"
    assert refused(desk, Signed(b"{}", bytes(64))) == "bad-signature"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (UPDATE[:-1], "truncated"),
        (b"", "truncated"),
        (b"b" + UPDATE[1:], "wrong-digest"),
        (UPDATE + b"!", "too-large"),
    ],
)
def test_a_body_that_is_not_the_declared_one_is_refused_and_nothing_of_it_stays(
    desk: Mailbox, sent: bytes, code: str
) -> None:
    tasks, before = hand_out(desk), chunks(desk)
    assert refused(desk, signed_update(tasks[NORTH], UPDATE), sent) == code
    assert chunks(desk) == before
    deliver(desk, signed_update(tasks[NORTH], UPDATE))  # the true one is still welcome
    assert stored(desk, tasks[NORTH]) == UPDATE


def test_no_byte_of_an_oversized_body_is_taken(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    header = signed_update(tasks[NORTH], UPDATE, bytes=tasks[NORTH].allowance + 1)
    with pytest.raises(AdmissionError, match="refused"):
        desk.receive(NORTH, made_outlet(NORTH).update_key, header)
    assert desk.refusals()[-1].code == "too-large"


def test_more_than_was_declared_is_refused_at_the_chunk_that_is_too_much(desk: Mailbox) -> None:
    tasks = hand_out(desk, allowance=100 * CHUNK_BYTES)
    header = signed_update(tasks[NORTH], UPDATE, bytes=CHUNK_BYTES)
    upload = desk.receive(NORTH, made_outlet(NORTH).update_key, header)
    assert upload is not None
    upload.add(bytes(CHUNK_BYTES))
    with pytest.raises(AdmissionError):
        upload.add(b"!")


@pytest.mark.parametrize("chunk", [b"", bytes(CHUNK_BYTES + 1)])
def test_a_chunk_of_no_or_too_many_bytes_is_refused(desk: Mailbox, chunk: bytes) -> None:
    tasks = hand_out(desk, allowance=100 * CHUNK_BYTES)
    header = signed_update(tasks[NORTH], UPDATE, bytes=50 * CHUNK_BYTES)
    upload = desk.receive(NORTH, made_outlet(NORTH).update_key, header)
    assert upload is not None
    with pytest.raises(AdmissionError):
        upload.add(chunk)
    assert desk.refusals()[-1].code == "malformed"


# --- Once, and in time --------------------------------------------------------------------------


def test_the_very_same_update_again_is_a_lost_receipt(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    deliver(desk, signed)
    before = chunks(desk)
    deliver(desk, signed)
    desk.close([tasks[NORTH].task])
    deliver(desk, signed)
    assert desk.refusals() == []
    assert chunks(desk) == before


def test_a_second_different_update_is_refused(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    deliver(desk, signed_update(tasks[NORTH], UPDATE))
    other = b"trained again"
    assert refused(desk, signed_update(tasks[NORTH], other), other) == "duplicate"
    assert stored(desk, tasks[NORTH]) == UPDATE


def test_of_two_uploads_at_once_the_first_that_is_whole_counts(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    key, other = made_outlet(NORTH).update_key, b"trained by another agent"
    slow = desk.receive(NORTH, key, signed_update(tasks[NORTH], UPDATE))
    fast = desk.receive(NORTH, key, signed_update(tasks[NORTH], other))
    assert slow is not None
    assert fast is not None
    slow.add(UPDATE)
    fast.add(other)
    fast.finish()
    with pytest.raises(AdmissionError):
        slow.finish()
    assert [record.code for record in desk.refusals()] == ["duplicate"]
    assert stored(desk, tasks[NORTH]) == other


def test_the_same_upload_twice_at_once_is_one_update(desk: Mailbox) -> None:
    tasks, before = hand_out(desk), chunks(desk)
    key, signed = made_outlet(NORTH).update_key, signed_update(tasks[NORTH], UPDATE)
    uploads = [desk.receive(NORTH, key, signed) for _ in range(2)]
    for upload in uploads:
        assert upload is not None
        upload.add(UPDATE)
        upload.finish()
        upload.close()
    assert desk.refusals() == []
    assert chunks(desk) == before + 1


def test_an_update_after_the_phase_is_late_until_the_round_is_handed_out_again(
    desk: Mailbox,
) -> None:
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    desk.close(t.task for t in tasks.values())
    assert desk.next_task(NORTH) is None
    assert refused(desk, signed) == "late"
    assert hand_out(desk) == tasks  # the very same tasks: no new nonce
    deliver(desk, signed)
    assert stored(desk, tasks[NORTH]) == UPDATE


def test_an_update_that_was_begun_in_time_but_ended_after_the_phase_is_late(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    upload = desk.receive(NORTH, made_outlet(NORTH).update_key, signed)
    assert upload is not None
    upload.add(UPDATE)
    desk.close([tasks[NORTH].task])
    with pytest.raises(AdmissionError):
        upload.finish()
    assert desk.refusals()[-1].code == "late"


def test_an_earlier_round_s_update_is_a_replay(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    deliver(desk, signed)
    hand_out(desk, round=2)
    assert refused(desk, signed) == "replayed"
    stale = signed_update(tasks[SOUTH], UPDATE)  # never came in time
    assert refused(desk, stale, outlet=SOUTH) == "late"


def test_the_bodies_of_an_earlier_round_are_thrown_away_and_the_headers_stay(desk: Mailbox) -> None:
    for round in (1, 2, 3):
        tasks = hand_out(desk, round=round)
        for outlet in (NORTH, SOUTH):
            deliver(desk, signed_update(tasks[outlet], UPDATE), outlet=outlet)
        assert chunks(desk) == 3
    assert desk.update(tasks[NORTH].task)[0].round == 3
    desk.finish(RUN)
    assert chunks(desk) == 0
    with desk._database.reading() as session:
        kept = [read_header(UpdateHeader, row.header) for row in session.scalars(RECEIPTS)]
        assert session.scalars(select(UpdateRow)).all() == []
    assert sorted((header.outlet, header.round) for header in kept) == [
        (name, round) for name in (NORTH, SOUTH) for round in (1, 2, 3)
    ]
    deliver(desk, signed_update(tasks[NORTH], UPDATE))  # its receipt was lost
    assert chunks(desk) == 0
    assert desk.refusals() == []


def test_answers_of_a_run_that_was_suspended_are_there_when_it_goes_on(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    deliver(desk, signed_update(tasks[NORTH], UPDATE))
    desk.suspend(RUN)
    assert desk.next_task(SOUTH) is None
    assert refused(desk, signed_update(tasks[SOUTH], UPDATE), outlet=SOUTH) == "late"
    assert hand_out(desk) == {SOUTH: tasks[SOUTH]}
    assert stored(desk, tasks[NORTH]) == UPDATE


def test_an_answer_of_which_only_the_receipt_is_left_is_asked_for_again(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    deliver(desk, signed)
    desk.finish(RUN)
    assert hand_out(desk) == tasks
    other = b"trained again"
    assert refused(desk, signed_update(tasks[NORTH], other), other) == "duplicate"
    deliver(desk, signed)
    assert stored(desk, tasks[NORTH]) == UPDATE


def test_a_round_of_before_that_is_opened_again_takes_its_kept_answers_and_no_others(
    desk: Mailbox,
) -> None:
    """By a run folder older than this database: it knows of none of the later rounds."""
    tasks = hand_out(desk)
    signed = signed_update(tasks[NORTH], UPDATE)
    deliver(desk, signed)
    hand_out(desk, round=2)
    body = task_body(1)
    desk.hand_out([made_task(name, body) for name in (NORTH, SOUTH)], body)
    assert desk.waiting(t.task for t in tasks.values()) == {t.task for t in tasks.values()}
    other = b"trained again"
    assert refused(desk, signed_update(tasks[NORTH], other), other) == "duplicate"
    deliver(desk, signed)
    assert stored(desk, tasks[NORTH]) == UPDATE
    deliver(desk, signed)  # its receipt was lost
    desk.close([tasks[NORTH].task])
    assert refused(desk, signed) == "replayed"


def test_a_body_that_lost_a_part_does_not_become_an_update(desk: Mailbox) -> None:
    body = bytes(BATCH_BYTES + 1)
    tasks = hand_out(desk, allowance=len(body))
    header = signed_update(tasks[NORTH], body)
    upload = desk.receive(NORTH, made_outlet(NORTH).update_key, header)
    assert upload is not None
    for start in range(0, len(body), CHUNK_BYTES):
        upload.add(body[start : start + CHUNK_BYTES])
    desk.sweep()  # by a second coordinator, say
    with pytest.raises(StorageError, match="gone"):
        upload.finish()
    assert desk.answered([tasks[NORTH].task]) == set()
    deliver(desk, header, body)
    assert stored(desk, tasks[NORTH]) == body


def test_runs_do_not_disturb_each_other(desk: Mailbox) -> None:
    hand_out(desk, run="run-a")
    other = made_task(NORTH, BODY, run="run-b")
    desk.hand_out([other], BODY)
    hand_out(desk, round=2, run="run-a")
    desk.finish("run-a")
    found = desk.next_task(NORTH)
    assert found is not None
    assert found[0] == other[0]
    assert b"".join(desk.task_body(found[0])) == BODY


def test_a_round_cannot_be_handed_out_with_another_adapter(desk: Mailbox) -> None:
    tasks = hand_out(desk)
    other = task_body(7)
    with pytest.raises(PressPoolError, match="another adapter"):
        desk.hand_out([made_task(NORTH, other)], other)
    assert desk.next_task(NORTH) is not None
    assert b"".join(desk.task_body(tasks[NORTH])) == BODY


# --- Phases of a round --------------------------------------------------------------------------


def hand_out_phase(desk: Mailbox, phase: int, round: int = 1) -> dict[str, TaskHeader]:
    body = task_body(round, phase=phase)
    tasks = [made_task(name, body, round=round, phase=phase) for name in (NORTH, SOUTH)]
    desk.hand_out(tasks, body)
    found = {name: desk.next_task(name) for name in (NORTH, SOUTH)}
    return {name: task[0] for name, task in found.items() if task}


def test_a_phase_has_tasks_and_a_body_of_its_own(desk: Mailbox) -> None:
    first = hand_out_phase(desk, 1)
    deliver(desk, signed_update(first[NORTH], UPDATE))
    second = hand_out_phase(desk, 2)
    assert {header.phase for header in second.values()} == {2}
    assert first[NORTH].task != second[NORTH].task
    assert b"".join(desk.task_body(second[NORTH])) == task_body(1, phase=2)
    assert desk.phase(RUN, 1) == 2
    assert stored(desk, first[NORTH]) == UPDATE  # the round's last phase may need it
    assert refused(desk, signed_update(first[SOUTH], UPDATE), outlet=SOUTH) == "late"
    assert refused(desk, signed_update(first[NORTH], UPDATE)) == "replayed"
    deliver(desk, signed_update(second[NORTH], UPDATE))
    hand_out_phase(desk, 1, round=2)
    assert chunks(desk) == 1  # the new body; nothing is left of the round before


def test_a_phase_that_was_not_handed_out_is_named(desk: Mailbox) -> None:
    tasks = hand_out_phase(desk, 1)
    task, _ = made_task(NORTH, BODY, phase=2)
    assert refused(desk, signed_update(task, UPDATE, nonce=tasks[NORTH].nonce)) == "wrong-phase"
    task, _ = made_task(NORTH, BODY, round=2)
    assert refused(desk, signed_update(task, UPDATE)) == "wrong-round"


def test_a_phase_that_another_followed_is_not_opened_again(desk: Mailbox) -> None:
    """The later phase was made of the answers that there were; a late one may not change them."""
    first = hand_out_phase(desk, 1)
    deliver(desk, signed_update(first[NORTH], UPDATE))
    second = hand_out_phase(desk, 2)
    assert hand_out_phase(desk, 1) == second  # sent again after a kill: only phase 2 is asked for
    ids = [header.task for header in first.values()]
    assert desk.answered(ids) == {first[NORTH].task}
    assert desk.waiting(ids) == set()
    assert desk.waiting(h.task for h in second.values()) == {h.task for h in second.values()}


def test_tasks_of_before_the_phases_are_phase_one_and_closed(database_url: str) -> None:
    """A run in flight at the upgrade: its open task is closed, and its round handed out anew."""
    migrated(database_url, "0004")
    with create_engine(database_url).begin() as connection:
        connection.execute(
            text(
                "INSERT INTO tasks (id, run, round, outlet, header, signature, body, handed_out, "
                "closed) VALUES (:id, :run, 1, :outlet, :header, :header, :body, 0, false)"
            ),
            {"id": "0" * 32, "run": RUN, "outlet": NORTH, "header": b"{}", "body": "x"},
        )
        connection.execute(
            text("INSERT INTO chunks (owner, number, data) VALUES (:owner, 0, :data)"),
            {"owner": f"{RUN}/1", "data": BODY},
        )
    with opened(database_url, migrate=True) as desk:
        assert desk.next_task(NORTH) is None
        assert (desk.phase(RUN, 1), chunks(desk)) == (1, 0)
        with desk._database.reading() as session:
            assert session.get_one(TaskRow, "0" * 32).header == b"{}"


def test_what_an_older_coordinator_threw_away_is_a_receipt(database_url: str) -> None:
    """A run that had failed: the updates' rows were there, and their bodies were not."""
    migrated(database_url, "0005")
    body = task_body(1)
    made = {name: made_task(name, body) for name in (NORTH, SOUTH)}
    answers = {name: signed_update(made[name][0], UPDATE) for name in made}
    with create_engine(database_url).begin() as connection:
        for name, (header, signed) in made.items():
            task = {"id": header.task, "outlet": name, "body": header.body}
            connection.execute(
                text(
                    "INSERT INTO tasks (id, run, round, phase, outlet, header, signature, body, "
                    "handed_out, closed) VALUES (:id, 'run-1', 1, 1, :outlet, :header, :signature, "
                    ":body, 0, true)"
                ),
                task | {"header": signed.body, "signature": signed.signature},
            )
            connection.execute(
                text(
                    "INSERT INTO updates (task, header, signature, upload, received) "
                    "VALUES (:id, :header, :signature, :outlet, 0)"
                ),
                task | {"header": answers[name].body, "signature": answers[name].signature},
            )
        connection.execute(
            text("INSERT INTO chunks (owner, number, data) VALUES (:owner, 0, :data)"),
            {"owner": SOUTH, "data": UPDATE},
        )
    with opened(database_url, migrate=True) as desk:
        assert hand_out(desk) == {NORTH: made[NORTH][0]}
        assert stored(desk, made[SOUTH][0]) == UPDATE
        deliver(desk, answers[NORTH])
        assert stored(desk, made[NORTH][0]) == UPDATE


def migrated(url: str, revision: str) -> None:
    """A database as an older coordinator left it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


# --- Restarts and disks -------------------------------------------------------------------------


def test_a_restarted_coordinator_finds_tasks_and_updates_and_drops_what_was_staged(
    desk: Mailbox, database_url: str
) -> None:
    body = bytes(BATCH_BYTES + CHUNK_BYTES)
    tasks = hand_out(desk, allowance=len(body))
    deliver(desk, signed_update(tasks[NORTH], UPDATE))
    whole = chunks(desk)
    cut = signed_update(tasks[SOUTH], body)
    upload = desk.receive(SOUTH, made_outlet(SOUTH).update_key, cut)
    assert upload is not None
    for _ in range(BATCH_BYTES // CHUNK_BYTES):
        upload.add(bytes(CHUNK_BYTES))
    assert chunks(desk) == whole + BATCH_BYTES // CHUNK_BYTES  # staged; then the process is killed
    with opened(database_url) as again:
        assert chunks(again) == whole
        assert hand_out(again) == {SOUTH: tasks[SOUTH]}
        assert stored(again, tasks[NORTH]) == UPDATE
        deliver(again, cut, body, outlet=SOUTH)
        assert stored(again, tasks[SOUTH]) == body


def test_a_full_disk_refuses_the_update_and_keeps_what_was_there(tmp_path: Path) -> None:
    body = bytes(2 * CHUNK_BYTES)
    desk = open_desk(tmp_path)
    tasks = hand_out(desk, allowance=len(body))
    signed = signed_update(tasks[NORTH], body)
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    with full_disk(room=largest + 64 * 1024), pytest.raises(StorageError):
        deliver(desk, signed, body)
    assert desk.answered([tasks[NORTH].task]) == set()
    deliver(desk, signed, body)  # there is room again
    assert stored(desk, tasks[NORTH]) == body
