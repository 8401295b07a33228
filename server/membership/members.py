"""Who belongs to the pool: invited, asked, admitted, renewed, revoked.

A certificate that the root signed opens the connection; whether its holder may do anything is asked
here, on each call and during streams, so that `revoke` works at once and not when certificates
expire.

Invariants:
    * An invitation is bound to one name and admits one set of keys; the first that asks with it.
    * Nobody becomes a member before the operator typed the fingerprint of exactly these keys. It
      is shown nowhere at the coordinator: it can only come from the outlet's operator.
    * A certificate works while it is known, in its time, and its outlet is not revoked. A renewal
      leaves the old one valid until it expires.
    * All checks of one decision are made in the transaction that writes it.

Example:
    `members.invite("daily-bugle", ttl=86400)`, then the outlet's `request`, then
    `members.admit("daily-bugle", "F2M3-RWOV-A2TL-VY7U", root)`, then `members.member(caller)`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.pki.certificates import (
    OUTLET,
    Credential,
    Facts,
    read_certificate,
    requested_key,
)
from presspool.common.pki.keys import same_fingerprint, verify
from presspool.common.pki.tls import Caller
from presspool.common.wire import enrolment
from presspool.common.wire.enrolment import Proofs, PublicKeys, check_proofs
from presspool.common.wire.peers import PeerKeys
from presspool.server.database import Database
from presspool.server.membership import member_records
from presspool.server.membership.member_schema import (
    CertificateRow,
    Invitation,
    Outlet,
    keys_of,
    membership,
    newest,
    withdraw,
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """An outlet that may work.

    Attributes:
        name: the outlet, as contracts call it.
        update_key: Ed25519 public key of its updates, 32 bytes.
        peer: its keys for heads; None for who joined before outlets had witnesses.
    """

    name: str
    update_key: bytes
    peer: PeerKeys | None


@dataclass(frozen=True, kw_only=True)
class Invited:
    """A new invitation.

    Attributes:
        id: 32 hexadecimal digits.
        name: the outlet that may use it.
        expires: POSIX seconds by which it must have asked.
        answerable: POSIX seconds until which it may be admitted and fetch its certificate.
    """

    id: str
    name: str
    expires: int
    answerable: int


class Members:
    """The pool's membership, in the coordinator's database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """The coordinator's clock, POSIX seconds."""
        return self._clock()

    def invite(self, name: str, *, ttl: int) -> Invited:
        """A new invitation; it takes the place of an unanswered one for the same name.

        Args:
            name: the outlet.
            ttl: seconds in which it must ask.

        Raises:
            InputError: the outlet is a member.
        """
        now = int(self._clock())
        identifier = secrets.token_hex(16)
        with self._database.writing() as session:
            member_records.require_free(session, name, now)
            withdraw(session, name, now)
            session.add(Invitation(id=identifier, name=name, made=now, expires=now + ttl))
        expires = now + ttl
        return Invited(
            id=identifier,
            name=name,
            expires=expires,
            answerable=expires + member_records.ANSWER_SECONDS,
        )

    def request(self, caller: Caller, proofs: Proofs) -> PublicKeys:
        """Take the keys of an outlet that uses its invitation; the same keys may come again.

        Raises:
            AdmissionError: a word of `presspool.common.wire.enrolment.ENROLMENT_REFUSALS`.
        """
        member_records.require_invitation(caller)
        try:
            keys = check_proofs(caller.name, proofs)
        except EvidenceError as error:
            raise member_records.refusal("bad-proof") from error
        now = int(self._clock())
        with self._database.writing() as session:
            invitation = member_records.invitation(session, caller)
            if invitation.request is None:
                if now >= invitation.expires:
                    raise member_records.refusal("token-expired")
                invitation.requested, invitation.request = now, proofs.request
                invitation.update_key, invitation.log_key = proofs.update_key, proofs.log_key
                invitation.witness_key = proofs.witness_key
            disputed = keys_of(invitation) != keys
            if disputed:
                invitation.disputed = now
        if disputed:  # after the block, so that it stays written
            raise member_records.refusal("token-used")
        return keys

    def admit(self, name: str, fingerprint: str, root: Credential) -> Facts:
        """Make the outlet whose keys have this fingerprint a member.

        Returns:
            What its certificate says.

        Raises:
            InputError: nobody asked, or with other keys.
        """
        now = int(self._clock())
        with self._database.writing() as session:
            invitation, keys = member_records.waiting(session, name, now)
            if not same_fingerprint(fingerprint, keys.fingerprint):
                raise InputError(
                    "not the fingerprint of the keys that asked to join",
                    where=name,
                    expected="the one that the outlet's operator reads to you from the screen",
                    got=ascii(fingerprint),
                    advice="read it again; if it still differs somebody else used the token: "
                    f"presspool coordinator invite {name} makes a new one",
                )
            if lapsed := member_records.require_free(session, name, now):
                lapsed.revoked, lapsed.reason = now, "joined again after its certificate expired"
                session.flush()  # before the new membership of the name
            outlet = Outlet(
                name=name,
                update_key=keys.update,
                log_key=keys.log,
                witness_key=keys.witness or None,
                admitted=now,
            )
            session.add(outlet)
            session.flush()
            invitation.outlet_id = outlet.id
            assert invitation.request is not None
            return member_records.certify(session, outlet, invitation.request, root, now)

    def collect(self, caller: Caller) -> bytes | None:
        """The certificate (PEM) of the outlet that used this invitation; None while it waits.

        Raises:
            AdmissionError: the invitation was withdrawn, or its outlet revoked.
        """
        member_records.require_invitation(caller)
        with self._database.reading() as session:
            invitation = member_records.invitation(session, caller)
            if invitation.outlet_id is None:
                return None
            outlet = session.get_one(Outlet, invitation.outlet_id)
            if outlet.revoked is not None:
                raise member_records.refusal("revoked")
            return newest(session, outlet).pem

    def member(self, caller: Caller) -> Member:
        """The member who calls; one look-up by key, so that it can be asked for every chunk.

        Raises:
            AdmissionError: "not-a-member" or "revoked".
        """
        with self._database.reading() as session:
            row = session.execute(
                select(
                    Outlet.name,
                    Outlet.update_key,
                    Outlet.log_key,
                    Outlet.witness_key,
                    Outlet.revoked,
                    CertificateRow.begins,
                    CertificateRow.ends,
                )
                .join(CertificateRow, CertificateRow.outlet_id == Outlet.id)
                .where(CertificateRow.serial == caller.serial)
            ).one_or_none()
        if caller.kind != OUTLET or row is None or row.name != caller.name:
            raise member_records.refusal("not-a-member")
        if row.revoked is not None:
            raise member_records.refusal("revoked")
        if not row.begins <= self._clock() < row.ends:  # a connection may outlive its certificate
            raise member_records.refusal("not-a-member")
        return Member(
            name=row.name,
            update_key=row.update_key,
            peer=_peer(row.name, row.witness_key, row.log_key),
        )

    def names(self) -> frozenset[str]:
        """Everybody who is a member now."""
        now = self._clock()
        with self._database.reading() as session:
            return frozenset(
                session.scalars(
                    select(Outlet.name)
                    .join(CertificateRow, CertificateRow.outlet_id == Outlet.id)
                    .where(
                        Outlet.revoked.is_(None),
                        CertificateRow.begins <= now,
                        now < CertificateRow.ends,
                    )
                )
            )

    def peers(self) -> list[PeerKeys]:
        """The keys for heads of everybody who is a member now, by name."""
        present = self.names()
        with self._database.reading() as session:
            rows = session.scalars(
                select(Outlet).where(Outlet.revoked.is_(None), Outlet.name.in_(present))
            )
            found = [_peer(row.name, row.witness_key, row.log_key) for row in rows]
        return sorted((peer for peer in found if peer is not None), key=lambda peer: peer.outlet)

    def renew(self, caller: Caller, request: bytes, signature: bytes, root: Credential) -> bytes:
        """The outlet's next certificate (PEM); the one it has while that is not due.

        Raises:
            AdmissionError: not a member, revoked, a key did not prove possession, or it was
                renewed too often today.
        """
        member = self.member(caller)
        try:
            public = requested_key(request)
            body = enrolment.renewal_body(caller.serial, request)
            verify(member.update_key, enrolment.RENEWAL, body, signature)
        except EvidenceError as error:
            raise member_records.refusal("bad-proof") from error
        now = int(self._clock())
        with self._database.writing() as session:
            outlet = membership(session, member.name)
            if outlet is None:
                raise member_records.refusal("revoked")
            last = newest(session, outlet)
            facts = read_certificate(last.pem)
            if facts.public == public and now < facts.renewal_due:
                return last.pem
            member_records.require_seldom(session, outlet, now)
            serial = member_records.certify(session, outlet, request, root, now).serial
            return session.get_one(CertificateRow, serial).pem

    def revoke(self, name: str, reason: str) -> None:
        """Cut an outlet off, and withdraw its open invitations.

        Raises:
            InputError: nobody of that name is a member or invited.
        """
        now = int(self._clock())
        with self._database.writing() as session:
            outlet = membership(session, name)
            if outlet is not None:
                outlet.revoked, outlet.reason = now, reason
            if not withdraw(session, name, now) and outlet is None:
                raise InputError(
                    "nobody to revoke",
                    where=name,
                    expected="a member or an invited outlet",
                    advice="presspool coordinator members lists them",
                )


def _peer(name: str, witness: bytes | None, log: bytes) -> PeerKeys | None:
    return PeerKeys.made(name, witness=witness, log=log) if witness else None
