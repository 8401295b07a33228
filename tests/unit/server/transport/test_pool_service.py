"""The Pool service over real gRPC: who gets in, what the limits cut, and what a peer hears."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.fakes.made_pool import (
    QUICK,
    Pool,
    made_outlet,
    made_task,
    open_pool,
    signed_update,
    task_body,
)

from presspool.common.base.errors import AdmissionError, InputError, LinkError, StorageError
from presspool.common.proto.pool_pb2 import Header, NextTaskRequest, Part
from presspool.common.proto.pool_pb2_grpc import PoolStub
from presspool.common.wire.envelope import CALL_REFUSALS, CHUNK_BYTES, Signed, TaskHeader
from presspool.server.transport.call_limits import Limits
from presspool.server.transport.door import Door
from presspool.server.transport.listener import open_port
from presspool.server.transport.upload import Upload

NORTH, SOUTH = "north-post", "south-echo"
LARGE = 8 * CHUNK_BYTES
WAIT = 120.0  # seconds after which a test gives up
PATIENT = replace(QUICK, poll=WAIT)  # a poll that is met while it waits


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with open_pool(tmp_path, [NORTH, SOUTH]) as pool:
        yield pool


@contextmanager
def stub(pool: Pool, outlet: str = NORTH) -> Iterator[PoolStub]:
    with pool.certificates.dial(pool.address, outlet) as channel:
        yield PoolStub(channel)  # type: ignore[no-untyped-call]


def hand_out(pool: Pool, *, allowance: int = LARGE) -> TaskHeader:
    body = task_body(1)
    task = made_task(NORTH, body, allowance=allowance)
    pool.desk.hand_out([task], body)
    return task[0]


def header_part(signed: Signed) -> Part:
    return Part(header=Header(body=signed.body, signature=signed.signature))


def code_of(call: Callable[[], object]) -> tuple[str, str]:
    """Status and details of a call that is refused."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details()


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def test_a_task_arrives_as_a_header_and_its_body_in_chunks(pool: Pool) -> None:
    body = bytes(2 * CHUNK_BYTES + 5)
    pool.desk.hand_out([made_task(NORTH, body)], body)
    with stub(pool) as calls:
        parts = list(calls.NextTask(NextTaskRequest()))
    assert [part.WhichOneof("part") for part in parts] == ["header", "chunk", "chunk", "chunk"]
    assert [len(part.chunk) for part in parts[1:]] == [CHUNK_BYTES, CHUNK_BYTES, 5]


def test_a_poll_waits_for_a_task_and_gets_it_at_once(tmp_path: Path) -> None:
    got: list[Part] = []
    with open_pool(tmp_path, [NORTH], PATIENT) as pool, stub(pool) as calls:
        thread = threading.Thread(target=lambda: got.extend(calls.NextTask(NextTaskRequest())))
        thread.start()
        eventually(lambda: len(pool.service_streams()) == 1)
        hand_out(pool)
        thread.join(WAIT)
    assert len(got) == 2


def test_a_poll_without_a_task_ends_empty(pool: Pool) -> None:
    with stub(pool) as calls:
        assert list(calls.NextTask(NextTaskRequest())) == []


# --- Who ----------------------------------------------------------------------------------------


def test_who_is_no_member_is_refused_at_each_call(pool: Pool) -> None:
    task = hand_out(pool)
    with stub(pool, "west-wind") as calls:
        refused = ("PERMISSION_DENIED", "not-a-member")
        assert code_of(lambda: list(calls.NextTask(NextTaskRequest()))) == refused
        parts = [header_part(signed_update(task, b"x"))]
        assert code_of(lambda: calls.SendUpdate(iter(parts))) == refused


def test_revocation_ends_a_poll_that_is_waiting(tmp_path: Path) -> None:
    with open_pool(tmp_path, [NORTH], PATIENT) as pool, stub(pool) as calls:
        call = calls.NextTask(NextTaskRequest())
        eventually(lambda: len(pool.service_streams()) == 1)
        pool.members.revoked.add(NORTH)
        assert code_of(lambda: list(call))[0] in ("PERMISSION_DENIED", "CANCELLED")


