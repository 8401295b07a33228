"""The tables behind `presspool.server.membership.members`: invitations, outlets and certificates.

Times are POSIX seconds. Rows are never deleted, so that who was a member, when, and with which
keys can be told for as long as the database lives. They change by migrations only.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from presspool.common.pki.certificates import requested_key
from presspool.common.wire.enrolment import PublicKeys
from presspool.server.database import Base

MEMBERSHIP = text("revoked IS NULL")


class Outlet(Base):
    """A membership; an outlet that joins again after its revocation gets a new one."""

    __tablename__ = "outlets"
    __table_args__ = (
        # Two memberships of one name at a time are impossible, whatever two operators type at once.
        Index(
            "one_membership_a_name",
            "name",
            unique=True,
            sqlite_where=MEMBERSHIP,
            postgresql_where=MEMBERSHIP,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    update_key: Mapped[bytes] = mapped_column(LargeBinary)
    log_key: Mapped[bytes] = mapped_column(LargeBinary)
    # None for who joined before outlets had witnesses.
    witness_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    admitted: Mapped[int] = mapped_column(BigInteger)
    revoked: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str | None] = mapped_column(String(500))


class Invitation(Base):
    """A token: open until it expires or is withdrawn, and used by at most one set of keys."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    made: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int] = mapped_column(BigInteger)
    withdrawn: Mapped[int | None] = mapped_column(BigInteger)
    requested: Mapped[int | None] = mapped_column(BigInteger)
    disputed: Mapped[int | None] = mapped_column(BigInteger)
    request: Mapped[bytes | None] = mapped_column(LargeBinary)
    update_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    log_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    witness_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    outlet_id: Mapped[int | None] = mapped_column(ForeignKey("outlets.id"))


class CertificateRow(Base):
    """A certificate that an outlet was given."""

    __tablename__ = "certificates"

    serial: Mapped[str] = mapped_column(String(40), primary_key=True)
    outlet_id: Mapped[int] = mapped_column(ForeignKey("outlets.id"), index=True)
    begins: Mapped[int] = mapped_column(BigInteger)
    ends: Mapped[int] = mapped_column(BigInteger)
    pem: Mapped[bytes] = mapped_column(LargeBinary)


def keys_of(invitation: Invitation) -> PublicKeys:
    """The public keys that an invitation was used with."""
    assert invitation.request is not None
    assert invitation.update_key is not None
    assert invitation.log_key is not None
    return PublicKeys(
        tls=requested_key(invitation.request),
        update=invitation.update_key,
        log=invitation.log_key,
        witness=invitation.witness_key or b"",
    )


def membership(session: Session, name: str) -> Outlet | None:
    """The membership of a name that is not revoked, locked."""
    return session.scalars(
        select(Outlet).where(Outlet.name == name, Outlet.revoked.is_(None)).with_for_update()
    ).one_or_none()


def newest(session: Session, outlet: Outlet) -> CertificateRow:
    """The outlet's certificate that ends last; none is admitted without one."""
    return session.scalars(
        select(CertificateRow)
        .where(CertificateRow.outlet_id == outlet.id)
        .order_by(CertificateRow.ends.desc())
    ).first()  # type: ignore[return-value]


def withdraw(session: Session, name: str, now: int) -> int:
    """Close all invitations of a name that admitted nobody; how many there were."""
    found = session.scalars(
        select(Invitation).where(
            Invitation.name == name, Invitation.withdrawn.is_(None), Invitation.outlet_id.is_(None)
        )
    ).all()
    for invitation in found:
        invitation.withdrawn = now
    return len(found)
