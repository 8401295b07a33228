"""Who may call a server: keys by their hashes, with scopes, a rate and an end.

::

    {"format": "presspool-serving-keys/1",
     "keys": [{"name": "desk", "sha256": "…", "scopes": ["ask"], "expires": "2027-01-31"}]}

Invariants:
    * A key itself is printed once, by `presspool serve-key`, and stored nowhere. It is 32 random
      bytes, so that one round of SHA-256 is enough.
    * The file is read anew when it changes: a key that is taken out ends at once. A file that
      cannot be read lets nobody in, and the log says so.
    * A file that is there keeps its owner: who adds a key as root locks no server out.
    * A key with a rate has that many calls at once and no more than as many a minute after them.

Example: `AccessKeys(Path("keys.json")).named("Bearer pp-…", "ask").name`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from presspool.common.base.errors import InputError
from presspool.common.base.files import read_most, replacing
from presspool.common.base.validation import unread, validate
from presspool.server.serving.shelf.call_errors import CallError

log = logging.getLogger(__name__)

Scope = Literal["ask", "admin", "metrics"]
FORMAT: Final = "presspool-serving-keys/1"
_LARGEST = 1 << 20
_BEARER, _PREFIX = "bearer ", "pp-"
_ROUNDING = 1e-6  # seconds
_OPEN = 0o640  # what a file of keys keeps of its mode, at most


def _day(said: object) -> object:
    """A day as it is written, and no number that would be taken for seconds since 1970."""
    if isinstance(said, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", said):
        raise ValueError("a day as 2026-01-31")
    if isinstance(said, (int, float)):
        raise ValueError("a day as 2026-01-31, in quotes")
    return said


class AccessKey(BaseModel):
    """One key.

    Attributes:
        name: whose it is, for the log.
        sha256: of the key.
        scopes: what may be done with it.
        expires: the last day, in UTC; None for no end.
        per_minute: calls that ask, a minute; None for as many as the queue takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    expires: Annotated[date | None, BeforeValidator(_day)] = None
    per_minute: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None


class KeyFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["presspool-serving-keys/1"] = FORMAT
    keys: tuple[AccessKey, ...] = ()

    @classmethod
    def read(cls, path: Path) -> KeyFile:
        """Read it.

        Raises:
            InputError: it cannot be read.
        """
        try:
            body = json.loads(read_most(path, _LARGEST))
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                "keys that cannot be read",
                where=str(path),
                expected="the file that `presspool serve-key` writes",
                got=unread(error),
            ) from None
        return validate(cls, body, where=str(path), fault=InputError)


class AccessKeys:
    """A file of keys in use.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = {key.sha256: key for key in KeyFile.read(path).keys}
        self._seen = self._stamp()
        self._due = dict[str, float]()  # by hash: when the calls so far would have come in step

    def named(self, header: str, scope: Scope | None) -> AccessKey:
        """The key of an `Authorization` header.

        Args:
            header: as it came; "" for none.
            scope: what is asked for; None for what every key may.

        Raises:
            CallError: 401 for no key or a wrong or expired one, 403 for another scope, 429 beyond
                the key's rate.
        """
        self._follow()
        if not header:
            raise CallError(401, "a key is asked for: Authorization: Bearer KEY")
        kind, secret = header[: len(_BEARER)].lower(), header[len(_BEARER) :]
        key = self._known.get(digest(secret.strip())) if kind == _BEARER else None
        if key is None:
            raise CallError(401, "no such key")
        if key.expires is not None and datetime.now(UTC).date() > key.expires:
            raise CallError(401, f"the key expired on {key.expires}")
        if scope is not None and scope not in key.scopes:
            raise CallError(403, f"the key lacks the scope {scope!r}")
        if scope == "ask" and key.per_minute is not None:
            self._pace(key.sha256, 60.0 / key.per_minute)
        return key

    def _pace(self, sha256: str, step: float) -> None:
        """Count a call: the generic cell rate algorithm (ITU-T I.371, annex A), a minute at once.

        Raises:
            CallError: 429, with the seconds after which a call is let in.
        """
        now = time.monotonic()
        due = max(now, self._due.get(sha256, now)) + step
        if due > now + 60.0 + _ROUNDING:
            raise CallError(
                429, "more calls a minute than this key has", retry=math.ceil(due - now - 60.0)
            )
        self._due[sha256] = due

    def _follow(self) -> None:
        if (stamp := self._stamp()) == self._seen:
            return
        try:
            self._known = {key.sha256: key for key in KeyFile.read(self._path).keys}
        except InputError as error:
            self._known = {}
            log.warning("nobody is let in: %s (%s)", error.what, error.got)
        self._seen = stamp

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # Two changes may share a time, which some kernels count in ticks of 4 ms; ctime, as
        # permissions count.
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def digest(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def add_key(
    path: Path,
    name: str,
    scopes: Sequence[str],
    expires: date | None,
    per_minute: int | None = None,
) -> str:
    """Make a key and keep its hash in a file, which is made if there is none; gives the key.

    Raises:
        InputError: the name is taken, the last day is over, or the file cannot be read.
        StorageError: the file cannot be written.
    """
    if expires is not None and expires < datetime.now(UTC).date():
        raise InputError("a day that is over", where="--expires", got=expires)
    known = KeyFile.read(path).keys if path.exists() else ()
    if any(key.name == name for key in known):
        raise InputError(
            "a key of that name is there",
            where=str(path),
            got=name,
            advice="take it out of the file first, or choose another name",
        )
    secret = _PREFIX + secrets.token_urlsafe(32)
    body = {
        "name": name,
        "sha256": digest(secret),
        "scopes": scopes,
        "expires": expires,
        "per_minute": per_minute,
    }
    made = validate(AccessKey, body, where=name, fault=InputError)
    kept = KeyFile(keys=(*known, made)).model_dump(mode="json", exclude_none=True)
    with replacing(path, private=True) as stream:
        _keep_owner(path, stream)
        stream.write((json.dumps(kept, indent=1) + "\n").encode())
    return secret


def _keep_owner(path: Path, draft: BinaryIO) -> None:
    """Give what replaces a file its owner and its mode, as far as that is safe."""
    if path.exists():
        there = path.stat()
        os.fchown(draft.fileno(), there.st_uid, there.st_gid)
        os.fchmod(draft.fileno(), there.st_mode & _OPEN)
