"""Membership: every way in that is not the operators' common will stays shut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import select

from presspool.common.base.errors import AdmissionError, InputError
from presspool.common.pki.certificates import (
    DAY,
    OUTLET_DAYS,
    make_key,
    make_request,
    make_root,
    read_certificate,
)
from presspool.common.pki.keys import SigningKey
from presspool.common.pki.tls import Caller
from presspool.common.wire import enrolment
from presspool.common.wire.enrolment import Proofs, check_proofs, prove
from presspool.server.database import Database
from presspool.server.membership.member_list import standings
from presspool.server.membership.member_records import ANSWER_SECONDS, MOST_A_DAY
from presspool.server.membership.member_schema import Invitation
from presspool.server.membership.members import Invited, Members

START = 1_800_000_000
ROOT = make_root("press-pool", now=START)
NAME = "daily-bugle"


@dataclass(frozen=True)
class Applicant:
    """An outlet's keys."""

    tls: bytes
    update: SigningKey
    log: SigningKey
    witness: SigningKey

    @classmethod
    def new(cls) -> Applicant:
        return cls(make_key(), *(SigningKey.generate() for _ in range(3)))

    def proofs(self, invitation: str) -> Proofs:
        return prove(
            invitation,
            make_request(self.tls),
            update=self.update,
            log=self.log,
            witness=self.witness,
        )

    def fingerprint(self) -> str:
        return check_proofs("x", self.proofs("x")).fingerprint


