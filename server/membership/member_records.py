"""Looking up and writing down what `members` decides about, inside its transactions.

Invariants:
    * An invitation that is decided about is locked until its transaction ends.
    * What is not there or not open is refused here, in the words of `ENROLMENT_REFUSALS` for an
      outlet and as an `InputError` for the operator.

Example: `require_free(session, "daily-bugle", now)` is None, or the membership that has lapsed.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from presspool.common.base.errors import AdmissionError, InputError
from presspool.common.pki.certificates import (
    DAY,
    INVITATION,
    Credential,
    Facts,
    issue_outlet,
    read_certificate,
)
from presspool.common.pki.tls import Caller
from presspool.common.wire import enrolment
from presspool.common.wire.enrolment import PublicKeys
from presspool.server.membership import member_schema
from presspool.server.membership.member_schema import CertificateRow, Invitation, Outlet

MOST_A_DAY: Final = 4  # certificates of an outlet, which needs one in twenty days
ANSWER_SECONDS: Final = 7 * DAY  # how long after a token's end its operator may still admit


def require_invitation(caller: Caller) -> None:
    """Raise `AdmissionError` unless the caller came with an invitation."""
    if caller.kind != INVITATION:
        raise refusal("not-an-invitation")


def invitation(session: Session, caller: Caller) -> Invitation:
    """The caller's invitation, locked, if it was not withdrawn."""
    found = session.get(Invitation, caller.name, with_for_update=True)
    if found is None:
        raise refusal("not-an-invitation")
    if found.withdrawn is not None:
        raise refusal("token-withdrawn")
    return found


def waiting(session: Session, name: str, now: int) -> tuple[Invitation, PublicKeys]:
    """The one open invitation of a name whose keys wait for the operator."""
    found = session.scalars(
        select(Invitation)
        .where(
            Invitation.name == name,
            Invitation.withdrawn.is_(None),
            Invitation.outlet_id.is_(None),
            Invitation.expires > now - ANSWER_SECONDS,
        )
        .with_for_update()
    ).first()
    if found is None or found.request is None:
        raise InputError(
            "no outlet of this name waits to be admitted",
            where=name,
            expected="one that has run `presspool outlet join`",
            advice="presspool coordinator members lists who waits",
        )
    return found, member_schema.keys_of(found)


def require_free(session: Session, name: str, now: int) -> Outlet | None:
    """The membership of this name that has lapsed, or None; raises `InputError` if it has not."""
    outlet = member_schema.membership(session, name)
    if outlet is not None and member_schema.newest(session, outlet).ends > now:
        raise InputError(
            "already a member",
            where=name,
            expected="a name that is free",
            advice=f"for new keys: presspool coordinator revoke {name} --reason …",
        )
    return outlet


def require_seldom(session: Session, outlet: Outlet, now: int) -> None:
    """Raise `AdmissionError` where the outlet got `MOST_A_DAY` certificates in the last day."""
    recent = (CertificateRow.outlet_id == outlet.id, CertificateRow.begins > now - DAY)
    if (session.scalar(select(func.count()).where(*recent)) or 0) >= MOST_A_DAY:
        raise refusal("renewed-often")


def certify(session: Session, outlet: Outlet, request: bytes, root: Credential, now: int) -> Facts:
    """Issue an outlet's certificate and write it down."""
    pem = issue_outlet(root, outlet.name, request, now=now)
    facts = read_certificate(pem)
    session.add(
        CertificateRow(
            serial=facts.serial, outlet_id=outlet.id, begins=facts.begins, ends=facts.ends, pem=pem
        )
    )
    session.flush()
    return facts


def refusal(code: str) -> AdmissionError:
    """A refusal in its agreed words."""
    what, advice = enrolment.ENROLMENT_REFUSALS[code]
    return AdmissionError(code, what, advice=advice)
