"""The services that make and keep members: `Enrolment` for invitations, `Membership` for outlets.

Invariants:
    * The caller is who its certificate says; what `Members` decides is all that is decided.
    * A refusal travels as one word of `presspool.common.wire.enrolment.ENROLMENT_REFUSALS` and
      nothing else: no text of an exception leaves the coordinator.
    * Every field has a fixed largest size, checked before anything is parsed.

Example: `serve(grpc_server, members, root)` before the server starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from presspool import __version__
from presspool.common.base.errors import AdmissionError
from presspool.common.pki.certificates import Credential, certificate_to_der
from presspool.common.pki.tls import caller
from presspool.common.proto import enrolment_pb2, enrolment_pb2_grpc
from presspool.common.wire.enrolment import Proofs
from presspool.server.membership.members import Members
from presspool.server.transport.seldom import Seldom

_log = logging.getLogger(__name__)
_told = Seldom()


def serve(
    server: grpc.Server, members: Members, root: Credential, *, addresses: bytes = b""
) -> None:
    """Add both services to a server whose port asks for certificates of `root`.

    Args:
        server: not started yet.
        members: who is in.
        root: issues certificates.
        addresses: the signed statement of where the pool is dialled; none for one that never moved.
    """
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(Enrolment(members), server)  # type: ignore[no-untyped-call]
    enrolment_pb2_grpc.add_MembershipServicer_to_server(
        Membership(members, root, addresses), server
    )  # type: ignore[no-untyped-call]


class Enrolment(enrolment_pb2_grpc.EnrolmentServicer):
    """For the certificate inside a token."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def Join(  # noqa: N802  the name in the protocol
        self, request: enrolment_pb2.JoinRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.JoinReply:
        """Take the keys of an outlet."""
        with refusing(context):
            who = caller(context)
            proofs = Proofs(
                request=request.request,
                update_key=request.update_key,
                log_key=request.log_key,
                witness_key=request.witness_key,
                update_proof=request.update_proof,
                log_proof=request.log_proof,
                witness_proof=request.witness_proof,
            )
            self._members.request(who, proofs)
            return enrolment_pb2.JoinReply()

    def Collect(  # noqa: N802
        self, _request: enrolment_pb2.CollectRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.CollectReply:
        """Hand out the certificate once there is one."""
        with refusing(context):
            pem = self._members.collect(caller(context))
            return enrolment_pb2.CollectReply(certificate=certificate_to_der(pem) if pem else b"")


class Membership(enrolment_pb2_grpc.MembershipServicer):
    """For an outlet's certificate."""

    def __init__(self, members: Members, root: Credential, addresses: bytes) -> None:
        self._members, self._root, self._addresses = members, root, addresses

    def Check(  # noqa: N802
        self, _request: enrolment_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.CheckReply:
        """Tell a member our time and version, and where we are dialled."""
        with refusing(context):
            self._members.member(caller(context))
            return enrolment_pb2.CheckReply(
                time=self._members.now(), version=__version__, addresses=self._addresses
            )

    def Renew(  # noqa: N802
        self, request: enrolment_pb2.RenewRequest, context: grpc.ServicerContext
    ) -> enrolment_pb2.RenewReply:
        """Hand out the next certificate, or the present one while the next is not due."""
        with refusing(context):
            who = caller(context)
            pem = self._members.renew(who, request.request, request.signature, self._root)
            return enrolment_pb2.RenewReply(certificate=certificate_to_der(pem))


@contextmanager
def refusing(context: grpc.ServicerContext) -> Iterator[None]:
    """Answer a refusal, or a fault of ours, with its word; the fault's text stays in our log."""
    try:
        yield
    except AdmissionError as error:
        if _told(error.code):
            _log.warning("refused a call from %s: %s", context.peer(), error.code)
        context.abort(grpc.StatusCode.PERMISSION_DENIED, error.code)
    except Exception:  # noqa: BLE001  the caller learns nothing of what went wrong
        if _told("failed"):
            _log.exception("a call failed")
        context.abort(grpc.StatusCode.INTERNAL, "internal")
