"""One file of a folder's own files: written privately, read back with suspicion.

A tar whose first member says what it is and whose last how many there are, so that one that was
cut short is known. Only regular files go in. On the way back only the files, and what is in the
folders, that the caller names are taken, each once, below a draft that becomes the new folder at
the end.

Invariants:
    * The file is mode 0600 from its first byte, and there whole or not at all.
    * Nothing is written outside the new folder, whatever the file says, and nothing but regular
      files; all of them are their owner's alone, and hold no more bytes than the file itself.

Example: `with pack(file, "kind/1") as archive: archive.add_folder(home / "keys", "keys")`, then
`with unpack(file, "kind/1", new, files=[], folders=["keys"]): …`.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.base.files import new_file

_FIRST, _LAST = "PRESSPOOL", "END"
_MOST_MEMBERS = 1_000_000
# What tarfile raises; the last two for headers that are no numbers, or headers of headers.
_DAMAGED = (tarfile.TarError, EOFError, ValueError, RecursionError)
# Of a name that is there already, as a file or as a folder, or that no file can have.
_NO_NAME = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


class Packing:
    """A file that is being written.

    Args:
        stream: where to.
        kind: what it is.
        beside: a folder for what is in between, of the same disk.
    """

    def __init__(self, stream: BinaryIO, kind: str, *, beside: Path) -> None:
        self._beside = beside
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  `close` does
        self._count = 0
        self._bytes(_FIRST, kind.encode())

    def add_file(self, path: Path, name: str) -> None:
        """A file; nothing where there is none."""
        if path.exists():
            self._file(path, name)

    def add_folder(self, path: Path, name: str) -> None:
        """A folder's regular files, with all below; nothing where there is none."""
        for found in sorted(path.rglob("*")):
            if found.is_file() and not found.is_symlink() and not _passing(found.name):
                self._file(found, f"{name}/{found.relative_to(path).as_posix()}")

    def add_bytes(self, content: bytes, name: str) -> None:
        """A file with this content."""
        self._bytes(name, content)
        self._count += 1

    def add_database(self, path: Path, name: str) -> None:
        """An SQLite database as it is at one moment, whoever writes to it meanwhile."""
        if not path.exists():
            return
        with tempfile.TemporaryDirectory(dir=self._beside) as folder:
            copy = Path(folder) / "copy.db"
            source = f"file:{quote(str(path.absolute()))}?mode=ro"
            with (
                closing(sqlite3.connect(source, uri=True)) as here,
                closing(sqlite3.connect(copy)) as there,
            ):
                here.backup(there)
            self._file(copy, name)

    def close(self) -> None:
        """Write the end."""
        self._bytes(_LAST, str(self._count).encode())
        self._tar.close()

    def _file(self, path: Path, name: str) -> None:
        with path.open("rb") as stream:
            member = tarfile.TarInfo(name)
            member.size, member.mode = os.fstat(stream.fileno()).st_size, 0o600
            self._tar.addfile(member, stream)
        self._count += 1

    def _bytes(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))


@contextmanager
def pack(file: Path, kind: str) -> Iterator[Packing]:
    """A new private file; there whole when the block is left, not at all when it raises.

    Raises:
        FolderError: there is something at `file`.
        StorageError: the disk refuses, or a file cannot be read.
    """
    try:
        with new_file(file) as stream:
            packing = Packing(stream, kind, beside=file.parent)
            yield packing
            packing.close()
    except sqlite3.Error as error:
        raise StorageError("the database cannot be copied", where=str(file), got=error) from None


