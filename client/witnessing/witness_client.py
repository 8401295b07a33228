"""The outlet's calls to the Witnessing service; the same line as for tasks, of its own thread.

Invariants:
    * What comes back is parsed within caps and believed by nobody before its signatures were
      verified; what is not even well formed is an `EvidenceError`.
    * A wait can be ended from another thread.

Example: `requests, change = link.wait({"example.org/pool": 3}, seen=0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from presspool.client.identity.coordinator_client import Line, Waiting
from presspool.client.identity.dialling import reach
from presspool.client.identity.identity import Identity
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.proto import witness_pb2 as messages
from presspool.common.proto.witness_pb2_grpc import WitnessingStub
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Proof, parse_proof
from presspool.common.transparency.consortium_entries import LONGEST_ENTRY
from presspool.common.transparency.witness import Reply
from presspool.common.wire.peers import PeerKeys

CALL_SECONDS = 60.0  # more than a wait takes
MOST_REQUESTS, MOST_PEERS = 64, 1000
_LEAVES_A_PART = 16384


def peers_offered(identity: Identity) -> list[PeerKeys]:
    """The keys that the coordinator offers of the pool's other outlets; nothing vouches for them.

    Raises:
        LinkError: it cannot be reached.
    """
    link = WitnessClient(identity.address, lambda: reach(identity))
    try:
        return [peer for peer in link.peers() if peer.outlet != identity.name]
    finally:
        link.close()


def peer_offered(offered: Iterable[PeerKeys], name: str) -> PeerKeys:
    """The keys of one of them; raises `InputError` where there are none of this name."""
    for peer in offered:
        if peer.outlet == name:
            return peer
    raise InputError(
        "the coordinator offers no keys of this name",
        where=ascii(name),
        expected="a member of the pool",
        advice="presspool outlet peers lists them",
    )


class WitnessClient:
    """Calls to one coordinator.

    Args:
        address: its host and port, for messages.
        dial: makes a channel, with the certificate that is there then.
    """

    def __init__(self, address: str, dial: Callable[[], grpc.Channel]) -> None:
        self._line, self._waiting = Line(address, dial), Waiting(for_good=False)

    def peers(self) -> list[PeerKeys]:
        """What the coordinator says are its members' keys; nothing vouches for them."""
        with self._calling() as stub:
            found = stub.Peers(messages.PeersRequest(), timeout=CALL_SECONDS).peers
        return [
            PeerKeys.parse(peer.outlet, witness=peer.witness_key, log=peer.log_key)
            for peer in found[:MOST_PEERS]
        ]

    def wait(self, held: Mapping[str, int], *, seen: int) -> tuple[list[bytes], int]:
        """Requests for logs of which so many entries are held, once there are any.

        Returns:
            add-checkpoint bodies, and the mark to give as `seen` next time. There may be none.
        """
        request = messages.WaitRequest(
            held=[messages.Held(origin=origin, size=size) for origin, size in held.items()],
            seen=seen,
        )
        with (
            self._calling() as stub,
            self._waiting.on(lambda: stub.Wait.future(request, timeout=CALL_SECONDS)) as call,
        ):
            try:
                reply = call.result()
            except grpc.FutureCancelledError:
                return [], seen
        return list(reply.requests[:MOST_REQUESTS]), reply.change

    def hurry(self) -> None:
        """End a wait that is going on, or else the next one; from any thread."""
        self._waiting.hurry()

    def answer(self, origin: str, size: int, reply: Reply) -> None:
        """Say what the witness answered to a request for a head of so many entries."""
        with self._calling() as stub:
            stub.Answer(
                messages.AnswerRequest(
                    origin=origin,
                    size=size,
                    status=reply.status,
                    body=reply.body,
                    fork=reply.fork or b"",
                ),
                timeout=CALL_SECONDS,
            )

    def entries(self, start: int) -> Sequence[bytes]:
        """Entries of the consortium log from an index on."""
        with self._calling() as stub:
            reply = stub.Entries(messages.EntriesRequest(start=start), timeout=CALL_SECONDS)
        if any(len(entry) > LONGEST_ENTRY for entry in reply.entries):
            raise EvidenceError("entry of the log", expected=f"at most {LONGEST_ENTRY} bytes")
        return list(reply.entries)

    def prove(self, contract: str, number: int) -> tuple[bytes, Proof] | None:
        """A round's entry and its proof, if the coordinator has them."""
        request = messages.ProveRequest(contract=contract, round=number)
        with self._calling() as stub:
            reply = stub.Prove(request, timeout=CALL_SECONDS)
        return (reply.entry, parse_proof(reply.proof)) if reply.proof else None

    def publish(self, *, start: int, leaves: Sequence[bytes], note: notes.Note) -> int:
        """Publish the ledger's head; returns its size as the coordinator knows it now."""
        with self._calling() as stub:
            parts = _parts(start, leaves, note)
            size: int = stub.Publish(parts, timeout=CALL_SECONDS).size
        return size

    def head(self) -> notes.Note | None:
        """The newest head of this outlet's ledger that the coordinator has."""
        with self._calling() as stub:
            reply = stub.Head(messages.HeadRequest(), timeout=CALL_SECONDS)
        return notes.parse_note(reply.checkpoint) if reply.checkpoint else None

    def leaves(self, start: int, stop: int) -> list[bytes]:
        """Leaf hashes of this outlet's ledger, as it once published them.

        Raises:
            EvidenceError: the coordinator has not so many.
        """
        found = list[bytes]()
        while start + len(found) < stop:
            request = messages.LeavesRequest(start=start + len(found))
            with self._calling() as stub:
                part = stub.Leaves(request, timeout=CALL_SECONDS).leaves
            step = range(0, len(part) - merkle.HASH_BYTES + 1, merkle.HASH_BYTES)
            if not step:
                raise EvidenceError("leaf hashes", expected=stop, got=start + len(found))
            found += [part[at : at + merkle.HASH_BYTES] for at in step]
        return found[: stop - start]

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    @contextmanager
    def _calling(self) -> Iterator[Any]:
        with self._line.calling() as channel:
            yield WitnessingStub(channel)  # type: ignore[no-untyped-call]


def _parts(start: int, leaves: Sequence[bytes], note: notes.Note) -> Iterable[messages.PublishPart]:
    size = _LEAVES_A_PART
    first = b"".join(leaves[:size])
    yield messages.PublishPart(start=start, checkpoint=note.encode(), leaves=first)
    for at in range(size, len(leaves), size):
        yield messages.PublishPart(leaves=b"".join(leaves[at : at + size]))
