"""Where a registry's bytes lie: a folder, or a bucket by its URL, of which two things are asked.

A name is written once and never changed (`create`), and of two writers of one name exactly one is
told that it was the one. A folder gives that by a hard link, a bucket by a conditional put
(`If-None-Match: *`); a bucket that ignores the condition is found out by `prove` and refused.

Invariants:
    * What `create` returned from is durable and whole; what failed is there whole or not at all.
    * `remove` is for what nothing names: what was removed may be there again after a power cut.
    * Nothing is believed because of where it lies: `read_digest` compares.
    * Nothing is written, listed or removed through a link in the place of a folder.

Example:
    >>> import tempfile
    >>> store = ObjectStore(tempfile.mkdtemp())
    >>> store.create("log/0", b"first"), store.create("log/0", b"second"), store.read("log/0")
    (True, False, b'first')
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from presspool.common.base.errors import EvidenceError, FolderError, PressPoolError, StorageError
from presspool.common.base.extras import not_here
from presspool.common.base.files import create_file

LARGEST = 4 << 30  # bytes of one file: far more than an adapter of a large model


class ObjectStore:
    """A folder or a bucket.

    Args:
        url: a path, or what fsspec calls a place, as `s3://BUCKET/FOLDER`.

    Raises:
        InputError: a URL whose kind needs a package that is not installed, or of no known kind.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._files, self._root = url_to_fs(url)
        except ImportError as error:
            raise not_here("s3", error, "no way to read this place", where=url) from None
        except ValueError as error:
            raise FolderError(
                "no place of a known kind", where=url, expected="a folder or s3://…", got=error
            ) from None
        self._local = isinstance(self._files, LocalFileSystem)

    def create(self, name: str, content: bytes) -> bool:
        """Write a name that is not there yet; False where it is.

        Raises:
            StorageError: the place refuses.
        """
        self._require_own(name.rpartition("/")[0])
        if not self._local:
            return self._put(name, content)
        path = Path(self._at(name))
        with self._reaching(name):
            path.parent.mkdir(parents=True, exist_ok=True)
        return create_file(path, content)

    def read(self, name: str, *, most: int = LARGEST) -> bytes:
        """What a name holds.

        Raises:
            EvidenceError: nothing is there, or more than it may be.
            StorageError: the place cannot be reached.
        """
        try:
            with self._reaching(name):
                if self._files.size(self._at(name)) <= most:
                    return bytes(self._files.cat_file(self._at(name)))
        except FileNotFoundError:
            raise _damaged(self.url, name, expected="a file", got="none") from None
        raise _damaged(self.url, name, expected=f"at most {most} bytes", got="more")

    def read_digest(self, name: str, digest: str, *, most: int = LARGEST) -> bytes:
        """As `read`, for content of which the sha256 is known; raises `EvidenceError` for other."""
        content = self.read(name, most=most)
        if (got := sha256(content)) != digest:
            raise _damaged(self.url, name, expected=digest, got=got)
        return content

    def has(self, name: str) -> bool:
        """Whether something is there; raises `StorageError` where nobody can say."""
        with self._reaching(name):
            return bool(self._files.isfile(self._at(name)))

    def remove(self, name: str) -> None:
        """Have nothing there, whether or not something was; raises `StorageError`."""
        self._require_own(name.rpartition("/")[0])
        with suppress(FileNotFoundError), self._reaching(name):
            self._files.rm_file(self._at(name))

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, sorted; drafts that a crash left are not told of."""
        self._require_own(folder)
        try:
            with self._reaching(folder):
                self._files.invalidate_cache()
                found = self._files.ls(self._at(folder), detail=False)
        except FileNotFoundError:
            return []
        names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)
        return [name for name in names if not name.startswith(".")]

    def prove(self) -> None:
        """See that a name is really written once, by writing one twice.

        Raises:
            StorageError: the second writer was told that it was the first.
        """
        probe = f"probes/{secrets.token_hex(8)}"
        if self.create(probe, b"first") and not self.create(probe, b"second"):
            return
        raise StorageError(
            "a place where two writers overwrite each other",
            where=self.url,
            expected="a store with conditional writes (If-None-Match)",
            advice="take a folder, or another S3 service",
        )

    def _put(self, name: str, content: bytes) -> bool:
        try:
            with self._reaching(name):
                self._files.pipe_file(self._at(name), content, mode="create")
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise _unreachable(self.url, name, error) from None
        return True

    def _require_own(self, folder: str) -> None:
        """Raise `StorageError` where a folder of this place is a link that leads out of it."""
        if not self._local:
            return
        wanted = Path(self._root).resolve() / folder
        if (got := wanted.resolve()) != wanted:
            raise StorageError(
                "a link in the place of a registry's folder",
                where=str(wanted),
                expected="a folder",
                got=f"a link to {got}",
                advice="see who made it; nothing was read or changed there",
            )

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """What others' file systems raise, and there is no common kind, is our error."""
        try:
            yield
        except (FileExistsError, FileNotFoundError, PressPoolError):
            raise
        except IsADirectoryError:
            raise _damaged(self.url, name, expected="a file", got="a folder") from None
        except Exception as error:  # noqa: BLE001  botocore's errors have no base of ours
            raise _unreachable(self.url, name, error) from None


def _unreachable(url: str, name: str, error: Exception) -> StorageError:
    return StorageError(
        "the registry's place does not answer",
        where=f"{url} {name}",
        got=f"{type(error).__name__}: {error}",
        advice="check address, credentials and permissions, then type it again",
    )


def sha256(content: bytes) -> str:
    """`sha256:` and the digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _damaged(url: str, name: str, *, expected: str, got: str) -> EvidenceError:
    return EvidenceError(
        "the registry is damaged",
        where=f"{url} {name}",
        expected=expected,
        got=got,
        advice="bring that file back from a copy; nothing was loaded",
    )
