"""What an audit reads: files, keys and heads that were brought, and how far it is with them.

Invariants:
    * A file that cannot be read and a malformed option are an `InputError`; what a file says
      wrongly is an `EvidenceError`.

Example:
    >>> known("no key", [])
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.InputError: --key: not a verifier key:
      expected name+8 hex digits+base64
      got      no key
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from presspool.common.base.console import err, progress
from presspool.common.base.errors import EvidenceError, InputError, LedgerError
from presspool.common.base.files import read_file
from presspool.common.ledger.store import Ledger
from presspool.common.pki.keys import KEY_BYTES, SigningKey
from presspool.common.transparency import contradictions, forks, notes
from presspool.common.transparency.checkpoints import Checkpoint

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 2.0
Moved = Callable[[int, int], None]
"""Called with what is done and the total."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the auditor has from elsewhere than the file.

    Attributes:
        key: the ledger's first key.
        heads: heads of the ledger that others kept.
    """

    key: notes.VerifierKey | None
    heads: tuple[Checkpoint, ...]


def known(key: str | None, heads: Sequence[Path]) -> Known:
    """Read the options `--key` and `--head`.

    Raises:
        InputError: not a key that signs ledgers, or a file that is no checkpoint.
    """
    found = ledger_key(key) if key is not None else None
    return Known(key=found, heads=tuple(kept_head(path) for path in heads))


def ledger_key(text: str) -> notes.VerifierKey:
    """A value of `--key`; raises `InputError` unless it is a key that signs ledgers."""
    found = verifier_key(text, "--key")
    if found.kind != notes.NOTE:
        raise InputError(
            "not a key that signs a ledger",
            where="--key",
            got=found.text,
            expected="the ledger's own key, not a witness's",
        )
    return found


def verifier_key(text: str, option: str) -> notes.VerifierKey:
    """Read a verifier key; raises `InputError` naming the option."""
    try:
        return notes.parse_key(text)
    except EvidenceError as error:
        raise InputError(
            "not a verifier key", where=option, expected=error.expected, got=text
        ) from None


@contextmanager
def reading(path: Path, moved: Moved = lambda _done, _total: None) -> Iterator[BinaryIO]:
    """An open file that says how much of it was read; raises `InputError` where it cannot be."""
    try:
        with _Watched(path, moved) as stream:
            yield stream
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None


@contextmanager
def percents(what: str) -> Iterator[Moved]:
    """A bar in hundredths on a terminal; elsewhere a log line every few seconds."""
    with progress(what, total=100) as advance:
        shown, last = 0, time.monotonic()

        def moved(done: int, total: int) -> None:
            nonlocal shown, last
            reached = min(100, 100 * done // max(total, 1))
            if reached == shown:
                return
            for _ in range(reached - shown):
                advance()
            shown = reached
            if not err.is_terminal and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                log.info("%s: %d %%", what, shown)
                last = time.monotonic()

        yield moved


def require_new(path: Path, option: str) -> None:
    """Raise `InputError` if something is at `path`, which might be the ledger itself."""
    if path.exists():
        raise InputError(
            "the file exists",
            where=option,
            expected="a new file",
            got=path,
            advice="choose another name, or delete it first",
        )


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """An open ledger.

    Raises:
        InputError: none there.
        EvidenceError: a damaged one.
    """
    try:
        ledger = Ledger(path)
    except LedgerError as error:
        advice = "name the file of an outlet's ledger"
        raise InputError(error.what, **error.parts | {"advice": advice}) from None
    with ledger:
        yield ledger


def signer(path: Path, ledger: Ledger) -> notes.Signer:
    """The ledger's signing key: an outlet's `log.key`, or PEM (PKCS 8, not encrypted).

    Raises:
        InputError: no such file, no such key, or not the one that signs this ledger.
    """
    seed = _seed(path)
    origin = ledger.book.opened.origin
    found = notes.Signer.load(origin, seed, kind=notes.NOTE)
    if found.key.text != ledger.book.key:
        raise InputError(
            "not the key that signs this ledger",
            where=str(path),
            expected=ledger.book.key,
            got=found.key.text,
        )
    return found


def _seed(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
    if len(data.strip()) == 2 * KEY_BYTES:
        return SigningKey.read(path).secret
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):  # TypeError: encrypted
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(
            "signing key",
            where=str(path),
            expected="an Ed25519 private key: an outlet's log.key, or PEM (PKCS 8), not encrypted",
        )
    return private.private_bytes_raw()


def convicted(proof: BinaryIO, log: notes.VerifierKey) -> str:
    """What a fork proof or a contradiction proves; raises `EvidenceError` where it is nothing."""
    data = proof.read(contradictions.LARGEST + 1)
    if contradictions.is_contradiction(data):
        return contradictions.verify_contradiction(data, log=log)
    one, other = forks.verify_fork(data, log=log)
    return (
        f"{one.origin} signed two different histories of {one.size} entries: root "
        f"{one.root.hex()} and root {other.root.hex()}."
    )


class _Watched(io.BufferedReader):
    """A file that says after each line how many of its bytes were read."""

    def __init__(self, path: Path, moved: Moved) -> None:
        super().__init__(io.FileIO(path))
        self._moved, self._done, self._total = moved, 0, path.stat().st_size

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self._done += len(line)
        self._moved(self._done, self._total)
        return line


def kept_head(path: Path) -> Checkpoint:
    """A file given to `--head`; raises `InputError` unless it is a checkpoint."""
    data = read_file(path, most=notes.LARGEST_NOTE + 1)
    try:
        return Checkpoint.parse(notes.parse_note(data).text)
    except EvidenceError as error:
        raise InputError("not a checkpoint", where=str(path), got=error) from None
