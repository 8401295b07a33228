"""Ed25519 keys that sign what travels: one purpose a key, one domain tag a kind of message.

A signature covers ``tag ‖ 0 ‖ body``, so that a signature of one kind of message is none of any
other. Private keys lie in files that only their owner may read (mode 0600), as the 32 raw bytes of
RFC 8032 in hexadecimal.

Example:
    >>> key = SigningKey.generate()
    >>> signature = key.sign("presspool/task/v1", b"train")
    >>> verify(key.public, "presspool/task/v1", b"train", signature)
    >>> verify(key.public, "presspool/update/v1", b"train", signature)
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.EvidenceError: signature: does not verify
"""

from __future__ import annotations

import base64
import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.files import replacing

KEY_BYTES, SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True)
class SigningKey:
    """A private key.

    Attributes:
        secret: the 32 raw bytes; never printed.
    """

    secret: bytes

    def __repr__(self) -> str:
        return f"SigningKey({key_id(self.public)})"

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key in a file.

        Raises:
            InputError: missing, not a key, or readable by others.
        """
        try:
            secret = bytes.fromhex(read_secret(path).decode("ascii").strip())
        except ValueError:
            raise InputError("not a private key", where=str(path)) from None
        if len(secret) != KEY_BYTES:
            raise InputError(
                "not a private key",
                where=str(path),
                expected=f"{KEY_BYTES} bytes",
                got=f"{len(secret)} bytes",
            )
        return cls(secret)

    def write(self, path: Path) -> None:
        """Write the key, readable by its owner only; raises `StorageError` where it cannot be."""
        write_secret(path, self.secret.hex().encode() + b"\n")

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        key = Ed25519PrivateKey.from_private_bytes(self.secret)
        return key.public_key().public_bytes_raw()

    def sign(self, tag: str, body: bytes) -> bytes:
        """64 bytes over the tag and the body."""
        return Ed25519PrivateKey.from_private_bytes(self.secret).sign(_message(tag, body))


def verify(public: bytes, tag: str, body: bytes, signature: bytes) -> None:
    """Return if the key signed this body under this tag.

    Raises:
        EvidenceError: it did not, or key or signature are malformed.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _message(tag, body))
    except (InvalidSignature, ValueError):
        raise EvidenceError("does not verify", where="signature") from None


def key_id(public: bytes) -> str:
    """The first 16 hexadecimal digits of the public key's SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def fingerprint(tag: str, body: bytes) -> str:
    """80 bits of a SHA-256 for people to compare: 16 letters and digits in groups of four."""
    letters = base64.b32encode(hashlib.sha256(_message(tag, body)).digest()[:10]).decode()
    return "-".join(letters[at : at + 4] for at in range(0, 16, 4))


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints differ in nothing but letter case, dashes and spaces."""
    return _plain(one) == _plain(other)


def read_secret(path: Path) -> bytes:
    """The content of a file that nobody but its owner may read.

    Raises:
        InputError: missing, or readable by others.
    """
    try:
        mode, content = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    except OSError as error:
        raise InputError("cannot read a private key", where=str(path), got=error.strerror) from None
    if mode & 0o077:
        raise InputError(
            "a private key that others may read",
            where=str(path),
            expected="mode 0600",
            got=f"{mode:04o}",
            advice=f"chmod 600 {path}",
        )
    return content


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file that nobody but its owner may ever read, not even while it is written."""
    with replacing(path, private=True) as stream:
        stream.write(content)


def _plain(fingerprint: str) -> str:
    return "".join(c for c in fingerprint.upper() if c.isalnum())


def _message(tag: str, body: bytes) -> bytes:
    return tag.encode() + b"\0" + body
