"""The Witnessing service: through it outlets cosign the consortium log and each other's ledgers.

The coordinator only carries: what it hands to one outlet was signed by another, or is its own log,
and what it keeps it has verified, so that an outlet that lies is found here already. No outlet has
to believe any of it; what each does with it is `presspool.client.witnessing`.

Invariants:
    * An outlet publishes heads of its own ledger only, and cosigns with its own key only.
    * Nothing is asked again that the witness has refused, until there is something new.

Example: `WitnessService(database, folder.log, members=members, member=…, record=mailbox.refuse)`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import grpc

from presspool.common.base.errors import AdmissionError, EvidenceError
from presspool.common.proto import witness_pb2 as messages
from presspool.common.proto.witness_pb2_grpc import (
    WitnessingServicer,
    add_WitnessingServicer_to_server,
)
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Proof
from presspool.common.transparency.consortium_entries import Entry
from presspool.common.transparency.forks import LARGEST_PROOF, verify_fork
from presspool.common.transparency.merkle import HASH_BYTES
from presspool.common.transparency.witness import OK, Request
from presspool.common.wire.peers import PeerKeys
from presspool.server.database import Database
from presspool.server.transport.call_limits import Calls, Limits, Stream
from presspool.server.transport.mailbox import Signal
from presspool.server.witnessing.consortium_log import Consortium
from presspool.server.witnessing.cosignatures import CosignatureStore
from presspool.server.witnessing.ledger_heads import MOST_LEAVES, LedgerHeads, split_leaves

log = logging.getLogger(__name__)

MOST_LOGS = 64
PART_BYTES = 512 << 10
ANSWER_BYTES = 4096


class WitnessCaller(Protocol):
    """Who calls."""

    @property
    def name(self) -> str:
        """The outlet."""

    @property
    def peer(self) -> PeerKeys | None:
        """Its keys for heads."""


class WitnessService(WitnessingServicer):
    """Serves the consortium log and the members' heads to members.

    Args:
        database: the coordinator's.
        signer: its log key.
        peers: the keys of everybody who is a member now.
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        record: told of refusals.
        limits: of each member.

    Attributes:
        consortium: the log.
    """

    def __init__(
        self,
        database: Database,
        signer: notes.Signer,
        *,
        peers: Callable[[], list[PeerKeys]],
        member: Callable[[grpc.ServicerContext], WitnessCaller],
        record: Callable[[str, str], None],
        limits: Limits | None = None,
    ) -> None:
        self.consortium = Consortium(database, signer)
        self._heads, self._cosignatures = LedgerHeads(database), CosignatureStore(database)
        self._peers, self._record, self._limits = peers, record, limits or Limits()
        self.calls: Calls[WitnessCaller] = Calls(member, record=record, limits=self._limits)
        self._anything = Signal()  # a head, a cosignature
        self._change = secrets.randbits(40)  # of the consortium log; differs after a restart
        # By log and outlet: the sizes held and asked for in the newest request, and in the newest
        # that was refused.
        self._asked: dict[tuple[str, str], tuple[int, int]] = {}
        self._refused: dict[tuple[str, str], tuple[int, int]] = {}

    def register(self, server: grpc.Server) -> None:
        """Let a server serve this."""
        add_WitnessingServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End all polls and the watch."""
        self.calls.close()
        self._anything.raise_()

    def commit(self, entry: Entry) -> None:
        """Append to the consortium log and tell all witnesses; raises as `Consortium.commit`."""
        self.consortium.commit(entry)
        self._moved()

    # --- Calls ----------------------------------------------------------------------------------

    def Peers(  # noqa: N802
        self,
        request: messages.PeersRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> messages.PeersReply:
        """See witness.proto."""
        with self._call(context):
            found = [
                messages.Peer(outlet=p.outlet, witness_key=p.witness.text, log_key=p.log.text)
                for p in self._peers()
            ]
            return messages.PeersReply(peers=found)

    def Wait(  # noqa: N802
        self, request: messages.WaitRequest, context: grpc.ServicerContext
    ) -> messages.WaitReply:
        """See witness.proto."""
        with self._call(context) as (stream, own):
            if len(request.held) > MOST_LOGS:
                raise EvidenceError("logs", expected=f"at most {MOST_LOGS}", got=len(request.held))
            until = time.monotonic() + self._limits.poll
            while True:
                seen, change = self._anything.count, self._change
                found = self._requests(own, request.held)
                left = until - time.monotonic()
                over = left <= 0 or self.calls.ended.is_set() or not context.is_active()
                if found or over or change != request.seen:
                    return messages.WaitReply(requests=found, change=change)
                self._anything.wait(seen, min(left, self._limits.check))
                stream.moved()
                self.calls.member(context)

    def Answer(  # noqa: N802
        self, request: messages.AnswerRequest, context: grpc.ServicerContext
    ) -> messages.AnswerReply:
        """See witness.proto."""
        with self._call(context) as (stream, own):
            if len(request.body) > ANSWER_BYTES or len(request.fork) > LARGEST_PROOF:
                raise EvidenceError("answer", expected=f"at most {ANSWER_BYTES} bytes")
            key = self._logs().get(request.origin)
            note = self._note(key, request.size) if key else None
            if key is None or note is None:
                return messages.AnswerReply()  # of a log that is gone, or restored
            if request.status == OK:
                self._cosignatures.add(key, note, witness=own.witness, lines=request.body)
                self._moved() if key == self.consortium.key else self._anything.raise_()
            else:
                self._refusal(stream.member.name, key, request)
            return messages.AnswerReply()

    def Entries(  # noqa: N802
        self, request: messages.EntriesRequest, context: grpc.ServicerContext
    ) -> messages.EntriesReply:
        """See witness.proto."""
        with self._call(context):
            return messages.EntriesReply(
                entries=self.consortium.entries(request.start, most=PART_BYTES)
            )

    def Prove(  # noqa: N802
        self, request: messages.ProveRequest, context: grpc.ServicerContext
    ) -> messages.ProveReply:
        """See witness.proto."""
        with self._call(context) as (_, own):
            found = self.consortium.find(request.contract[:80], request.round)
            if found is None:
                return messages.ProveReply()
            (index, body), key = found, self.consortium.key
            size = self._cosignatures.best(key, above=index, own=own.witness)
            size = size or self.consortium.size
            note = self.consortium.head(size).signed(
                *self._cosignatures.of(key, size, own=own.witness)
            )
            hashes = self.consortium.prove_inclusion(index, size)
            proof = Proof(index=index, hashes=hashes, checkpoint=note)
            return messages.ProveReply(entry=body, proof=proof.encode())

    def Publish(  # noqa: N802
        self, request: Iterator[messages.PublishPart], context: grpc.ServicerContext
    ) -> messages.PublishReply:
        """See witness.proto."""
        with self._call(context) as (stream, own):
            self.calls.count(stream, "heads")
            first = next(request, messages.PublishPart())
            leaves = split_leaves(first.leaves)
            for part in request:
                stream.moved()
                self.calls.count(stream)
                leaves += split_leaves(part.leaves)
                if len(leaves) > MOST_LEAVES:
                    raise EvidenceError("leaves", expected=f"at most {MOST_LEAVES}")
            self.calls.count(stream, "leaves", len(leaves))
            note = notes.parse_note(first.checkpoint)
            size = self._heads.publish(own.log, start=first.start, leaves=leaves, note=note)
            self._anything.raise_()
            return messages.PublishReply(size=size)

    def Head(  # noqa: N802
        self,
        request: messages.HeadRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> messages.HeadReply:
        """See witness.proto."""
        with self._call(context) as (_, own):
            size = self._heads.size(own.log)
            note = self._heads.head(own.log, size)
            if note is None:
                return messages.HeadReply()
            signed = note.signed(*self._cosignatures.of(own.log, size, own=own.witness))
            return messages.HeadReply(size=size, checkpoint=signed.encode())

    def Leaves(  # noqa: N802
        self, request: messages.LeavesRequest, context: grpc.ServicerContext
    ) -> messages.LeavesReply:
        """See witness.proto."""
        with self._call(context) as (_, own):
            found = self._heads.leaves(own.log, request.start, most=PART_BYTES // HASH_BYTES)
            return messages.LeavesReply(leaves=b"".join(found))

    # --- What is asked of a witness ---------------------------------------------------------------

    def _requests(self, own: PeerKeys, held: Iterable[messages.Held]) -> list[bytes]:
        """What the caller's witness should cosign of the logs of which it holds so much."""
        logs, found = self._logs(), list[bytes]()
        for log_ in held:
            if log_.origin not in logs or log_.origin == own.log.name:
                continue
            try:
                request = self._request(own, logs[log_.origin], log_.size)
            except EvidenceError as error:  # of one log, and in no other's way
                self._once(("bad", log_.origin), log_.size, "nobody is asked to cosign: %s", error)
                continue
            if request is not None:
                found.append(request.encode())
        return found

    def _request(self, own: PeerKeys, key: notes.VerifierKey, held: int) -> Request | None:
        size, place = self._size(key), (key.text, own.outlet)
        if held > size and key == self.consortium.key:
            self._older(own, held)
        if not size or held > size or self._refused.get(place) == (held, size):
            return None
        if self._cosignatures.has(key, size, own.witness):
            return None
        self._asked[place] = (held, size)
        if key == self.consortium.key:
            return self.consortium.request(held)
        return self._heads.request(key, held)

    def _refusal(self, outlet: str, key: notes.VerifierKey, said: messages.AnswerRequest) -> None:
        """A witness did not cosign: it is not asked the same again, and the operator is told."""
        place = key.text, outlet
        if place in self._asked:
            self._refused[place] = self._asked[place]
        told = self.calls.told(outlet, "answers", key.name)
        log.log(
            logging.ERROR if told else logging.DEBUG,
            "the witness of %s answers %d to the head of %d entries of %s",
            outlet,
            said.status,
            said.size,
            key.name,
        )
        if said.fork:
            first, _ = verify_fork(said.fork, log=key)
            self._cosignatures.convict(key, finder=outlet, proof=said.fork)
            log.log(
                logging.ERROR if told else logging.DEBUG,
                "%s proves that %s has signed two histories of %d entries",
                outlet,
                key.name,
                first.size,
            )

    def _older(self, own: PeerKeys, size: int) -> None:
        self._once(
            ("older", own.outlet),
            size,
            "%s holds a head of %d entries of our log, and our database has %d: it is "
            "an old copy; restore the newest",
            own.outlet,
            size,
            self.consortium.size,
        )

    def _once(self, place: tuple[str, str], size: int, text: str, *parts: object) -> None:
        """Tell the operator, once until a size changes."""
        mark = (size, self.consortium.size)
        if self._refused.get(place) != mark:
            self._refused[place] = mark
            if self.calls.told(*place):
                log.error(text, *parts)

    def _logs(self) -> dict[str, notes.VerifierKey]:
        """All logs by origin."""
        known = {peer.log.name: peer.log for peer in self._peers()}
        return known | {self.consortium.key.name: self.consortium.key}

    def _size(self, key: notes.VerifierKey) -> int:
        return self.consortium.size if key == self.consortium.key else self._heads.size(key)

    def _note(self, key: notes.VerifierKey, size: int) -> notes.Note | None:
        if key != self.consortium.key:
            return self._heads.head(key, size)
        return self.consortium.head(size) if 0 < size <= self.consortium.size else None

    def _moved(self) -> None:
        """The consortium log has another entry or cosignature."""
        self._change += 1
        self._anything.raise_()

    @contextmanager
    def _call(
        self, context: grpc.ServicerContext
    ) -> Iterator[tuple[Stream[WitnessCaller], PeerKeys]]:
        """A member's call; what is malformed in it is refused with that word."""
        with self.calls.refusing(context), self.calls.open(context) as stream:
            own = stream.member.peer
            if own is None:  # joined before outlets had witnesses
                raise AdmissionError("not-a-member", "no witness key", where=stream.member.name)
            try:
                yield stream, own
            except EvidenceError as error:
                if self.calls.told(stream.member.name, "warned"):
                    log.warning("refused a call of %s: %s", stream.member.name, error)
                self._record(stream.member.name, "malformed")
                raise AdmissionError("malformed", error.what, where=stream.member.name) from None
