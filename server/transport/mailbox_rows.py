"""What the desk asks of its tables, and writes to them, within the transactions of its methods.

Invariant: whether an update may count is decided by `judge` alone, with what is there then.

Example: `with database.reading() as session: judge(session, "north-post", header, signed)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from presspool.common.base.errors import AdmissionError, EvidenceError, PressPoolError
from presspool.common.wire.envelope import (
    CHUNK_BYTES,
    Signed,
    TaskHeader,
    UpdateHeader,
    open_update,
    read_header,
)
from presspool.server.transport.mailbox_schema import ChunkRow, TaskRow, UpdateRow


def body_owner(run: str, round: int) -> str:
    """The owner of the chunks of the body that all tasks of a round share."""
    return f"{run}/{round}"


def opened(signed: Signed, update_key: bytes) -> UpdateHeader:
    """The header of an update, as `open_update`, with a code where it is none."""
    try:
        return open_update(signed, update_key)
    except EvidenceError as error:
        code = "bad-signature" if error.where == "signature" else "malformed"
        raise AdmissionError(code, "refused") from None


def judge(session: Session, outlet: str, header: UpdateHeader, signed: Signed) -> bool:
    """Whether this very update is there already; False means that its task waits for it.

    Raises:
        AdmissionError: neither.
    """
    if code := _misplaced(session, outlet, header):
        raise AdmissionError(code, "refused", where=outlet)
    row = session.get_one(TaskRow, header.task)
    there = session.get(UpdateRow, header.task)
    if there is not None and there.header != signed.body:
        raise AdmissionError("duplicate", "there is another update", where=outlet)
    if there is not None and row.round < last_round(session, row.run):
        raise AdmissionError("replayed", "of an earlier round", where=outlet)
    if there is not None:
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
        return "wrong-round" if last_round(session, header.run) else "wrong-run"
    task = read_header(TaskHeader, row.header)
    for field in ("contract", "base", "nonce"):
        if getattr(header, field) != getattr(task, field):
            return f"wrong-{field}"
    return "too-large" if header.bytes > task.allowance else None


def last_round(session: Session, run: str) -> int:
    """The newest round of a run, or 0 where there is none."""
    return session.scalar(select(func.max(TaskRow.round)).where(TaskRow.run == run)) or 0


def has_update() -> ColumnElement[bool]:
    """Whether a task of a query has an update."""
    return exists().where(UpdateRow.task == TaskRow.id)


def require_same_body(session: Session, tasks: Sequence[tuple[TaskHeader, Signed]]) -> None:
    """All tasks of a round share a body; raises `PressPoolError` where one does not."""
    header = tasks[0][0]
    wanted = select(TaskRow.body).where(TaskRow.run == header.run, TaskRow.round == header.round)
    found = set(session.scalars(wanted)) | {header.body for header, _ in tasks}
    if len(found) > 1:
        raise PressPoolError(
            f"round {header.round} was handed out with another adapter",
            where=f"run {header.run}",
            expected="one body for all tasks of a round",
            got=", ".join(sorted(found)),
            advice="continue the run from the checkpoint that it stopped at",
        )


def forget(session: Session, run: str, *, before: int) -> None:
    """Close earlier rounds; of the one before, the only one that has any, drop the bodies."""
    old = (TaskRow.run == run, TaskRow.round < before)
    session.execute(update(TaskRow).where(*old, TaskRow.closed.is_(False)).values(closed=True))
    uploads = select(UpdateRow.upload).join(TaskRow).where(*old, TaskRow.round == before - 1)
    session.execute(delete(ChunkRow).where(ChunkRow.owner.in_(uploads)))
    session.execute(delete(ChunkRow).where(ChunkRow.owner == body_owner(run, before - 1)))


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
        outlet=header.outlet,
        header=signed.body,
        signature=signed.signature,
        body=header.body,
        handed_out=at,
        closed=False,
    )


def update_row(header: UpdateHeader, signed: Signed, upload: str, *, at: float) -> UpdateRow:
    """A new update."""
    return UpdateRow(
        task=header.task, header=signed.body, signature=signed.signature, upload=upload, received=at
    )
