"""Who this outlet is: its four private keys, its certificate, and what it pinned when it joined.

::

    identity/   tls.key (PEM), update.key, log.key, witness.key (hex): made here, mode 0600,
                never sent
                root.pem, coordinator.json: the coordinator, as the token named it
                addresses: where it is dialled since it has moved, signed by its contract key
                certificate.pem: this outlet, as the pool's root certified it; renewed by itself

Invariants:
    * A private key is made once and never replaced.
    * `coordinator.json` is written last: where it is, the outlet has joined, by the token that it
      names. What a later token of the same pool may change is the certificate and the address.

Example: `identity = Identity.read(Path("outlet-home"))`; `channel(identity.address,
identity.credential, root=identity.root)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.files import replace_file
from presspool.common.base.validation import unread
from presspool.common.contract.contract_schema import Name
from presspool.common.pki.certificates import (
    Credential,
    Facts,
    check_outlet,
    fingerprint_of,
    make_key,
)
from presspool.common.pki.keys import SigningKey, read_secret, write_secret
from presspool.common.transparency import notes
from presspool.common.wire.addresses import Addresses
from presspool.common.wire.peers import PeerKeys, origin_of
from presspool.common.wire.token import Token


@dataclass(frozen=True, kw_only=True)
class Keys:
    """An outlet's private keys, one purpose each; never printed.

    Attributes:
        tls: ECDSA, PEM: makes the connection.
        update: signs updates.
        log: signs the ledger's checkpoints (the seed of a `notes.Signer`).
        witness: cosigns other logs' checkpoints (likewise).
    """

    tls: bytes
    update: SigningKey
    log: SigningKey
    witness: SigningKey

    def __repr__(self) -> str:
        return "Keys(…)"

    @classmethod
    def make(cls, home: Path) -> Self:
        """The keys at `home`; those that are missing are made first.

        Raises:
            InputError: a key that others may read, or that is none.
            StorageError: the disk refuses.
        """
        folder = identity_folder(home)
        if not (folder / "tls.key").exists():
            write_secret(folder / "tls.key", make_key())
        for name in ("update.key", "log.key", "witness.key"):
            if not (folder / name).exists():
                SigningKey.generate().write(folder / name)
        return cls.read(home)

    @classmethod
    def read(cls, home: Path) -> Self:
        """The keys at `home`; raises `InputError` where one is missing or not private."""
        folder = identity_folder(home)
        return cls(
            tls=read_secret(folder / "tls.key"),
            update=SigningKey.read(folder / "update.key"),
            log=SigningKey.read(folder / "log.key"),
            witness=SigningKey.read(folder / "witness.key"),
        )


class _Coordinator(BaseModel):
    """What `coordinator.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pool: Name
    outlet: Name
    address: str
    contract_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    log_key: str
    invitation: str = ""  # of who joined before this was written down


@dataclass(frozen=True, kw_only=True)
class Identity:
    """An outlet that has joined.

    Attributes:
        home: the outlet's folder.
        name: the outlet, as the pool calls it.
        pool: the pool's name.
        addresses: the coordinator's "HOST:PORT"s, to be tried in this order.
        said: its newest word of where that is; None where it has not moved.
        root: the pool's root certificate, PEM.
        certificate: the outlet's, PEM.
        facts: what that certificate says.
        keys: the outlet's private keys.
        contract_key: the coordinator's Ed25519 public key for tasks, 32 bytes.
        log_key: verifier key of the coordinator's log (C2SP signed-note).
        invitation: id of the token that brought this membership; "" where nobody wrote it down.
    """

    home: Path
    name: str
    pool: str
    addresses: tuple[str, ...]
    said: Addresses | None
    root: bytes
    certificate: bytes
    facts: Facts
    keys: Keys
    contract_key: bytes
    log_key: str
    invitation: str

    @property
    def address(self) -> str:
        """The first of the addresses."""
        return self.addresses[0]

    @property
    def moves(self) -> int:
        """Which of its moves the coordinator's newest word is of; 0 where it has not moved."""
        return self.said.moves if self.said else 0

    @property
    def credential(self) -> Credential:
        """What the outlet shows when it connects."""
        return Credential(certificate=self.certificate, key=self.keys.tls)

    @property
    def update(self) -> SigningKey:
        """The key that signs updates."""
        return self.keys.update

    @property
    def witness(self) -> notes.Signer:
        """The key that cosigns other logs' heads."""
        secret = self.keys.witness.secret
        return notes.Signer.load(origin_of(self.name), secret, kind=notes.COSIGNATURE)

    @property
    def log(self) -> notes.Signer:
        """The key that signs the heads of this outlet's ledger."""
        return notes.Signer.load(origin_of(self.name), self.keys.log.secret, kind=notes.NOTE)

    @property
    def peer(self) -> PeerKeys:
        """What the operators of other outlets approve."""
        return PeerKeys(outlet=self.name, witness=self.witness.key, log=self.log.key)

    @classmethod
    def read(cls, home: Path) -> Self:
        """The identity at an outlet's home.

        Raises:
            InputError: the outlet has not joined, or a file was damaged.
        """
        folder = identity_folder(home)
        try:
            found = _Coordinator.model_validate(
                json.loads((folder / "coordinator.json").read_bytes())
            )
            root = (folder / "root.pem").read_bytes()
            certificate = (folder / "certificate.pem").read_bytes()
        except (OSError, ValueError, ValidationError) as error:
            raise InputError(
                "this outlet has not joined a pool",
                where=str(folder),
                got="nothing" if isinstance(error, FileNotFoundError) else unread(error),
                advice="presspool outlet join TOKEN",
            ) from None
        keys = Keys.read(home)
        try:
            facts = check_outlet(certificate, root=root, name=found.outlet, key=keys.tls)
        except EvidenceError as error:
            raise InputError(
                error.what, where=str(folder), expected=error.expected, got=error.got
            ) from None
        said = _statement(folder, root, bytes.fromhex(found.contract_key))
        return cls(
            home=home,
            name=found.outlet,
            pool=found.pool,
            addresses=tuple(dict.fromkeys((*(said.addresses if said else ()), found.address))),
            said=said,
            root=root,
            certificate=certificate,
            facts=facts,
            keys=keys,
            contract_key=bytes.fromhex(found.contract_key),
            log_key=found.log_key,
            invitation=found.invitation,
        )

    @classmethod
    def store(cls, home: Path, token: Token, certificate: bytes) -> Self:
        """Write what a join brought, and read it back.

        Raises:
            EvidenceError: the certificate is not for this outlet and its key.
            StorageError: the disk refuses.
        """
        keys = Keys.read(home)
        check_outlet(certificate, root=token.root, name=token.outlet, key=keys.tls)
        pinned = _Coordinator(
            pool=token.pool,
            outlet=token.outlet,
            address=token.address,
            contract_key=token.contract_key.hex(),
            log_key=token.log_key,
            invitation=token.invitation,
        )
        folder = identity_folder(home)
        replace_file(folder / "root.pem", token.root)
        replace_file(folder / "certificate.pem", certificate)
        replace_file(folder / "coordinator.json", pinned.model_dump_json(indent=1).encode() + b"\n")
        found = cls.read(home)
        if found.said and token.address not in found.said.addresses:
            (folder / "addresses").unlink()  # the token is the newest word
        return cls.read(home)

    def renewed(self, certificate: bytes) -> Self:
        """Replace the certificate by a later one for the same key.

        Raises:
            EvidenceError: it is not for this outlet and its key.
            StorageError: the disk refuses.
        """
        check_outlet(certificate, root=self.root, name=self.name, key=self.keys.tls)
        replace_file(identity_folder(self.home) / "certificate.pem", certificate)
        return self.read(self.home)

    def told(self, statement: bytes) -> Self:
        """Take the coordinator's word of where it is: the one that is known, or a later one.

        Raises:
            EvidenceError: not signed by this pool's contract key; older than what is known; or
                another one of the same move.
            StorageError: the disk refuses.
        """
        root = fingerprint_of(self.root)
        said = Addresses.open(statement, root=root, key=self.contract_key)
        if said == self.said:
            return self
        if self.said and said.moves <= self.moves:
            older = said.moves < self.moves
            raise EvidenceError(
                f"{'an older' if older else 'another'} word of where the coordinator is",
                expected=f"move {self.moves} to {', '.join(self.said.addresses)}, or a later one",
                got=f"move {said.moves} to {', '.join(said.addresses)}",
            )
        replace_file(identity_folder(self.home) / "addresses", statement)
        return self.read(self.home)


def joined_as(home: Path) -> str | None:
    """What the pool calls the outlet at a home; None where it has not joined, or cannot be read."""
    try:
        read = (identity_folder(home) / "coordinator.json").read_bytes()
        return _Coordinator.model_validate(json.loads(read)).outlet
    except (OSError, ValueError, ValidationError):
        return None


def _statement(folder: Path, root: bytes, key: bytes) -> Addresses | None:
    """The kept statement; none where it is damaged: the token's address is tried then."""
    try:
        data = (folder / "addresses").read_bytes()
        return Addresses.open(data, root=fingerprint_of(root), key=key)
    except (OSError, EvidenceError):
        return None


def identity_folder(home: Path) -> Path:
    """Where a home's identity lies."""
    return home / "identity"
