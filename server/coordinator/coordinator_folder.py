"""The coordinator's home: who it is, its keys, its certificates and where its database is.

::

    coordinator.toml     name, address and, unless it is coordinator.db beside it, the database
    keys/                root.key, tls.key (PEM), contract.key, log.key (hex), all of mode 0600
    certificates/        root.pem, server.pem
    coordinator.db       members, tasks and updates
    runs/                one folder a run

Invariants:
    * A home is made whole or not at all, and never over another one.
    * One purpose a key: the root issues certificates, the TLS key answers the port, the contract
      key signs tasks, the log key signs the coordinator's log.

Example: `folder = CoordinatorFolder.read(Path("pool"))`; `folder.root`, `folder.contract_key`.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from presspool.common.base.archives import new_folder
from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.files import replace_file
from presspool.common.base.toml_values import read_toml, toml_value
from presspool.common.base.validation import validate
from presspool.common.contract.contract_schema import Name
from presspool.common.pki.certificates import (
    Credential,
    fingerprint_of,
    issue_invitation,
    issue_server,
    make_root,
)
from presspool.common.pki.keys import SigningKey, read_secret, write_secret
from presspool.common.pki.tls import split_address
from presspool.common.transparency import notes
from presspool.common.wire.addresses import MOST_ADDRESSES, Addresses
from presspool.common.wire.token import Token
from presspool.server.database import Database
from presspool.server.membership.member_list import standings
from presspool.server.membership.members import Invited

SETTINGS: Final = "coordinator.toml"
DATABASE: Final = "coordinator.db"


class CoordinatorSettings(BaseModel):
    """What `coordinator.toml` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    address: Annotated[str, Field(max_length=300)]
    database: str | None = None
    log: str | None = None  # its name; "HOST/POOL" of the address where none was written down
    also: tuple[str, ...] = ()  # addresses of before
    moves: StrictInt = 0

    @property
    def toml(self) -> bytes:
        """As it is written."""
        lines = [
            f"{key} = {toml_value(value)}\n"
            for key, value in self.model_dump(exclude_defaults=True).items()
        ]
        return "".join(lines).encode()