class Time:
    """The coordinator's clock."""

    now = float(START)

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A database, its members, its clock."""

    database: Database
    members: Members
    time: Time

    def admitted(self, applicant: Applicant, name: str = NAME) -> Caller:
        """Invite, ask and admit; who calls with the certificate."""
        invited = self.members.invite(name, ttl=3600)
        self.members.request(_holder(invited), applicant.proofs(invited.id))
        facts = self.members.admit(name, applicant.fingerprint(), ROOT)
        return Caller(kind=facts.kind, name=facts.name, serial=facts.serial)

    def states(self) -> dict[str, str]:
        """Name to state."""
        return {line.name: line.state for line in standings(self.database, now=self.time())}


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    database, clock = Database.open(database_url), Time()
    yield Desk(database, Members(database, clock=clock), clock)
    database.close()


def _holder(invited: Invited) -> Caller:
    """Who calls with the certificate inside the token."""
    return Caller(kind="invitation", name=invited.id, serial="1")


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(AdmissionError) as caught:
        call()
    assert caught.value.code in enrolment.ENROLMENT_REFUSALS
    return caught.value.code


def test_an_outlet_that_both_operators_agree_on_becomes_a_member(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    assert desk.states() == {NAME: "invited"}
    keys = desk.members.request(_holder(invited), applicant.proofs(invited.id))
    assert desk.states() == {NAME: "waiting"}
    assert desk.members.collect(_holder(invited)) is None
    facts = desk.members.admit(NAME, keys.fingerprint, ROOT)
    assert desk.states() == {NAME: "member"}
    pem = desk.members.collect(_holder(invited))
    assert pem is not None
    assert read_certificate(pem) == facts
    member = desk.members.member(Caller(kind="outlet", name=NAME, serial=facts.serial))
    assert (member.name, member.update_key) == (NAME, applicant.update.public)


def test_everything_is_there_after_a_restart(desk: Desk, database_url: str) -> None:
    caller = desk.admitted(Applicant.new())
    again = Members(Database.open(database_url), clock=desk.time)
    assert again.member(caller).name == NAME


def test_the_same_keys_may_ask_again_and_others_may_not(desk: Desk) -> None:
    applicant, thief = Applicant.new(), Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    for _ in range(2):  # with another request each time: ECDSA signatures are random
        desk.members.request(_holder(invited), applicant.proofs(invited.id))
    assert _code(lambda: desk.members.request(_holder(invited), thief.proofs(invited.id))) == (
        "token-used"
    )
    (line,) = standings(desk.database, now=START)
    assert "somebody else" in line.note
    desk.members.admit(NAME, applicant.fingerprint(), ROOT)
    assert _code(lambda: desk.members.request(_holder(invited), thief.proofs(invited.id))) == (
        "token-used"
    )
    desk.members.request(_holder(invited), applicant.proofs(invited.id))


@pytest.mark.parametrize("part", ["tls", "update", "log"])
def test_one_changed_key_is_another_applicant(desk: Desk, part: str) -> None:
    applicant = Applicant.new()
    other = replace(applicant, **{part: getattr(Applicant.new(), part)})
    assert applicant.fingerprint() != other.fingerprint()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    assert _code(lambda: desk.members.request(_holder(invited), other.proofs(invited.id))) == (
        "token-used"
    )


def test_who_uses_a_token_while_another_does_waits_and_is_refused(desk: Desk) -> None:
    invited = desk.members.invite(NAME, ttl=3600)
    first, second = (Applicant.new().proofs(invited.id) for _ in range(2))
    codes: list[str] = []

    def ask() -> None:
        codes.append(_code(lambda: desk.members.request(_holder(invited), second)))

    asking = threading.Thread(target=ask)
    with desk.database.writing() as session:
        row = session.get_one(Invitation, invited.id, with_for_update=True)
        asking.start()
        asking.join(0.5)  # long enough to read the row, were it not locked
        row.requested, row.request = START, first.request
        row.update_key, row.log_key = first.update_key, first.log_key
        row.witness_key = first.witness_key
    asking.join(240)
    assert codes == ["token-used"]


def test_a_stolen_token_joins_nothing_without_the_outlets_fingerprint(desk: Desk) -> None:
    thief, outlet = Applicant.new(), Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), thief.proofs(invited.id))
    with pytest.raises(InputError) as caught:
        desk.members.admit(NAME, outlet.fingerprint(), ROOT)
    assert outlet.fingerprint() in str(caught.value)
    assert thief.fingerprint() not in str(caught.value)  # or an operator in a hurry would copy it
    assert desk.members.collect(_holder(invited)) is None
    assert desk.states() == {NAME: "waiting"}


def test_a_fingerprint_is_taken_as_people_type_it(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    desk.members.admit(NAME, applicant.fingerprint().lower().replace("-", " "), ROOT)
    assert desk.states() == {NAME: "member"}


def test_anything_but_the_fingerprint_is_refused(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    for typed in ("", "-", "F2M3", "F2M3-RWOV-A2TL-VY7U", applicant.fingerprint()[:-1], "é"):
        with pytest.raises(InputError, match="fingerprint"):
            desk.members.admit(NAME, typed, ROOT)


def test_nobody_is_admitted_who_has_not_asked(desk: Desk) -> None:
    with pytest.raises(InputError, match="waits"):
        desk.members.admit(NAME, "F2M3-RWOV-A2TL-VY7U", ROOT)
    desk.members.invite(NAME, ttl=3600)
    with pytest.raises(InputError, match="waits"):
        desk.members.admit(NAME, "F2M3-RWOV-A2TL-VY7U", ROOT)


def test_an_expired_token_takes_no_new_keys_but_answers_old_ones(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    late = desk.members.invite("tribune", ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    desk.time.now += 3600
    assert _code(lambda: desk.members.request(_holder(late), applicant.proofs(late.id))) == (
        "token-expired"
    )
    assert desk.states() == {NAME: "waiting", "tribune": "expired"}
    desk.members.admit(NAME, applicant.fingerprint(), ROOT)
    assert desk.members.collect(_holder(invited)) is not None


def test_a_request_that_nobody_answered_for_a_week_is_void(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    desk.time.now += 3600 + ANSWER_SECONDS
    with pytest.raises(InputError, match="waits"):
        desk.members.admit(NAME, applicant.fingerprint(), ROOT)


def test_a_new_invitation_takes_the_place_of_the_old_one(desk: Desk) -> None:
    thief, outlet = Applicant.new(), Applicant.new()
    stolen = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(stolen), thief.proofs(stolen.id))
    fresh = desk.members.invite(NAME, ttl=3600)
    assert _code(lambda: desk.members.collect(_holder(stolen))) == "token-withdrawn"
    assert _code(lambda: desk.members.request(_holder(stolen), thief.proofs(stolen.id))) == (
        "token-withdrawn"
    )
    desk.members.request(_holder(fresh), outlet.proofs(fresh.id))
    with pytest.raises(InputError):
        desk.members.admit(NAME, thief.fingerprint(), ROOT)
    desk.members.admit(NAME, outlet.fingerprint(), ROOT)


def test_a_member_is_not_invited_again(desk: Desk) -> None:
    desk.admitted(Applicant.new())
    with pytest.raises(InputError, match="already a member"):
        desk.members.invite(NAME, ttl=3600)


def test_an_outlet_whose_certificate_lapsed_may_join_again(desk: Desk) -> None:
    applicant = Applicant.new()
    old = desk.admitted(applicant)
    desk.time.now += OUTLET_DAYS * DAY
    assert desk.states() == {NAME: "lapsed"}
    new = desk.admitted(applicant)
    assert desk.members.member(new).name == NAME
    assert _code(lambda: desk.members.member(old)) == "revoked"


@pytest.mark.parametrize(
    "part",
    [
        "request",
        "update_key",
        "log_key",
        "witness_key",
        "update_proof",
        "log_proof",
        "witness_proof",
    ],
)
def test_malformed_fields_are_refused_and_nothing_is_kept(desk: Desk, part: str) -> None:
    invited = desk.members.invite(NAME, ttl=3600)
    honest = Applicant.new().proofs(invited.id)
    for length in (0, 1, 31, 5000):
        damaged = replace(honest, **{part: b"\x01" * length})
        assert _code(lambda damaged=damaged: desk.members.request(_holder(invited), damaged)) == (  # type: ignore[misc]
            "bad-proof"
        )
    assert desk.states() == {NAME: "invited"}


def test_keys_prove_possession_for_this_invitation_and_this_request(desk: Desk) -> None:
    invited = desk.members.invite(NAME, ttl=3600)
    outlet, thief = Applicant.new(), Applicant.new()
    honest = outlet.proofs(invited.id)
    for false in (
        outlet.proofs("ab" * 16),  # made for another invitation
        replace(honest, request=make_request(thief.tls)),  # somebody else's connection
        replace(honest, update_key=thief.update.public),
        replace(honest, log_key=thief.log.public),
        replace(honest, witness_key=thief.witness.public),
        replace(honest, update_proof=honest.log_proof, log_proof=honest.update_proof),
        replace(outlet, witness=outlet.log).proofs(invited.id),  # one key for two purposes
        replace(outlet, log=outlet.update).proofs(invited.id),  # one key for two purposes
    ):
        assert _code(lambda false=false: desk.members.request(_holder(invited), false)) == (  # type: ignore[misc]
            "bad-proof"
        )


def test_callers_of_the_wrong_kind_reach_nothing(desk: Desk) -> None:
    applicant = Applicant.new()
    caller = desk.admitted(applicant)
    invited = desk.members.invite("tribune", ttl=3600)
    proofs = applicant.proofs(invited.id)
    disguised = Caller(kind="outlet", name=invited.id, serial="1")
    for call in (
        lambda: desk.members.request(disguised, proofs),
        lambda: desk.members.collect(disguised),
        lambda: desk.members.request(caller, proofs),
    ):
        assert _code(call) == "not-an-invitation"
    for kind in ("invitation", "coordinator", ""):
        assert _code(lambda kind=kind: desk.members.member(replace(caller, kind=kind))) == (  # type: ignore[misc]
            "not-a-member"
        )


def test_a_certificate_works_for_its_own_name_serial_and_time_only(desk: Desk) -> None:
    caller, other = desk.admitted(Applicant.new()), desk.admitted(Applicant.new(), "tribune")
    for false in (
        replace(caller, name="tribune"),
        replace(caller, serial="7"),
        replace(caller, serial=other.serial),
    ):
        assert _code(lambda false=false: desk.members.member(false)) == "not-a-member"  # type: ignore[misc]
    desk.time.now += OUTLET_DAYS * DAY - 1
    assert desk.members.member(caller).name == NAME
    desk.time.now += 1
    assert _code(lambda: desk.members.member(caller)) == "not-a-member"
    desk.time.now = START - DAY
    assert _code(lambda: desk.members.member(caller)) == "not-a-member"


def test_a_coordinator_whose_clock_falls_back_an_hour_keeps_its_members(desk: Desk) -> None:
    caller = desk.admitted(Applicant.new())
    desk.time.now -= 3600
    assert desk.members.member(caller).name == NAME


def test_a_revoked_outlet_is_out_at_once_and_its_reason_kept(desk: Desk) -> None:
    applicant = Applicant.new()
    caller = desk.admitted(applicant)
    other = desk.admitted(Applicant.new(), "tribune")
    desk.members.revoke(NAME, "laptop stolen")
    assert _code(lambda: desk.members.member(caller)) == "revoked"
    assert _code(lambda: _renew(desk, caller, applicant)) == "revoked"
    assert desk.members.member(other).name == "tribune"
    line = next(line for line in standings(desk.database, now=START) if line.name == NAME)
    assert (line.state, line.note) == ("revoked", "laptop stolen")


def test_a_revoked_outlet_comes_back_by_a_new_invitation_only(desk: Desk) -> None:
    applicant = Applicant.new()
    old = desk.admitted(applicant)
    desk.members.revoke(NAME, "laptop stolen")
    new = desk.admitted(Applicant.new())
    assert desk.members.member(new).name == NAME
    assert _code(lambda: desk.members.member(old)) == "revoked"


def test_revoking_withdraws_open_tokens_and_pending_requests(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    desk.members.revoke(NAME, "changed our minds")
    assert _code(lambda: desk.members.collect(_holder(invited))) == "token-withdrawn"
    with pytest.raises(InputError):
        desk.members.admit(NAME, applicant.fingerprint(), ROOT)


def test_a_certificate_is_not_handed_to_an_outlet_that_was_revoked_meanwhile(desk: Desk) -> None:
    applicant = Applicant.new()
    invited = desk.members.invite(NAME, ttl=3600)
    desk.members.request(_holder(invited), applicant.proofs(invited.id))
    desk.members.admit(NAME, applicant.fingerprint(), ROOT)
    desk.members.revoke(NAME, "changed our minds")
    assert _code(lambda: desk.members.collect(_holder(invited))) == "revoked"


def test_nobody_unknown_is_revoked(desk: Desk) -> None:
    with pytest.raises(InputError, match="nobody"):
        desk.members.revoke(NAME, "why not")


def test_the_names_are_those_who_may_work_now(desk: Desk) -> None:
    assert desk.members.names() == frozenset()
    applicant = Applicant.new()
    old = desk.admitted(applicant)
    desk.admitted(Applicant.new(), "tribune")
    desk.members.invite("herald", ttl=3600)
    desk.time.now += 20 * DAY
    _renew(desk, old, applicant)
    assert desk.members.names() == {NAME, "tribune"}
    desk.time.now += 10 * DAY
    assert desk.members.names() == {NAME}
    desk.members.revoke(NAME, "laptop stolen")
    assert desk.members.names() == frozenset()


def _renew(desk: Desk, caller: Caller, applicant: Applicant) -> bytes:
    request = make_request(applicant.tls)
    body = enrolment.renewal_body(caller.serial, request)
    signature = applicant.update.sign(enrolment.RENEWAL, body)
    return desk.members.renew(caller, request, signature, ROOT)


def test_a_renewed_certificate_and_the_old_one_both_work_until_the_old_one_ends(
    desk: Desk,
) -> None:
    applicant = Applicant.new()
    old = desk.admitted(applicant)
    desk.time.now += 20 * DAY
    facts = read_certificate(_renew(desk, old, applicant))
    new = replace(old, serial=facts.serial)
    assert facts.ends == desk.time() + OUTLET_DAYS * DAY
    assert desk.members.member(old) == desk.members.member(new)
    desk.time.now += 10 * DAY
    assert _code(lambda: desk.members.member(old)) == "not-a-member"
    assert desk.members.member(new).name == NAME


def test_a_renewal_before_its_time_or_said_twice_gives_the_same_certificate(desk: Desk) -> None:
    applicant = Applicant.new()
    caller = desk.admitted(applicant)
    assert read_certificate(_renew(desk, caller, applicant)).serial == caller.serial
    desk.time.now += 20 * DAY
    assert _renew(desk, caller, applicant) == _renew(desk, caller, applicant)


def test_a_member_gets_a_few_certificates_a_day(desk: Desk) -> None:
    applicant = Applicant.new()
    caller = desk.admitted(applicant)
    for _ in range(MOST_A_DAY - 1):  # beside the one that it joined with
        _renew(desk, caller, replace(applicant, tls=make_key()))
    many = replace(applicant, tls=make_key())
    assert _code(lambda: _renew(desk, caller, many)) == "renewed-often"
    desk.time.now += DAY + 3600
    assert read_certificate(_renew(desk, caller, many)).name == NAME


def test_a_stolen_tls_key_alone_renews_nothing(desk: Desk) -> None:
    applicant = Applicant.new()
    caller = desk.admitted(applicant)
    desk.time.now += 20 * DAY
    thief = replace(applicant, update=SigningKey.generate())
    assert _code(lambda: _renew(desk, caller, thief)) == "bad-proof"
    assert _code(lambda: desk.members.renew(caller, b"\0" * 5000, b"", ROOT)) == "bad-proof"


def test_the_database_holds_no_private_key(desk: Desk, database_url: str) -> None:
    applicant = Applicant.new()
    desk.admitted(applicant)
    with desk.database.reading() as session:
        row = session.scalars(select(Invitation)).one()
        kept = b"".join((row.request or b"", row.update_key or b"", row.log_key or b""))
    for secret in (applicant.update.secret, applicant.log.secret):
        assert secret not in kept
