"""The tables of `presspool.server.transport.mailbox`."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from presspool.server.database import Base


class TaskRow(Base):
    """A task; its header and signature are evidence and stay for ever."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("tasks_of_outlet", "outlet", "closed"),
        Index("tasks_of_run", "run", "round"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    run: Mapped[str] = mapped_column(String(64))
    round: Mapped[int]
    phase: Mapped[int]
    outlet: Mapped[str] = mapped_column(String(63))
    header: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    body: Mapped[str] = mapped_column(String(71))
    handed_out: Mapped[float]
    closed: Mapped[bool]


class UpdateRow(Base):
    """The one update of a task; its body is there as long as this is."""

    __tablename__ = "updates"

    task: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    header: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    upload: Mapped[str] = mapped_column(String(32), unique=True)
    received: Mapped[float]


class ReceiptRow(Base):
    """That a task's update was here: its header, which is evidence, without its body."""

    __tablename__ = "receipts"

    task: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    header: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    received: Mapped[float]


class ChunkRow(Base):
    """A piece of a body: of a phase's tasks, or of an update by its upload."""

    __tablename__ = "chunks"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class RefusalRow(Base):
    """Calls of one outlet that were refused for one reason on one day."""

    __tablename__ = "refusals"
    __table_args__ = (Index("refusals_of_outlet", "outlet", "code", "run", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    outlet: Mapped[str] = mapped_column(String(63))
    code: Mapped[str] = mapped_column(String(32))
    run: Mapped[str] = mapped_column(String(64))
    round: Mapped[int]
    count: Mapped[int] = mapped_column(server_default="1")  # older rows are one call each
