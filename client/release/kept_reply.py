"""A round's answer on its way from the ledger to whoever carries it: its exact bytes are on disk.

The bytes are kept, then their digest is bound in the ledger, then they are handed out. A kill
between the last two would lose a round that is paid for; so the app that is asked for a bound round
again hands out the kept bytes, if they are the bound ones.

Words of which no second can be made, because what made them is erased, are kept before that.

Invariants:
    * What is bound was kept before: from the release intent on no kill loses the answer.
    * What is handed out again has the digest that the ledger bound to this very run and round.
      Bytes that were kept and never bound are worth nothing: the round is trained anew.

Example: `keep_and_bind(data, meter.bind, file)`; later `handed_out_before(file, digest)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from presspool.common.base.errors import StorageError
from presspool.common.pki.keys import write_secret
from presspool.common.wire.envelope import body_digest


def keep_and_bind(data: bytes, bind: Callable[[bytes], str], file: Path | None) -> None:
    """Keep and bind an answer's exact bytes; they may leave when this returns.

    Args:
        data: what is to leave.
        bind: writes the release intent.
        file: where to keep the bytes, readable by this user alone; None where nobody asks again.

    Raises:
        StorageError: the disk refuses; nothing may leave.
        GuardError: other bytes are bound.
        PlanError: the round did not take exactly its steps.
    """
    keep(data, file)
    bind(data)


def said_before(file: Path | None) -> bytes | None:
    """The words that were kept at a task's place, which has no others; None where none were.

    Raises:
        StorageError: the disk refuses.
    """
    return _read(file) if file is not None and file.exists() else None


def keep(data: bytes, file: Path | None) -> None:
    """Keep what is to leave; raises `StorageError` where the disk refuses, and nothing may."""
    if file is not None:
        write_secret(file, data)


def handed_out_before(file: Path | None, digest: str) -> bytes | None:
    """The bytes that are bound by this digest ("" for none), if they were kept.

    Raises:
        StorageError: the disk refuses.
    """
    if file is None or not digest or not file.exists():
        return None
    data = _read(file)
    return data if body_digest(data) == digest else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StorageError("a kept answer cannot be read", where=str(file), got=error) from None
