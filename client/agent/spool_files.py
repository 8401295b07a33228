"""One file of an agent's spool: a header as it came, its signature, and what follows.

Invariant: a file that is not whole is refused by name; nothing of it is guessed.

Example: `read_task(path).header`; `b"".join(body_of(path))`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from presspool.client.round import Round
from presspool.common.base.errors import EvidenceError, FolderError
from presspool.common.pki.keys import SIGNATURE_BYTES
from presspool.common.wire.envelope import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Signed,
    TaskHeader,
    read_header,
)
from presspool.common.wire.flower import from_bytes

LENGTH = struct.Struct(">I")
_LARGEST_CONTRACT = 1 << 20  # bytes; nobody's own commands need a larger one


@dataclass(frozen=True)
class SpooledTask:
    """A task on disk.

    Attributes:
        header: what the coordinator signed.
        signed: its exact bytes.
    """

    header: TaskHeader
    signed: Signed


def write_signed(stream: BinaryIO, signed: Signed) -> None:
    """Begin a file with a header as it came, and its signature."""
    stream.write(LENGTH.pack(len(signed.body)) + signed.body + signed.signature)


def read_signed(stream: BinaryIO, path: Path) -> Signed:
    """A file's header and signature; raises `FolderError` where they are not there."""
    head = stream.read(LENGTH.size)
    length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else HEADER_BYTES + 1
    body = stream.read(length) if length <= HEADER_BYTES else b""
    signature = stream.read(SIGNATURE_BYTES)
    if len(body) != length or len(signature) != SIGNATURE_BYTES:
        raise _damaged(path)
    return Signed(body, signature)


def read_task(path: Path) -> SpooledTask:
    """A task's file; raises `FolderError` where it is damaged."""
    with path.open("rb") as stream:
        signed = read_signed(stream, path)
    try:
        return SpooledTask(read_header(TaskHeader, signed.body), signed)
    except EvidenceError:
        raise _damaged(path) from None


def body_of(path: Path) -> Iterator[bytes]:
    """What follows a file's header, in chunks."""
    with path.open("rb") as stream:
        read_signed(stream, path)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def contract_in(body: bytes) -> bytes:
    """The contract that a task's body holds; nothing where there is none, or none to keep."""
    try:
        said = Round.of(from_bytes(body)).task.contract.encode()
    except ValueError:
        return b""
    return said if len(said) <= _LARGEST_CONTRACT else b""


def _damaged(path: Path) -> FolderError:
    return FolderError(
        "damaged",
        where=str(path),
        expected="what this agent wrote",
        advice="look at the disk, then remove the file: its round is lost",
    )