@contextmanager
def unpack(
    file: Path, kind: str, folder: Path, *, files: Collection[str], folders: Collection[str]
) -> Iterator[Path]:
    """A draft with the file's content that becomes `folder` when the block is left.

    Args:
        file: made by `pack`.
        kind: what it must be.
        folder: where nothing is yet.
        files: names of those that may be in it.
        folders: names of those whose files, at any depth, may be in it.

    Raises:
        InputError: not such a file, or a damaged one.
        FolderError: there is something at `folder`.
        StorageError: the disk refuses.
    """
    try:
        source = file.open("rb")
    except OSError as error:
        raise _no_backup(file, kind, error.strerror) from None
    with source, new_folder(folder) as draft:
        try:
            with tarfile.open(fileobj=source, mode="r:") as tar:
                _require_kind(tar, kind, file)
                _take_all(tar, draft, files, folders, room=file.stat().st_size)
        except _DAMAGED as error:
            raise _no_backup(file, kind, error) from None
        yield draft


def _no_backup(file: Path, kind: str, got: object) -> InputError:
    return InputError(
        "not a backup, or a damaged one",
        where=str(file),
        expected=kind,
        got=got,
        advice="name the file that `backup` wrote",
    )


@contextmanager
def new_folder(path: Path, option: str = "--home") -> Iterator[Path]:
    """A draft, its owner's alone, that becomes `path` when the block is left, or goes.

    Args:
        path: where nothing is yet.
        option: with which another is chosen.

    Raises:
        FolderError: there is something at `path`.
        StorageError: the disk refuses.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FolderError(
            "there is something already",
            where=str(path),
            expected="a new or empty folder",
            advice=f"choose another {option}; nothing was changed",
        )
    made = [above for above in path.parents if not above.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    except OSError as error:
        raise StorageError(
            "cannot write", where=str(path), got=error.strerror, advice=f"choose another {option}"
        ) from None
    try:
        yield draft
        draft.rename(path)
    except OSError as error:
        raise StorageError(
            "cannot write",
            where=str(path),
            got=error.strerror,
            advice=f"make room or choose another {option}",
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for above in made:  # nothing where there is a folder in it now
            with suppress(OSError):
                above.rmdir()


def _require_kind(tar: tarfile.TarFile, kind: str, file: Path) -> None:
    first = tar.next()
    stream = tar.extractfile(first) if first and first.name == _FIRST and first.isreg() else None
    got = stream.read(100).decode(errors="replace") if stream else "another file"
    if got != kind:
        raise InputError("another kind of backup", where=str(file), expected=kind, got=ascii(got))


def _take_all(
    tar: tarfile.TarFile, draft: Path, files: Collection[str], folders: Collection[str], room: int
) -> None:
    count = 0
    for member in tar:
        if member.name == _LAST:
            stream = tar.extractfile(member)
            if stream is not None and stream.read(20) == str(count).encode():
                return
            break
        if member.name != _FIRST:
            room -= member.size  # a header may claim the bytes of others, or none that are there
            if member.size < 0 or room < 0 or not _is_known(member, files, folders):
                raise _no_member(member)
            _take(tar, member, draft)
            count += 1
        if count > _MOST_MEMBERS:
            break
    raise tarfile.ReadError("cut short, or more than there can be")


def _is_known(member: tarfile.TarInfo, files: Collection[str], folders: Collection[str]) -> bool:
    parts = PurePosixPath(member.name).parts
    if not member.isreg() or member.issparse() or not parts or ".." in parts:
        return False
    return parts[0] in (files if len(parts) == 1 else folders)  # "/" is a part, and in neither


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, draft: Path) -> None:
    path, stream = draft / PurePosixPath(member.name), tar.extractfile(member)
    assert stream is not None  # it is regular
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if error.errno in _NO_NAME:
            raise _no_member(member) from None
        raise
    with os.fdopen(handle, "wb") as out:
        shutil.copyfileobj(stream, out)


def _no_member(member: tarfile.TarInfo) -> tarfile.ReadError:
    return tarfile.ReadError(f"a member that no backup has: {member.name!a}")


def _passing(name: str) -> bool:
    """What lies in a folder for a moment only, or is of this machine."""
    return name.endswith(("-wal", "-shm", ".tmp", ".lock")) or name == "lock"
