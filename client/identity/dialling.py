"""Dialling the coordinator: its addresses in their order, and learning where it has moved.

Invariants:
    * The first address that answers with a certificate of the pool's root, for its own name, is
      taken; where none does, the first is what errors speak of.
    * A new address is believed only where the pool's contract key signed it, and written down.

Example: `with reach(identity) as link: MembershipStub(link).Renew(…)`.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import grpc

from presspool.client.identity.identity import Identity
from presspool.common.base.errors import EvidenceError, StorageError
from presspool.common.pki.tls import channel
from presspool.common.proto import enrolment_pb2 as messages
from presspool.common.proto.enrolment_pb2_grpc import MembershipStub

log = logging.getLogger(__name__)

TRY_SECONDS = 5.0


def reach(identity: Identity) -> grpc.Channel:
    """A link to the first of the coordinator's addresses that answers."""
    if len(identity.addresses) > 1:
        for address in identity.addresses:
            link = channel(address, identity.credential, root=identity.root)
            try:
                grpc.channel_ready_future(link).result(timeout=TRY_SECONDS)
                return link
            except grpc.FutureTimeoutError:
                log.warning("the coordinator does not answer at %s", address)
                link.close()
    return channel(identity.address, identity.credential, root=identity.root)


def listen(identity: Identity, link: grpc.Channel) -> None:
    """Ask over a link where the coordinator is dialled, and write down what is later news."""
    with suppress(grpc.RpcError):  # the calls that follow say what is wrong
        said = MembershipStub(link).Check(  # type: ignore[no-untyped-call]
            messages.CheckRequest(), timeout=TRY_SECONDS
        )
        if said.addresses:
            try:
                now = identity.told(said.addresses)
            except (EvidenceError, StorageError) as error:
                # An older word is what one says that was not started again since it moved.
                log.warning("where the coordinator says that it is: %s", error)
            else:
                if now.moves > identity.moves:
                    log.warning("the coordinator has moved: %s", ", ".join(now.addresses))
