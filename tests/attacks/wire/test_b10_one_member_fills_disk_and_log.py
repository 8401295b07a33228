"""Refusals with invented runs, certificates, heads and integers, as fast as one member can send."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import grpc
import pytest
from tests.fakes.made_attacks import AttackedOutlet, AttackedPool, asked, attacked
from tests.fakes.made_pool import made_task, update_header

from presspool.common.pki.certificates import make_key, make_request, read_certificate
from presspool.common.pki.keys import key_id
from presspool.common.proto import enrolment_pb2, pool_pb2, witness_pb2
from presspool.common.proto.enrolment_pb2_grpc import MembershipStub
from presspool.common.proto.pool_pb2_grpc import PoolStub
from presspool.common.proto.witness_pb2_grpc import WitnessingStub
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.tree import Tree
from presspool.common.wire import enrolment
from presspool.common.wire.envelope import Signed, sign_update

LOUD = [f"loud-{number}" for number in range(10)]  # one each: who floods is not heard for a while
KILOBYTE = 1 << 10


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedPool]:
    with attacked(tmp_path_factory.mktemp("pool"), LOUD) as pool:
        yield pool


@pytest.fixture(params=[60, pytest.param(300, marks=pytest.mark.soak)])
def many(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def outlet(pool: AttackedPool) -> AttackedOutlet:
    return pool.outlets.pop(next(iter(pool.outlets)))


@pytest.fixture
def link(pool: AttackedPool, outlet: AttackedOutlet) -> Iterator[grpc.Channel]:
    with pool.dial(outlet.credential) as channel:
        yield channel


def test_invented_runs_are_one_counter(
    pool: AttackedPool, outlet: AttackedOutlet, link: grpc.Channel, many: int
) -> None:
    before = pool.log_file.stat().st_size
    stub = PoolStub(link)  # type: ignore[no-untyped-call]
    for number in range(many):
        signed = invented(outlet, f"invented-{number}", 1 + number % 9999)
        part = pool_pb2.Part(header=pool_pb2.Header(body=signed.body, signature=signed.signature))
        refused(lambda part=part: stub.SendUpdate(iter([part])))  # type: ignore[misc]
    runs, rows = asked(pool, "SELECT count(DISTINCT run), count(*) FROM refusals")
    assert (runs, rows <= 4) == (1, True)
    assert pool.log_file.stat().st_size - before < 16 * KILOBYTE


def test_what_is_no_message_writes_no_log(
    pool: AttackedPool, link: grpc.Channel, many: int
) -> None:
    before = pool.log_file.stat().st_size
    for method in ("/presspool.v1.Witnessing/Answer", "/presspool.v1.Pool/SendUpdate"):
        call = link.stream_unary(method)
        for _ in range(many):
            refused(lambda call=call: call(iter([b"\xff"]), timeout=60))  # type: ignore[misc]
    assert pool.log_file.stat().st_size - before < 8 * KILOBYTE


def test_a_member_gets_a_few_certificates_a_day(
    pool: AttackedPool, outlet: AttackedOutlet, link: grpc.Channel, many: int
) -> None:
    stub = MembershipStub(link)  # type: ignore[no-untyped-call]
    serial = read_certificate(outlet.credential.certificate).serial
    for _ in range(min(many, 500)):
        request = make_request(make_key())
        body = enrolment.renewal_body(serial, request)
        renewal = enrolment_pb2.RenewRequest(
            request=request, signature=outlet.update.sign(enrolment.RENEWAL, body)
        )
        refused(lambda renewal=renewal: stub.Renew(renewal), maybe=True)  # type: ignore[misc]
    (given,) = asked(
        pool,
        "SELECT count(*) FROM certificates JOIN outlets ON outlets.id = outlet_id"
        f" WHERE name = '{outlet.name}'",
    )
    assert given <= 4


def test_a_head_is_three_lines_and_a_wrong_root_costs_nothing_known(
    pool: AttackedPool, outlet: AttackedOutlet, link: grpc.Channel, many: int
) -> None:
    stub = WitnessingStub(link)  # type: ignore[no-untyped-call]
    leaves = [merkle.leaf_hash(struct.pack(">I", n)) for n in range(min(many, 100))]
    long = tuple(f"line {n} " + "x" * KILOBYTE for n in range(100))
    for extensions, root in ((long, merkle_root(leaves)), ((), bytes(32))):
        for part in head(outlet, leaves, root, extensions):
            refused(lambda part=part: stub.Publish(iter([part])))  # type: ignore[misc]
    (part,) = head(outlet, leaves, merkle_root(leaves), ())
    refused(lambda: stub.Publish(iter([part])), maybe=True)
    (largest,) = asked(pool, "SELECT max(length(note)) FROM ledger_heads")
    assert largest < KILOBYTE


def test_large_integers_are_no_fault_of_the_coordinator(
    pool: AttackedPool, outlet: AttackedOutlet, link: grpc.Channel
) -> None:
    stub = WitnessingStub(link)  # type: ignore[no-untyped-call]
    before = pool.log_file.stat().st_size
    origin, top = outlet.log.key.name, (1 << 64) - 1
    stub.Answer(witness_pb2.AnswerRequest(origin=origin, size=top, status=409))
    stub.Entries(witness_pb2.EntriesRequest(start=top))
    stub.Prove(witness_pb2.ProveRequest(contract="x", round=(1 << 32) - 1))
    held = [witness_pb2.Held(origin=origin, size=top)]
    stub.Wait(witness_pb2.WaitRequest(held=held, seen=top))
    assert pool.log_file.stat().st_size - before < 4 * KILOBYTE


def invented(outlet: AttackedOutlet, run: str, round: int) -> Signed:
    """The rightly signed header of an answer to a task that nobody gave."""
    task, _ = made_task(outlet.name, b"body", round=round, run=run)
    header = update_header(task, b"body", key=key_id(outlet.update.public))
    return sign_update(header, outlet.update)


def head(
    outlet: AttackedOutlet, leaves: list[bytes], root: bytes, extensions: tuple[str, ...]
) -> list[witness_pb2.PublishPart]:
    """A signed head of the outlet's ledger with all of its leaves."""
    point = Checkpoint(
        origin=outlet.log.key.name, size=len(leaves), root=root, extensions=extensions
    )
    note = notes.Note(text=point.text).signed(outlet.log.sign(point.text))
    return [witness_pb2.PublishPart(start=0, checkpoint=note.encode(), leaves=b"".join(leaves))]


def merkle_root(leaves: list[bytes]) -> bytes:
    return Tree(leaves).root()


def refused(call: Callable[[], object], *, maybe: bool = False) -> None:
    """Make a call that is not answered with anything good."""
    try:
        call()
    except grpc.RpcError:
        return
    assert maybe, "it was answered"
