"""The list of members that a coordinator's operator sees: who is in, who waits, who was cut off.

Example: `standings(database, now=time.time())`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from presspool.server.database import Database
from presspool.server.membership.fleet import Sighting, sightings
from presspool.server.membership.member_schema import CertificateRow, Invitation, Outlet, newest


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One line of the list of members.

    Attributes:
        name: the outlet.
        state: "invited", "expired" (token unused), "waiting" (asks to be admitted), "member",
            "lapsed" (not renewed in time) or "revoked".
        since: POSIX seconds.
        until: POSIX seconds until which token or certificate are good.
        note: reason of a revocation, or that somebody else tried the token.
        heard: when the outlet was last heard of, and what it said of itself; None for never.
    """

    name: str
    state: str
    since: int
    until: int
    note: str
    heard: Sighting | None = None


def standings(database: Database, *, now: float) -> list[Standing]:
    """Everybody who is, was or may become a member, by name and time."""
    heard = sightings(database)
    with database.reading() as session:
        invitations = session.scalars(
            select(Invitation).where(Invitation.withdrawn.is_(None), Invitation.outlet_id.is_(None))
        )
        lines = [_invited(row, now) for row in invitations]
        lines += [
            _admitted(row, newest(session, row), now, heard.get(row.name))
            for row in session.scalars(select(Outlet))
        ]
    return sorted(lines, key=lambda line: (line.name, line.since))


def _invited(row: Invitation, now: float) -> Standing:
    state = "waiting" if row.request else "invited" if now < row.expires else "expired"
    note = "somebody else tried the token as well" if row.disputed else ""
    return Standing(
        name=row.name, state=state, since=row.requested or row.made, until=row.expires, note=note
    )


def _admitted(row: Outlet, last: CertificateRow, now: float, heard: Sighting | None) -> Standing:
    if row.revoked is not None:
        return Standing(
            name=row.name,
            state="revoked",
            since=row.revoked,
            until=row.revoked,
            note=row.reason or "",
        )
    state = "member" if now < last.ends else "lapsed"
    return Standing(
        name=row.name, state=state, since=row.admitted, until=last.ends, note="", heard=heard
    )