def test_revocation_cuts_an_upload_in_its_middle(pool: Pool) -> None:
    body, more = bytes(LARGE), threading.Event()
    task = hand_out(pool)

    def parts() -> Iterator[Part]:
        yield header_part(signed_update(task, body))
        yield Part(chunk=body[:CHUNK_BYTES])
        more.wait(WAIT)  # the stream rests: nothing but the watch can see the revocation
        yield Part(chunk=body[:CHUNK_BYTES])

    with stub(pool) as calls:
        call = calls.SendUpdate.future(parts())
        eventually(lambda: len(pool.service_streams()) == 1)
        pool.members.revoked.add(NORTH)
        assert code_of(call.result)[0] in ("PERMISSION_DENIED", "CANCELLED")
        more.set()
    assert pool.desk.answered([task.task]) == set()
    eventually(lambda: pool.service_streams() == [])
    assert {refusal.code for refusal in pool.desk.refusals()} == {"revoked"}


def test_no_certificate_no_call(pool: Pool) -> None:
    plain = grpc.insecure_channel(pool.address)
    nameless = grpc.secure_channel(
        pool.address, grpc.ssl_channel_credentials(pool.certificates.root.certificate)
    )
    for channel in (plain, nameless):
        with channel:
            calls = PoolStub(channel)  # type: ignore[no-untyped-call]
            status, _ = code_of(lambda: list(calls.NextTask(NextTaskRequest())))  # noqa: B023
            assert status == "UNAVAILABLE"
    assert pool.desk.refusals() == []


# --- Limits -------------------------------------------------------------------------------------


