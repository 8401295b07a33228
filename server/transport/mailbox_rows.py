"""What the mailbox asks of its tables, and writes to them, within the transactions of its methods.

Invariants:
    * Whether an update may count is decided by `judge` alone, with what is there then.
    * An update's row and its body come in `keep` and go in `forget`, each in one transaction; what
      stays is a receipt, which is no answer: the outlet may be asked for its kept bytes again.

Example: `with database.reading() as session: judge(session, "north-post", header, signed)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from presspool.common.base.errors import (
    AdmissionError,
    EvidenceError,
    PressPoolError,
    StorageError,
)
from presspool.common.wire.envelope import (
    CHUNK_BYTES,
    Signed,
    TaskHeader,
    UpdateHeader,
    open_update,
    read_header,
)
from presspool.server.transport.mailbox_schema import ChunkRow, ReceiptRow, TaskRow, UpdateRow

Place = tuple[int, int]  # round and phase


def body_owner(run: str, place: Place) -> str:
    """The owner of the chunks of the body that all tasks of a phase share."""
    return f"{run}/{place[0]}/{place[1]}"


def opened(signed: Signed, update_key: bytes) -> UpdateHeader:
    """The header of an update, as `open_update`, with a code where it is none."""
    try:
        return open_update(signed, update_key)
    except EvidenceError as error:
        codes = {"signature": "bad-signature", "header: version": "wrong-version"}
        raise AdmissionError(codes.get(error.where, "malformed"), "refused") from None


def judge(session: Session, outlet: str, header: UpdateHeader, signed: Signed) -> bool:
    """Whether this very update is there already; False means that its task waits for it.

    Raises:
        AdmissionError: neither.
    """
    if code := _misplaced(session, outlet, header):
        raise AdmissionError(code, "refused", where=outlet)
    row = session.get_one(TaskRow, header.task)
    there = session.get(UpdateRow, header.task)
    known = there or session.get(ReceiptRow, header.task)
    if known is not None and known.header != signed.body:
        raise AdmissionError("duplicate", "there is another update", where=outlet)
    # One that is open again, of a run folder older than this database, is asked for like any other.
    if known is not None and row.closed and (row.round, row.phase) < last_place(session, row.run):
        raise AdmissionError("replayed", "of an earlier phase", where=outlet)
    if there is not None or (known is not None and row.closed):
        return True  # its receipt was lost
    if row.closed:
        raise AdmissionError("late", "the phase is over", where=outlet)
    return False


def _misplaced(session: Session, outlet: str, header: UpdateHeader) -> str | None:
    """The first thing in which the header is not of the caller's task."""
    if header.outlet != outlet:
        return "wrong-outlet"
    row = session.get(TaskRow, header.task)
    if row is None:
        return _unknown_place(session, header)
    task = read_header(TaskHeader, row.header)
    for field in ("contract", "base", "nonce"):
        if getattr(header, field) != getattr(task, field):
            return f"wrong-{field}"
    return "too-large" if header.bytes > task.allowance else None


def _unknown_place(session: Session, header: UpdateHeader) -> str:
    """What is wrong with a header that names no task."""
    asked = select(TaskRow.round).where(TaskRow.run == header.run).limit(1)
    of_round = asked.where(TaskRow.round == header.round, TaskRow.outlet == header.outlet)
    if session.scalar(of_round):
        return "wrong-phase"
    return "wrong-round" if session.scalar(asked) else "wrong-run"


def last_place(session: Session, run: str) -> Place:
    """The newest round of a run and its newest phase; zeros where there is none."""
    places = select(TaskRow.round, TaskRow.phase).where(TaskRow.run == run)
    newest = places.order_by(TaskRow.round.desc(), TaskRow.phase.desc()).limit(1)
    return (0, 0) if (row := session.execute(newest).first()) is None else (row.round, row.phase)


def last_phase(session: Session, run: str, round: int) -> int:
    """The newest phase of a round, or 0 where there is none."""
    wanted = select(func.max(TaskRow.phase)).where(TaskRow.run == run, TaskRow.round == round)
    return session.scalar(wanted) or 0


def before(place: Place) -> ColumnElement[bool]:
    """Whether a task of a query is of an earlier round, or an earlier phase of the round."""
    earlier = (TaskRow.round == place[0]) & (TaskRow.phase < place[1])
    return (TaskRow.round < place[0]) | earlier


def has_update() -> ColumnElement[bool]:
    """Whether a task of a query has an update."""
    return exists().where(UpdateRow.task == TaskRow.id)


