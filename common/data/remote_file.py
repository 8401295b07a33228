"""A file of records that lies elsewhere than under a path: in a bucket, or on another node.

Whoever reads it asks fsspec for it where it is read, so that a URL can be handed on to a machine
that reaches it, by one that does not.

Invariant: `str` of it is its URL; a URL with a password in it is refused.

Example:
    >>> RemoteFile("s3://press/outlets/north-post.parquet").name
    'north-post.parquet'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fsspec.core import url_to_fs
from pydantic import PlainValidator

from presspool.common.base.errors import DataError


def _place(said: object) -> Path | str:
    if isinstance(said, Path):
        return said
    if not isinstance(said, str) or not said:
        raise ValueError("a path or a URL")
    if "://" not in said:
        return Path(said)
    if "@" in urlsplit(said).netloc:
        raise ValueError("a URL without user and password, which come from the environment")
    return said


Place = Annotated[Path | str, PlainValidator(_place)]
"""Of a settings' file: a path, or a URL, which stays text."""


@dataclass(frozen=True)
class RemoteFile:
    """A file by its URL.

    Attributes:
        url: as fsspec reads it, `s3://BUCKET/FILE` or `file:///FOLDER/FILE`, say.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part, which says the format."""
        return self.url.rpartition("/")[2]

    def is_dir(self) -> bool:
        """Whether a folder is there."""
        return self._info().get("type") == "directory"

    def is_file(self) -> bool:
        """Whether a file is there."""
        return self._info().get("type") == "file"

    def raw(self) -> RawIOBase:
        """Its bytes as a stream; raises `DataError` where they cannot be had."""
        with self._said():
            system, path = url_to_fs(self.url)
            return cast(RawIOBase, system.open(path, "rb"))

    def _info(self) -> dict[str, Any]:
        with self._said():
            system, path = url_to_fs(self.url)
            try:
                found: dict[str, Any] = system.info(path)
            except FileNotFoundError:
                return {}
            return found

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Whatever a place's package raises is our error: of its words none is known."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            raise DataError(
                "cannot be read",
                where=self.url,
                got=error if isinstance(error, ImportError) else type(error).__name__,
                advice="credentials come from the environment; s3:// needs presspool[s3]",
            ) from None


File = Path | RemoteFile
"""What has a name, and bytes."""
