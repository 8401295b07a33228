"""Files that are replaced as a whole or not at all, and folders that are their owner's alone.

Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state"
    >>> replace_file(path, b"round 1").read_bytes()
    b'round 1'
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from presspool.common.base.errors import FolderError, InputError, StorageError


def replace_file(path: Path, content: bytes) -> Path:
    """Write `content` to `path` as `replacing` does."""
    with replacing(path) as stream:
        stream.write(content)
    return path


def read_most(path: Path, most: int) -> bytes:
    """What a file holds, up to so many bytes; raises `OSError`."""
    with path.open("rb") as stream:
        return stream.read(most)


def read_file(path: Path, *, most: int) -> bytes:
    """What a file that somebody named holds, up to so many bytes.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_most(path, most)
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; raises `OSError`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def draft_of(path: Path) -> Path:
    """Where `replacing` writes; one name, so that what a crash left there is overwritten."""
    return path.with_name(f".{path.name}.tmp")


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Write `path` so that a reader or a crash sees the old file or the whole new one.

    A sibling is written and fsynced, then renamed over `path`, then the folder is fsynced. If the
    block raises, what was at `path` is unchanged.

    Args:
        path: the file.
        private: let nobody but its owner read it, not even while it is written.

    Yields:
        The sibling, open for writing.

    Raises:
        StorageError: the disk is full or refuses; what was at `path` is unchanged.
    """
    draft = draft_of(path)
    try:
        if private:
            draft.unlink(missing_ok=True)  # what a crash left may be open to others
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(draft, flags, 0o600 if private else 0o666), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        if not isinstance(error, OSError):
            raise  # Ctrl-C, say: no draft is left behind then either
        raise StorageError(
            "cannot write",
            where=str(path),
            got=error.strerror,
            advice="make room, or fix path or permissions, then type it again, a run with --resume",
        ) from None


@contextlib.contextmanager
def new_file(path: Path, *, private: bool = True) -> Iterator[BinaryIO]:
    """As `replacing`, but where nothing is yet: made before what it is about is done.

    Raises:
        FolderError: there is something at `path`, or no folder for it.
        StorageError: the disk refuses.
    """
    if path.exists() or not path.parent.is_dir():
        raise FolderError(
            "cannot be a new file",
            where=str(path),
            expected="a path where nothing is, in a folder that is there",
            advice="choose another name",
        )
    with replacing(path, private=private) as stream:
        yield stream


def create_file(path: Path, content: bytes) -> bool:
    """Write a file where nothing is, durably, whole and at once, whoever else tries the same.

    Two processes that create one path never both succeed, and nobody ever sees a part of it: the
    content is synced under another name, and the link to it is made only where nothing is.

    Returns:
        Whether it was made; False where something was there, which is unchanged.

    Raises:
        StorageError: the disk refuses, or its file system has no hard links.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(draft, path)
        _sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(
            "cannot write", where=str(path), got=error.strerror, advice="make room, or fix the path"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return True


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may look into, where it is not there.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            "cannot make a folder",
            where=str(path),
            got=error.strerror,
            advice="make room or fix the permissions",
        ) from None
    return path


def move_over(draft: Path, path: Path) -> None:
    """Put a finished file of the same file system in the place of `path`, durably and at once.

    Raises:
        OSError: the disk refuses; what was at `path` is unchanged.
    """
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some file systems cannot sync a folder, which is no error."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
