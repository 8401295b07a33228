"""A registry's private keys, in a folder of their own that is never in the store; and its memory.

::

    registry-keys/       mode 0700, its files 0600
        signing.pem      P-256, signs entries in the OpenSSF Model Signing format
        log.key          Ed25519, signs the heads of the log
        seen/SIZE        heads of the log that were written or seen with these keys
        lock             held by who writes or removes files

Invariants:
    * One purpose a key; none is printed, and none is made over another.
    * A log that is shorter than one that was seen, or another, is written by nobody who has this
      folder. Each head has a file of its own, so that two at once do not spoil each other's.

Example: `RegistryKeys.read(Path("registry-keys"), name="newsroom").log.key.text`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from presspool.common.base.archives import new_folder
from presspool.common.base.errors import BusyError, InputError
from presspool.common.base.files import create_file, private_folder
from presspool.common.base.locks import locked
from presspool.common.pki.keys import SigningKey, key_id, read_secret, write_secret
from presspool.common.transparency import notes
from presspool.server.registry.stage_log import StageLog

SIGNING, LOG, SEEN, LOCK = "signing.pem", "log.key", "seen", "lock"


@dataclass(frozen=True, kw_only=True)
class RegistryKeys:
    """The folder's content.

    Attributes:
        path: the folder.
        public: the signing key's public half, PEM.
        log: signs heads.
    """

    path: Path
    public: str
    log: notes.Signer

    @classmethod
    def made(cls, path: Path, *, name: str) -> Self:
        """The keys of a new registry, made where there are none that have signed nothing yet.

        A creation that was interrupted after its keys goes on with them.

        Raises:
            FolderError: there is something else at `path`, or keys in use.
            StorageError: the disk refuses.
        """
        if (path / LOG).exists() and not any((path / SEEN).glob("[0-9]*")):
            return cls.read(path, name=name)
        with new_folder(path, "--keys") as draft:
            private = generate_private_key(SECP256R1())
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_secret(draft / SIGNING, pem)
            SigningKey.generate().write(draft / LOG)
        return cls.read(path, name=name)

    @classmethod
    def read(cls, path: Path, *, name: str) -> Self:
        """The keys in a folder.

        Args:
            path: the folder.
            name: the registry's.

        Raises:
            InputError: missing, no keys, or readable by others.
        """
        pem = read_secret(path / SIGNING)
        try:
            private = load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            raise InputError("not a private key", where=str(path / SIGNING)) from None
        if not isinstance(private, EllipticCurvePrivateKey):
            raise InputError("another kind of key", where=str(path / SIGNING), expected="P-256")
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        log = SigningKey.read(path / LOG)
        origin = f"presspool-registry/{name}/{key_id(log.public)}"
        return cls(
            path=path,
            public=public.decode(),
            log=notes.Signer.load(origin, log.secret, kind=notes.NOTE),
        )

    @property
    def signing(self) -> Path:
        """The file that signs entries."""
        return self.path / SIGNING

    def held(self) -> AbstractContextManager[object]:
        """Hold the lock of who writes or removes files; raises `BusyError` where another does."""
        words, then = "another process writes to the registry", "type it again once that is done"
        busy = BusyError(words, where=str(self.path), advice=then)
        return locked(self.path / LOCK, busy=busy)

    def check(self, log: StageLog) -> None:
        """See that a log continues the longest that was seen.

        Raises:
            RollbackError: it does not.
            EvidenceError: the memory is damaged.
        """
        seen = sorted((self.path / SEEN).glob("[0-9]*"))
        if seen:
            log.require_continues(notes.parse_note(seen[-1].read_bytes()), whose="a remembered")

    def remember(self, log: StageLog) -> None:
        """Never again take one that does not continue this log, which has been checked.

        Raises:
            StorageError: the disk refuses.
        """
        if log.head is not None:
            folder = private_folder(self.path / SEEN)
            create_file(folder / f"{len(log.tree):08d}", log.head.encode())


def require_apart(keys: Path, registry: str) -> None:
    """Raise `InputError` where private keys would lie in the store that everybody reads."""
    inside = "://" not in registry and keys.resolve().is_relative_to(Path(registry).resolve())
    if inside:
        raise InputError(
            "private keys inside the registry",
            where="--keys",
            expected="a folder that is not in the registry's",
            got=str(keys),
            advice="name a place that only those can read who may decide",
        )
