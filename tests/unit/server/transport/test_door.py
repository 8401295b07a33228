"""The port's door over real gRPC: who gets a place, who is cut, and what is never logged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_pool import Members, made_outlet

from presspool.common.pki.certificates import OUTLET
from presspool.common.pki.tls import Caller
from presspool.server.transport.door import Door, Shares
from presspool.server.transport.listener import open_port

NORTH, SOUTH, WEST = "north-post", "south-echo", "west-wind"
ONE, MANY = "/made.v1.Made/One", "/made.v1.Made/Many"
QUICK = Shares(
    calls=6, strangers=2, member=3, first=600.0, often=50, seldom=10, refused=8, check=0.05
)
HURRIED = replace(QUICK, first=0.3)
WAIT = 120.0


class Made(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A service of a unary call and one that streams both ways."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == ONE:
            return grpc.unary_unary_rpc_method_handler(self.one)
        if details.method == MANY:
            return grpc.stream_stream_rpc_method_handler(self.many)
        return None

    def one(self, said: bytes, _: grpc.ServicerContext) -> bytes:
        if said == b"wait":
            self.go_on.wait(WAIT)
        if said == b"fail":
            raise ValueError("/srv/secret")
        return said

    def many(self, said: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield from said


@dataclass
class Port:
    """An open port behind a door."""

    address: str
    door: Door
    members: Members
    certificates: Certificates
    made: Made
    recorded: list[tuple[str, str]]

    @contextmanager
    def dialled(self, name: str) -> Iterator[grpc.Channel]:
        with self.certificates.dial(self.address, name) as link:
            yield link


@pytest.fixture
def port() -> Iterator[Port]:
    certificates, made = Certificates.make(), Made()
    members = Members({name: made_outlet(name) for name in (NORTH, SOUTH)})
    recorded: list[tuple[str, str]] = []
    door = Door(members.member, record=lambda *what: recorded.append(what), shares=QUICK)
    register: Callable[[grpc.Server], None] = lambda server: server.add_generic_rpc_handlers(  # noqa: E731
        (made,)
    )
    server, number = open_port("localhost:0", certificates.server(), [register], door=door)
    try:
        yield Port(f"localhost:{number}", door, members, certificates, made, recorded)
    finally:
        made.go_on.set()
        door.close()
        server.stop(0).wait()


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(grpc.RpcError) as error:
        call()
    code: grpc.StatusCode = error.value.code()
    return str(code.name)


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def test_calls_pass_as_they_are(port: Port) -> None:
    with port.dialled(NORTH) as link:
        assert link.unary_unary(ONE)(b"said") == b"said"
        assert list(link.stream_stream(MANY)(iter([b"a", b"b"]))) == [b"a", b"b"]
        assert code_of(lambda: link.unary_unary("/made.v1.Made/None")(b"")) == "UNIMPLEMENTED"
    eventually(lambda: port.door.inside() == [])


def test_a_call_without_its_message_is_malformed_and_a_silent_one_is_cut(port: Port) -> None:
    with port.dialled(NORTH) as link:
        assert code_of(lambda: link.stream_unary(ONE)(iter(()))) == "FAILED_PRECONDITION"
        silence, port.door.shares = threading.Event(), HURRIED

        def nothing() -> Iterator[bytes]:
            silence.wait(WAIT)
            yield b""

        assert code_of(lambda: link.stream_unary(ONE)(nothing())) == "CANCELLED"
        assert code_of(lambda: list(link.stream_stream(MANY)(nothing()))) == "CANCELLED"
        silence.set()


def test_a_member_has_so_many_places_and_others_theirs(port: Port) -> None:
    with port.dialled(NORTH) as link, port.dialled(SOUTH) as other:
        waiting = [link.unary_unary(ONE).future(b"wait") for _ in range(QUICK.member)]
        eventually(lambda: port.door.inside() == [NORTH] * QUICK.member)
        assert code_of(lambda: link.unary_unary(ONE)(b"more")) == "RESOURCE_EXHAUSTED"
        assert other.unary_unary(ONE)(b"said") == b"said"
        port.made.go_on.set()
        assert [call.result() for call in waiting] == [b"wait"] * QUICK.member
    assert port.recorded == [(NORTH, "too-many-streams")]


def test_strangers_share_few_places(port: Port) -> None:
    port.members.revoked.add(SOUTH)
    with port.dialled(WEST) as link, port.dialled(SOUTH) as other, port.dialled(NORTH) as member:
        waiting = [one.unary_unary(ONE).future(b"wait") for one in (link, other)]
        eventually(lambda: port.door.inside() == ["", ""])
        assert code_of(lambda: link.unary_unary(ONE)(b"more")) == "RESOURCE_EXHAUSTED"
        assert member.unary_unary(ONE)(b"said") == b"said"
        port.made.go_on.set()
        assert [call.result() for call in waiting] == [b"wait"] * 2
    assert port.recorded == []  # of strangers nothing is stored


def test_strangers_have_little_time(port: Port) -> None:
    port.door.shares = HURRIED
    with port.dialled(WEST) as link:
        assert code_of(lambda: link.unary_unary(ONE)(b"wait")) == "CANCELLED"
    assert port.recorded == []


def test_who_calls_too_often_is_refused_and_a_stranger_sooner(port: Port) -> None:
    with port.dialled(NORTH) as link, port.dialled(WEST) as stranger:
        codes = [stranger.unary_unary(ONE).future(b"").code() for _ in range(QUICK.seldom + 1)]
        assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        codes = [link.unary_unary(ONE).future(b"").code() for _ in range(QUICK.often + 1)]
    assert codes == [grpc.StatusCode.OK] * QUICK.often + [grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert port.recorded == [(NORTH, "too-fast")]


def test_who_is_refused_too_often_is_not_heard_for_a_while(port: Port) -> None:
    with port.dialled(NORTH) as link, port.dialled(SOUTH) as other:
        for _ in range(QUICK.refused + 1):
            assert code_of(lambda: link.stream_unary(ONE)(iter(()))) == "FAILED_PRECONDITION"
        assert code_of(lambda: link.unary_unary(ONE)(b"said")) == "RESOURCE_EXHAUSTED"
        assert other.unary_unary(ONE)(b"said") == b"said"


def test_a_flood_is_on_record_under_a_name_only_where_its_certificate_is_a_member_s(
    port: Port,
) -> None:
    """A revoked one bears a name too, which may be a member's again by another certificate."""
    port.members.revoked.add(SOUTH)
    with port.dialled(SOUTH) as link:
        calls = [link.unary_unary(ONE).future(b"") for _ in range(2 * QUICK.often)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in {call.code() for call in calls}
    assert port.recorded == []


def test_what_fails_within_is_one_word_outside_and_one_line_a_minute_here(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    with port.dialled(NORTH) as link:
        assert {code_of(lambda: link.unary_unary(ONE)(b"fail")) for _ in range(5)} == {
            "UNAVAILABLE"
        }
    assert [r.name for r in caplog.records if r.levelno >= logging.ERROR] == [
        "presspool.server.transport.door"
    ]


def test_a_revoked_certificate_does_not_shut_out_the_one_that_follows_it() -> None:
    door = Door(lambda _: made_outlet("north"), record=lambda *_: None)
    try:
        old, new = (Caller(kind=OUTLET, name="north", serial=serial) for serial in ("a1", "b2"))
        for _ in range(50):
            door._count(old)
            door._fault(old)
        assert door._count(new) == 1
        assert door._faults[new.serial] == 0
    finally:
        door.close()