@dataclass(frozen=True, kw_only=True)
class CoordinatorFolder:
    """A coordinator's identity; private keys are in memory and never printed.

    Attributes:
        path: the home.
        name: the pool's name.
        address: "HOST:PORT", where outlets dial it.
        database: URL.
        root: the pool's root certificate and key.
        server: the certificate and key of its port.
        contract: signs tasks.
        log: signs its log, under a name that does not hang on the address.
        also: addresses of before, at which it may still be dialled.
        moves: rises with each move, also of a pool restored from before one: seconds since 1970.
    """

    path: Path
    name: str
    address: str
    database: str
    root: Credential
    server: Credential
    contract: SigningKey
    log: notes.Signer
    also: tuple[str, ...]
    moves: int

    def __repr__(self) -> str:
        return f"CoordinatorFolder({self.name} at {self.address}, {self.path})"

    @classmethod
    def create(
        cls, path: Path, *, name: str, address: str, database: str | None, now: float
    ) -> Self:
        """Make a new home with new keys and an empty database.

        Args:
            path: where nothing is yet.
            name: the pool's name.
            address: "HOST:PORT", where outlets will dial it.
            database: URL, or None for SQLite in the home.
            now: POSIX seconds.

        Raises:
            InputError: a name or address that cannot be, or a database that cannot be reached.
            FolderError: there is something at `path`.
            StorageError: the disk refuses.
        """
        settings = validate(
            CoordinatorSettings,
            {"name": name, "address": address, "database": database},
            where="coordinator",
            fault=InputError,
        )
        host, _ = split_address(address, where="--address")
        with new_folder(path) as draft:
            root = _write_keys(draft, name, host, now)
            log = f"presspool-pool/{name}/{fingerprint_of(root.certificate)[:16]}"
            settings = settings.model_copy(update={"log": log})
            write_secret(draft / SETTINGS, settings.toml)  # a database's URL may hold a password
            _require_unused(database or _beside(draft), now)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The home at `path`.

        Raises:
            InputError: there is none, or it was damaged.
        """
        settings = settings_in(path)
        host, _ = split_address(settings.address, where=str(path / SETTINGS))
        keys = path / "keys"
        log = SigningKey.read(keys / "log.key")
        return cls(
            path=path,
            name=settings.name,
            address=settings.address,
            database=settings.database or _beside(path),
            root=_credential(path, "root", "root"),
            server=_credential(path, "server", "tls"),
            contract=SigningKey.read(keys / "contract.key"),
            log=notes.Signer.load(
                settings.log or f"{host}/{settings.name}", log.secret, kind=notes.NOTE
            ),
            also=settings.also,
            moves=settings.moves,
        )

    def moved(self, address: str, *, now: float) -> Self:
        """Be dialled at another address from now on, and at the former ones as long as they answer.

        The log keeps its name and the port its key; the certificate is issued for all of them. A
        coordinator that is running takes it up at its next start.

        Args:
            address: "HOST:PORT", the new one; the present one to issue the certificate anew.
            now: POSIX seconds.

        Raises:
            InputError: not an address.
            StorageError: the disk refuses; what was written is whole, and the same call goes on.
        """
        split_address(address, where="ADDRESS")
        known = tuple(dict.fromkeys((address, self.address, *self.also)))[:MOST_ADDRESSES]
        hosts = [split_address(one, where="address")[0] for one in known]
        server = issue_server(self.root, *hosts, now=now, key=self.server.key)
        settings = settings_in(self.path).model_copy(
            update={
                "address": address,
                "also": known[1:],
                "log": self.log.key.name,
                "moves": self.moves if address == self.address else max(self.moves + 1, int(now)),
            }
        )
        # The certificate first: it is good for the old address too.
        replace_file(self.path / "certificates" / "server.pem", server.certificate)
        write_secret(self.path / SETTINGS, settings.toml)
        return self.read(self.path)

    @property
    def addresses(self) -> bytes:
        """What outlets are told of where to dial, signed; nothing for a pool that never moved."""
        if not self.moves:
            return b""
        root = fingerprint_of(self.root.certificate)
        said = Addresses(root=root, moves=self.moves, addresses=(self.address, *self.also))
        return said.signed(self.contract)

    def token(self, invited: Invited, *, now: float) -> Token:
        """The token of a new invitation; its private key is nowhere else."""
        credential = issue_invitation(self.root, invited.id, now=now, until=invited.answerable)
        return Token(
            pool=self.name,
            address=self.address,
            outlet=invited.name,
            invitation=invited.id,
            expires=invited.expires,
            root=self.root.certificate,
            contract_key=self.contract.public,
            log_key=self.log.key.text,
            credential=credential,
        )


def settings_in(path: Path) -> CoordinatorSettings:
    """The settings of the home at `path`; raises `InputError` where there are none."""
    body = read_toml(
        path / SETTINGS,
        what="not a coordinator's home",
        expected=f"a folder with {SETTINGS}",
        advice="presspool coordinator init makes one",
    )
    return validate(CoordinatorSettings, body, where=str(path / SETTINGS), fault=InputError)


def _write_keys(folder: Path, name: str, host: str, now: float) -> Credential:
    root = make_root(name, now=now)
    server = issue_server(root, host, now=now)
    for part in ("keys", "certificates", "runs"):
        (folder / part).mkdir()
    for file, credential in (("root", root), ("tls", server)):
        write_secret(folder / "keys" / f"{file}.key", credential.key)
    for file in ("contract", "log"):
        SigningKey.generate().write(folder / "keys" / f"{file}.key")
    for file, credential in (("root", root), ("server", server)):
        (folder / "certificates" / f"{file}.pem").write_bytes(credential.certificate)
    return root


def _require_unused(url: str, now: float) -> None:
    """Make the tables, unless the database is another pool's, whose members we cannot know."""
    with closing(Database.open(url)) as database:
        if standings(database, now=now):
            raise FolderError(
                "the database belongs to another pool",
                where="--database",
                expected="a new one",
                advice="create another",
            )


def _credential(path: Path, certificate: str, key: str) -> Credential:
    try:
        pem = (path / "certificates" / f"{certificate}.pem").read_bytes()
    except OSError as error:
        raise InputError(
            "cannot read a certificate", where=str(error.filename), got=error.strerror
        ) from None
    return Credential(certificate=pem, key=read_secret(path / "keys" / f"{key}.key"))


def _beside(path: Path) -> str:
    return f"sqlite:///{path / DATABASE}"