def next_row(session: Session, outlet: str, put_off: Sequence[str]) -> TaskRow | None:
    """The outlet's oldest open task; those that it put off come last, in their order."""
    wanted = select(TaskRow).where(
        TaskRow.outlet == outlet, TaskRow.closed.is_(False), ~has_update()
    )
    others = wanted.where(TaskRow.id.not_in(put_off))
    oldest = others.order_by(TaskRow.handed_out, TaskRow.round, TaskRow.phase).limit(1)
    if (row := session.scalar(oldest)) is not None or not put_off:
        return row
    open_ = {row.id: row for row in session.scalars(wanted.where(TaskRow.id.in_(put_off)))}
    return next((open_[task] for task in put_off if task in open_), None)


def require_same_body(session: Session, tasks: Sequence[tuple[TaskHeader, Signed]]) -> None:
    """All tasks of a phase share a body; raises `PressPoolError` where one does not."""
    header = tasks[0][0]
    wanted = select(TaskRow.body).where(
        TaskRow.run == header.run, TaskRow.round == header.round, TaskRow.phase == header.phase
    )
    found = set(session.scalars(wanted)) | {header.body for header, _ in tasks}
    if len(found) > 1:
        raise PressPoolError(
            f"round {header.round} was handed out with another adapter",
            where=f"run {header.run}, phase {header.phase}",
            expected="one body for all tasks of a phase",
            got=", ".join(sorted(found)),
            advice="continue the run from the checkpoint that it stopped at",
        )


def close_before(session: Session, run: str, place: Place) -> None:
    """Close the tasks of earlier rounds and phases."""
    old = (TaskRow.run == run, before(place), TaskRow.closed.is_(False))
    session.execute(update(TaskRow).where(*old).values(closed=True))


def forget(session: Session, run: str, round: int) -> None:
    """Drop the bodies of a round that is over; its last phase may have needed them all."""
    old = (TaskRow.run == run, TaskRow.round == round)
    for row in session.scalars(select(UpdateRow).join(TaskRow).where(*old)).all():
        session.execute(delete(ChunkRow).where(ChunkRow.owner == row.upload))
        session.add(
            ReceiptRow(
                task=row.task, header=row.header, signature=row.signature, received=row.received
            )
        )
        session.delete(row)
    phases = session.scalars(select(TaskRow.phase).where(*old).distinct()).all()
    bodies = [body_owner(run, (round, phase)) for phase in phases]
    session.execute(delete(ChunkRow).where(ChunkRow.owner.in_(bodies)))


def store(session: Session, owner: str, body: bytes) -> None:
    """Write a body's chunks one by one, unless they are there."""
    if session.get(ChunkRow, (owner, 0)) is None:
        for number, start in enumerate(range(0, len(body), CHUNK_BYTES)):
            add_chunks(session, owner, {number: body[start : start + CHUNK_BYTES]})


def add_chunks(session: Session, owner: str, chunks: Mapping[int, bytes]) -> None:
    """Write chunks by their numbers."""
    rows = [{"owner": owner, "number": number, "data": data} for number, data in chunks.items()]
    if rows:
        session.execute(insert(ChunkRow), rows)


def chunk_sizes(session: Session, owner: str) -> Sequence[int]:
    """Bytes of each of a body's chunks, in their order; the chunks are not read for it."""
    wanted = select(func.length(ChunkRow.data)).where(ChunkRow.owner == owner)
    return session.scalars(wanted.order_by(ChunkRow.number)).all()


def task_row(header: TaskHeader, signed: Signed, *, at: float) -> TaskRow:
    """A new task, open."""
    return TaskRow(
        id=header.task,
        run=header.run,
        round=header.round,
        phase=header.phase,
        outlet=header.outlet,
        header=signed.body,
        signature=signed.signature,
        body=header.body,
        handed_out=at,
        closed=False,
    )


def keep(session: Session, header: UpdateHeader, signed: Signed, upload: str, at: float) -> None:
    """Make an update of the chunks of an upload, if they are all there.

    Raises:
        StorageError: they are not; the outlet sends them again.
    """
    if (size := sum(chunk_sizes(session, upload))) != header.bytes:
        raise StorageError(
            "a part of an update is gone",
            where=f"task {header.task}",
            expected=f"{header.bytes} bytes",
            got=size,
        )
    session.execute(delete(ReceiptRow).where(ReceiptRow.task == header.task))
    session.add(
        UpdateRow(
            task=header.task,
            header=signed.body,
            signature=signed.signature,
            upload=upload,
            received=at,
        )
    )