def test_an_oversized_body_is_refused_before_any_of_it_is_taken(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(Upload, "add", lambda _, chunk: taken.append(len(chunk)))
    task = hand_out(pool, allowance=100)
    body = bytes(101)
    with stub(pool) as calls:
        parts = [header_part(signed_update(task, body)), Part(chunk=body)]
        assert code_of(lambda: calls.SendUpdate(iter(parts)))[1] == "too-large"
    assert taken == []
    assert [refusal.code for refusal in pool.desk.refusals()] == ["too-large"]


def test_a_message_above_the_limit_never_reaches_the_service(pool: Pool) -> None:
    task = hand_out(pool)
    huge = Part(chunk=bytes(2 * CHUNK_BYTES))
    with stub(pool) as calls:
        parts = [header_part(signed_update(task, bytes(LARGE))), huge]
        status, _ = code_of(lambda: calls.SendUpdate(iter(parts)))
    assert status == "RESOURCE_EXHAUSTED"
    assert pool.desk.answered([task.task]) == set()


@pytest.mark.parametrize(
    "first", [[], [Part(chunk=b"x")], [Part()], [Part(header=Header(body=bytes(5000)))]]
)
def test_an_upload_that_does_not_begin_with_a_header_is_malformed(
    pool: Pool, first: list[Part]
) -> None:
    hand_out(pool)
    with stub(pool) as calls:
        assert code_of(lambda: calls.SendUpdate(iter(first)))[1] == "malformed"
    assert [refusal.code for refusal in pool.desk.refusals()] == ["malformed"]


def test_a_second_header_in_an_upload_is_malformed(pool: Pool) -> None:
    part = header_part(signed_update(hand_out(pool), b"body"))
    with stub(pool) as calls:
        assert code_of(lambda: calls.SendUpdate(iter([part, part])))[1] == "malformed"


def test_an_outlet_has_few_streams_at_a_time_and_others_do_not_suffer(tmp_path: Path) -> None:
    limits = replace(PATIENT, streams=3)
    with open_pool(tmp_path, [NORTH, SOUTH], limits) as pool, stub(pool) as calls:
        waiting = [calls.NextTask(NextTaskRequest()) for _ in range(3)]
        eventually(lambda: len(pool.service_streams()) == 3)
        for _ in range(2):
            refused = code_of(lambda: list(calls.NextTask(NextTaskRequest())))
            assert refused == ("RESOURCE_EXHAUSTED", "too-many-streams")
        body = task_body(1)
        pool.desk.hand_out([made_task(SOUTH, body)], body)
        with stub(pool, SOUTH) as other:
            assert len(list(other.NextTask(NextTaskRequest()))) == 2
        for call in waiting:
            call.cancel()
        eventually(lambda: pool.service_streams() == [])
        # A flood is put on record once a minute.
        assert [refusal.code for refusal in pool.desk.refusals()] == ["too-many-streams"]


def test_an_outlet_sends_so_many_messages_a_minute(tmp_path: Path) -> None:
    limits = Limits(messages=5, poll=0.01, check=0.1)
    with open_pool(tmp_path, [NORTH, SOUTH], limits) as pool, stub(pool) as calls:
        task = hand_out(pool)
        parts = [header_part(signed_update(task, bytes(6))), *[Part(chunk=b"\0")] * 6]
        assert code_of(lambda: calls.SendUpdate(iter(parts))) == ("RESOURCE_EXHAUSTED", "too-fast")
        assert code_of(lambda: list(calls.NextTask(NextTaskRequest())))[1] == "too-fast"
        with stub(pool, SOUTH) as other:
            assert list(other.NextTask(NextTaskRequest())) == []
        assert [refusal.code for refusal in pool.desk.refusals()] == ["too-fast"]


def test_an_upload_that_falls_silent_is_cut(tmp_path: Path) -> None:
    done = threading.Event()
    with open_pool(tmp_path, [NORTH], Limits(silence=0.3, check=0.1)) as pool, stub(pool) as calls:
        task = hand_out(pool)

        def parts() -> Iterator[Part]:
            yield header_part(signed_update(task, bytes(LARGE)))
            done.wait(WAIT)

        assert code_of(lambda: calls.SendUpdate(parts()))[0] == "CANCELLED"
        done.set()
        eventually(lambda: pool.service_streams() == [])


# --- What a peer hears --------------------------------------------------------------------------


def test_an_error_within_the_coordinator_leaves_as_one_word(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(outlet: str) -> None:
        raise ValueError("/srv/secret/path")

    monkeypatch.setattr(pool.desk, "next_task", broken)
    caplog.set_level(logging.CRITICAL, "presspool")
    with stub(pool) as calls:
        refused = code_of(lambda: list(calls.NextTask(NextTaskRequest())))
    assert refused == ("UNAVAILABLE", "unavailable")
    assert refused[1] in CALL_REFUSALS


def test_a_sighting_that_cannot_be_written_down_keeps_work_from_nobody(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(outlet: str, version: str, clock: float) -> None:
        seen.append(outlet)
        raise StorageError("the database refuses")

    seen: list[str] = []
    monkeypatch.setattr(pool.service, "_seen", refusing)
    hand_out(pool)
    with stub(pool) as calls:
        assert len(list(calls.NextTask(NextTaskRequest()))) == 2
    assert seen == [NORTH]


def test_the_link_tells_what_may_help_to_try_again_from_what_will_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = hand_out(pool)
    link = pool.link(NORTH)
    with pytest.raises(AdmissionError) as refused:
        link.deliver(signed_update(task, b"body"), [b"bad!"])
    assert refused.value.code == "wrong-digest"
    link.deliver(signed_update(task, b"body"), [b"body"])
    pool.members.outlets.pop(NORTH)
    with pytest.raises(LinkError, match="not-a-member"), link.next_task():
        pass
    link.close()


def test_health_answers_and_reflection_is_not_there(pool: Pool) -> None:
    with pool.certificates.dial(pool.address, NORTH) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflect = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        assert code_of(lambda: list(reflect(iter([b""]))))[0] == "UNIMPLEMENTED"


def test_two_coordinators_cannot_share_a_port(pool: Pool) -> None:
    door = Door(pool.members.member, record=pool.desk.refuse)
    with pytest.raises(InputError, match="cannot listen"):
        open_port(pool.address, pool.certificates.server(), [], door=door)
    door.close()


def test_quick_limits_are_not_the_usual_ones() -> None:
    assert Limits().poll > QUICK.poll
    assert made_outlet(NORTH).update_key != made_outlet(SOUTH).update_key
