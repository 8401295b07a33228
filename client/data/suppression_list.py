"""Who was erased, and who could have been in which run: the outlet's own, private memory.

A folder beside the ledger. None of it is ever exported; readers stand in it as keyed hashes of
their ids, and the key never leaves it either.

::

    private/key                     32 random bytes, mode 0600
    private/excluded/TAG            an erased reader; names the key it was made with
    private/eligible/RUN.CONTENT    the sorted tags of all who could be drawn in a run

Invariants:
    * No id is written anywhere, and no tag outside the folder.
    * A key is made once. Where it is lost or another's, nothing is looked up or written with it.

Example:
    >>> import tempfile
    >>> erased = SuppressionList(Path(tempfile.mkdtemp()) / "private")
    >>> erased.exclude("ann"), erased.exclude("ann")
    (True, False)
    >>> [erased.tag("ann") in erased.excluded(), erased.tag("bob") in erased.excluded()]
    [True, False]
"""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.base.locks import locked
from presspool.common.pki.keys import read_secret

FOLDER = "private"  # beside the ledger
KEY_BYTES, TAG_BYTES = 32, 16
_TAG = b"presspool/reader/v1\0"


@dataclass(frozen=True)
class SuppressionList:
    """The folder; made when something is first written to it."""

    folder: Path

    def tag(self, reader: str) -> bytes:
        """The keyed hash of a reader's id; makes the key where there is none.

        Raises:
            InputError: a key that others may read, or that was lost.
            StorageError: the disk refuses.
        """
        return _tag(self._key(), reader)

    def tags(self, readers: list[str]) -> list[bytes]:
        """The same for many readers."""
        key = self._key()
        return [_tag(key, reader) for reader in readers]

    def exclude(self, reader: str) -> bool:
        """Leave a reader out of every round that is begun from now on.

        Returns:
            Whether the reader was not left out before.
        """
        path = self._part("excluded") / self.tag(reader).hex()
        new = not path.exists()
        replace_file(path, _key_name(self._key()))
        return new

    def excluded(self) -> frozenset[bytes]:
        """The tags of all erased readers.

        Raises:
            InputError: they were made with another key, so that nobody can be told apart.
        """
        paths = [p for p in (self.folder / "excluded").glob("*") if not p.name.startswith(".")]
        if not paths:
            return frozenset()
        name = _key_name(self._key())
        for path in paths:
            if path.read_bytes() != name:
                raise InputError(
                    "an erased reader under another key",
                    where=str(path),
                    expected="the key that erased readers were hashed with",
                    advice=f"put back {self.folder / 'key'} from a backup",
                )
        return frozenset(bytes.fromhex(path.name) for path in paths)

    def note(self, run: str, tags: list[bytes]) -> None:
        """Write down who can be drawn in a run from now on; again and again, to no other effect."""
        content = b"".join(sorted(tags))
        name = f"{run.removeprefix('sha256:')}.{hashlib.sha256(content).hexdigest()[:16]}"
        replace_file(self._part("eligible") / name, content)

    def noted(self) -> frozenset[str]:
        """Every run of which anything is noted."""
        return frozenset(f"sha256:{path.name.split('.')[0]}" for path in self._notes())

    def runs_of(self, reader: str) -> frozenset[str]:
        """The runs in which a reader could have been drawn."""
        if not self._notes():
            return frozenset()
        tag = self.tag(reader)
        return frozenset(
            f"sha256:{path.name.split('.')[0]}"
            for path in self._notes()
            if _holds(path.read_bytes(), tag)
        )

    def locked(self) -> AbstractContextManager[object]:
        """One eraser or import at a time; raises `FolderError` while another is at work."""
        busy = FolderError(
            "another erasure or import is going on",
            where=str(self.folder),
            advice="wait for it, then try again",
        )
        return locked(private_folder(self.folder) / "lock", busy=busy)

    def _part(self, name: str) -> Path:
        return private_folder(private_folder(self.folder) / name)

    def _notes(self) -> list[Path]:
        return [p for p in (self.folder / "eligible").glob("*") if not p.name.startswith(".")]

    def _key(self) -> bytes:
        path = self.folder / "key"
        if not path.exists():
            if self._notes() or any((self.folder / "excluded").glob("*")):
                raise InputError(
                    "the key of the erased readers is lost",
                    where=str(path),
                    advice="put it back from a backup",
                )
            _make_key(private_folder(self.folder) / "key")
        return read_secret(path)


def _tag(key: bytes, reader: str) -> bytes:
    return hmac.digest(key, _TAG + reader.encode(errors="surrogatepass"), "sha256")[:TAG_BYTES]


def _key_name(key: bytes) -> bytes:
    return hashlib.sha256(b"presspool/reader-key/v1\0" + key).hexdigest()[:16].encode()


def _holds(tags: bytes, tag: bytes) -> bool:
    at = tags.find(tag)
    while at >= 0 and at % TAG_BYTES:
        at = tags.find(tag, at + 1)
    return at >= 0


def _make_key(path: Path) -> None:
    """A new key, unless another process was first: a second one would forget the erased."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".key")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(os.urandom(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        except OSError as error:
            raise StorageError("cannot make a key", where=str(path), got=error.strerror) from None
    finally:
        Path(draft).unlink()
