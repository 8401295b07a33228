"""How an outlet joins a pool, and how its certificate is renewed afterwards.

Keys are made here and stay here; what is sent is a certificate request, three public keys and three
signatures. Until the coordinator's operator has confirmed the keys' fingerprint the outlet waits.
It may be stopped at any moment: the same token goes on with the same keys.

Invariants:
    * The coordinator is believed for one thing only: a certificate for our own key and the token's
      name under the token's root. Root, contract key and log key come from the token.
    * One process joins at a home at a time.
    * A later token of the same pool and name renews a membership that was revoked, lost by the
      coordinator, or is to be found elsewhere: same keys, same ledger, new certificate and address.
      A token of another root, name, contract key or log key changes nothing.

Example::

    with Joining.begin(token, Path("outlet")) as joining:
        print(joining.fingerprint)
        joining.ask()
        while (identity := joining.collect()) is None:
            time.sleep(POLL_SECONDS)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from presspool.client.identity.dialling import reach
from presspool.client.identity.identity import Identity, Keys, identity_folder
from presspool.common.base.errors import FolderError, InputError, LinkError
from presspool.common.base.files import private_folder
from presspool.common.base.locks import locked
from presspool.common.pki.certificates import (
    certificate_from_der,
    fingerprint_of,
    make_request,
    read_certificate,
    requested_key,
)
from presspool.common.pki.tls import channel
from presspool.common.proto import enrolment_pb2 as messages
from presspool.common.proto.enrolment_pb2_grpc import EnrolmentStub, MembershipStub
from presspool.common.wire import enrolment
from presspool.common.wire.enrolment import PublicKeys, prove
from presspool.common.wire.token import LARGEST_TOKEN, PREFIX, Token

POLL_SECONDS: Final = 2.0
CALL_SECONDS: Final = 20.0  # a link that cannot be made within this time is down


@dataclass(frozen=True, kw_only=True)
class Joining:
    """A join under way.

    Attributes:
        token: the invitation.
        home: the outlet's folder.
        keys: its private keys.
        link: to the coordinator, with the invitation's certificate.
    """

    token: Token
    home: Path
    keys: Keys
    link: grpc.Channel

    @classmethod
    @contextmanager
    def begin(cls, token: Token, home: Path) -> Iterator[Joining]:
        """Make the keys, or find those of a join that was stopped.

        Raises:
            FolderError: another process joins here.
            StorageError: the disk refuses.
        """
        busy = FolderError(
            "another process joins here", where=str(home), advice="let it finish, or end it"
        )
        with (
            locked(private_folder(identity_folder(home)) / "lock", busy=busy),
            channel(token.address, token.credential, root=token.root) as link,
        ):
            yield cls(token=token, home=home, keys=Keys.make(home), link=link)

    @property
    def fingerprint(self) -> str:
        """What the two operators compare."""
        tls = requested_key(make_request(self.keys.tls))
        return PublicKeys(
            tls=tls,
            update=self.keys.update.public,
            log=self.keys.log.public,
            witness=self.keys.witness.public,
        ).fingerprint

    def ask(self) -> None:
        """Send the public keys, with a proof that each private one is here.

        Raises:
            InputError: the token is used, expired or withdrawn.
            LinkError: the coordinator cannot be reached.
        """
        request = make_request(self.keys.tls)
        proofs = prove(
            self.token.invitation,
            request,
            update=self.keys.update,
            log=self.keys.log,
            witness=self.keys.witness,
        )
        with explaining(self.token.address):
            EnrolmentStub(self.link).Join(  # type: ignore[no-untyped-call]
                messages.JoinRequest(**proofs.__dict__), timeout=CALL_SECONDS
            )

    def collect(self) -> Identity | None:
        """The finished identity once the coordinator's operator has admitted us, None before.

        Raises:
            InputError: the token was withdrawn, or the outlet revoked again.
            LinkError: the coordinator cannot be reached.
            EvidenceError: what came is not our certificate.
        """
        with explaining(self.token.address):
            reply = EnrolmentStub(self.link).Collect(  # type: ignore[no-untyped-call]
                messages.CollectRequest(), timeout=CALL_SECONDS
            )
        if not reply.certificate:
            return None
        return Identity.store(self.home, self.token, certificate_from_der(reply.certificate))


def joined(token: Token, home: Path, *, now: float) -> Identity | None:
    """The identity at `home` if this token brought it; None where there is one to be brought.

    Raises:
        FolderError: a membership of another pool or name is here, or of other keys of the pool.
    """
    if not (identity_folder(home) / "coordinator.json").exists():
        return None
    found = Identity.read(home)
    if (found.root, found.name) != (token.root, token.outlet):
        raise FolderError(
            "this home belongs to another membership",
            where=str(home),
            expected=f"a token for {found.name} in {found.pool}, root {_short(found.root)}",
            got=f"one for {token.outlet} in {token.pool}, root {_short(token.root)}",
            advice="choose another --home; its keys are never replaced",
        )
    if (found.contract_key, found.log_key) != (token.contract_key, token.log_key):
        raise FolderError(
            "the token names other keys than the pool had when this outlet joined",
            where=str(home),
            expected=f"log key {found.log_key}",
            got=token.log_key,
            advice="nothing was changed; ask the coordinator's operator by telephone",
        )
    same = found.invitation == token.invitation or _brought(token, found)
    # else it joins again, with the same keys
    return found if same and now < found.facts.ends else None


def _brought(token: Token, found: Identity) -> bool:
    """Whether a token may have brought a membership of which nobody wrote down by which it came."""
    issued = read_certificate(token.credential.certificate).begins
    known = not found.invitation and token.address in found.addresses
    return known and issued <= found.facts.begins


def _short(root: bytes) -> str:
    return f"sha256 {fingerprint_of(root)[:16]}…"


def read_token(argument: str) -> Token:
    """The token that was typed: its text, the path of a file that holds it, or "-" for input.

    Raises:
        InputError: none of them.
    """
    if argument.lstrip().startswith(PREFIX):
        return Token.parse(argument)
    if argument == "-":
        return Token.parse(sys.stdin.read(2 * LARGEST_TOKEN))
    try:
        with Path(argument).open(encoding="ascii", errors="replace") as stream:
            return Token.parse(stream.read(2 * LARGEST_TOKEN))
    except OSError:
        raise InputError(
            "neither a token nor a file that holds one",
            where="TOKEN",
            expected=f"a line that begins {PREFIX}, a file, or - for input",
            got=ascii(argument[:60]),
        ) from None


def renew_if_due(identity: Identity, *, now: float) -> Identity:
    """The identity with a fresh certificate once two thirds of its life are over, else itself.

    The old certificate stays good until it ends, so links that use it need not be cut.

    Args:
        identity: the outlet.
        now: POSIX seconds.

    Raises:
        InputError: the outlet was revoked or its certificate has expired.
        LinkError: the coordinator cannot be reached; try again later.
        EvidenceError: what came is not our certificate.
    """
    if now < identity.facts.renewal_due:
        return identity
    request = make_request(identity.keys.tls)
    body = enrolment.renewal_body(identity.facts.serial, request)
    signature = identity.update.sign(enrolment.RENEWAL, body)
    with (
        explaining(identity.address),
        reach(identity) as link,
    ):
        reply = MembershipStub(link).Renew(  # type: ignore[no-untyped-call]
            messages.RenewRequest(request=request, signature=signature), timeout=CALL_SECONDS
        )
    return identity.renewed(certificate_from_der(reply.certificate))


_SILENCE = {
    grpc.StatusCode.UNAVAILABLE: "nobody answers there, or something that is no coordinator of it",
    grpc.StatusCode.DEADLINE_EXCEEDED: "no answer in time",
}


@contextmanager
def explaining(address: str) -> Iterator[None]:
    """Say what a failed call means; of the coordinator's words only a known code is shown."""
    try:
        yield
    except grpc.RpcError as error:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.PERMISSION_DENIED and details in enrolment.ENROLMENT_REFUSALS:
            what, advice = enrolment.ENROLMENT_REFUSALS[details]
            raise InputError(what, where=address, got=details, advice=advice) from None
        raise LinkError(
            "cannot talk to the coordinator",
            where=address,
            got=_SILENCE.get(code, code.name),
            advice="see that it runs and can be reached, and that this computer's clock is right; "
            "then type the same command",
        ) from None
