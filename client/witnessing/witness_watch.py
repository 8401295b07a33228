"""The outlet's witness at work, beside training: cosigns, reads, fetches proofs, publishes.

One thread with a line of its own, so that a busy outlet does not keep the others waiting. The
outlet asks (it dials out): each turn it publishes its ledger's head where that is due, fetches the
proof that training waits for, then waits for heads to cosign.

Invariants:
    * The consortium log's heads are cosigned only after its entries were read; a peer's heads as
      any witness does.
    * What proves a contradiction of the coordinator is on disk before anything else is done.
    * A proof is kept only when it is complete; then, and when the ledger's own head was asked for,
      training is told.
    * A coordinator that says nonsense, or nothing, costs this thread waiting and nothing more.
    * No duty hangs on another: what is wrong with one request, one peer's head, the outlet's own
      ledger or a proof is said by name, and the rest is done.

Example: `with WitnessWatch(identity, …, link=link, news=working.nudge): working.run()`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from presspool.client.consent.policy import read_policy
from presspool.client.identity.identity import Identity
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.log_copy import ContradictionError, LogCopy
from presspool.client.witnessing.own_ledger import OwnLedger
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.client.witnessing.witness_rule import WitnessRule, evidence
from presspool.common.base.errors import (
    AdmissionError,
    EvidenceError,
    LedgerError,
    LinkError,
    PressPoolError,
)
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import LARGEST_SIZE, Checkpoint
from presspool.common.transparency.witness import (
    MALFORMED,
    OK,
    UNPROVEN,
    UNTRUSTED,
    Reply,
    Witness,
    parse_request,
)
from presspool.common.wire.envelope import TaskHeader
from presspool.common.wire.peers import PeerKeys

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 30.0  # a fixed beat, so that when a head appears tells little of what went on
PAUSE_SECONDS = 1.0  # after a turn in which nothing could be cosigned
LONGEST_PAUSE = 30.0
BREATH_SECONDS = 0.1  # between two waits: whoever answers at once with nothing is not asked faster
_JOIN_SECONDS = 5.0
_MOST_SHOWN = 300  # bytes of what cannot be read


class WitnessWatch:
    """The witness of one outlet.

    Args:
        identity: who this outlet is.
        ledger: its ledger's file.
        policy: its policy's file.
        link: to the coordinator; of this witness alone.
        news: called, in the witness's thread, when training may have what it waited for.
        busy: whether a round is being trained or its answer waits; the outlet's ledger is left
            alone then, because a head with the answer's entry would tell when training ended.
        publish: seconds between two looks at the outlet's own ledger.

    Attributes:
        ready: set once the ledger's own head has been asked for.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        ledger: Path,
        policy: Path,
        link: WitnessClient,
        news: Callable[[], None],
        busy: Callable[[], bool] = lambda: False,
        publish: float = PUBLISH_SECONDS,
    ) -> None:
        self._identity, self._path, self._policy = identity, ledger, policy
        self._link, self._news, self._busy, self._publish = link, news, busy, publish
        self._log = notes.parse_key(identity.log_key)
        self._folder, self._copy = WitnessFolder.at(identity.home), LogCopy(self._log)
        self._wanted: tuple[str, int] | None = None
        self._seen = 0
        self._damaged = set[str]()
        self.ready, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._link.hurry()
        self._thread.join(_JOIN_SECONDS)
        self._link.close()

    def want(self, contract: str, number: int) -> None:
        """Fetch the proof of a round's entry as soon as it is complete; from any thread."""
        if self._wanted != (contract, number):  # else it is fetched whenever the log moves
            self._wanted = (contract, number)
            self._link.hurry()

    def is_over(self, task: TaskHeader) -> bool:
        """Whether the consortium log, as read so far, names this round; from any thread."""
        return self.last(task.contract) >= task.round

    def last(self, contract: str) -> int:
        """A run's newest round that the log, as read so far, names; from any thread."""
        return self._copy.last(contract)

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        with OwnLedger(
            self._identity, self._path, self._link, asked=self._is_ready, every=self._publish
        ) as ledger:
            while not self._stopping.is_set():
                try:
                    if self._turn(ledger):
                        pause = PAUSE_SECONDS
                        continue
                except PressPoolError as error:
                    log.warning("witness: %s; trying again in %.0f s", error, pause)
                except Exception:
                    log.exception("witness: a fault of the program; trying again")
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _turn(self, ledger: OwnLedger) -> bool:
        """One round of duties; False where one of them could not be done."""
        approved = trusted_peers.approved(self._identity.home)
        done = [self._alone("its own ledger", lambda: self._publish_own(ledger, approved))]
        done.append(self._alone("a proof", self._prove))
        self._stopping.wait(BREATH_SECONDS)
        logs = [self._log, *(peer.log for peer in approved)]
        requests, self._seen = self._link.wait(self._held(logs), seen=self._seen)
        witness = Witness(self._identity.witness, logs=logs, heads=self._folder.heads)
        return all([*done, *(self._answered(witness, data) for data in requests)])

    def _publish_own(self, ledger: OwnLedger, approved: Sequence[PeerKeys]) -> None:
        if not self._busy():
            ledger.publish_if_due(approved)
        elif not self.ready.is_set():  # or a round that came first would wait for ever
            ledger.learn()

    def _alone(self, what: str, duty: Callable[[], None]) -> bool:
        """Do a duty; its failure is said, and in the way of no other, unless the link is down."""
        try:
            duty()
        except LinkError:
            raise
        except PressPoolError as error:
            log.error("witness: %s: %s", what, error)
            return False
        return True

    # --- Other logs -------------------------------------------------------------------------------

    def _held(self, logs: list[notes.VerifierKey]) -> dict[str, int]:
        """How much is held of each log; a log whose file is damaged is left out, and said once."""
        held = dict[str, int]()
        for key in logs:
            try:
                note = self._folder.heads.read(key.name)
                held[key.name] = Checkpoint.parse(note.text).size if note else 0
            except EvidenceError as error:
                if key.name not in self._damaged:
                    log.error("witness: the head held of %s is damaged: %s", key.name, error)
                self._damaged.add(key.name)
        return held

    def _answered(self, witness: Witness, data: bytes) -> bool:
        """Answer one request; whatever is wrong with it is in no other's way."""
        try:
            return self._answer(witness, data)
        except (EvidenceError, LedgerError, AdmissionError) as error:
            origin, size = _about(data)
            log.error("witness: no cosignature for %d entries of %s: %s", size, origin, error)
        with suppress(AdmissionError):  # or else it would be asked again for ever
            self._link.answer(origin, size, Reply(status=MALFORMED))
        return False

    def _answer(self, witness: Witness, data: bytes) -> bool:
        request = parse_request(data)
        head = Checkpoint.parse(request.checkpoint.text)
        if head.origin != self._log.name:
            reply = witness.add_checkpoint(data)
        elif evidence(self._folder, self._log) is not None:
            reply = Reply(status=UNTRUSTED)
        elif self._read(request.checkpoint):
            reply = witness.add_checkpoint(data)
        else:
            reply = Reply(status=UNPROVEN)
        if reply.status != OK:
            log.error(
                "witness: no cosignature (%d) for the head of %d entries of %s",
                reply.status,
                head.size,
                head.origin,
            )
        if reply.fork is not None:
            log.error(
                "witness: %s has signed two histories; the proof: %s",
                head.origin,
                self._folder.heads.fork(head.origin),
            )
        self._link.answer(head.origin, head.size, reply)
        return reply.status == OK

    def _read(self, note: notes.Note) -> bool:
        """Read the consortium log up to a head; whether it may be cosigned."""
        held = self._folder.heads.read(self._log.name)
        if (
            held is not None
            and Checkpoint.parse(held.text).size == Checkpoint.parse(note.text).size
        ):
            return True  # the witness itself compares them, and keeps the proof of a fork
        try:
            self._copy.follow(note, held=held, fetch=self._link.entries)
        except ContradictionError as error:
            self._folder.contradicted(error.what, **error.evidence)
            log.error(
                "witness: the coordinator contradicts itself: %s; the proof: %s",
                error.what,
                self._folder.contradiction,
            )
            return False
        except EvidenceError as error:
            log.error("witness: the consortium log cannot be read: %s", error)
            return False
        return True

    def _prove(self) -> None:
        """Fetch the proof that training waits for; keep it when it is complete."""
        wanted = self._wanted
        if wanted is None:
            return
        rule = WitnessRule.of(self._identity, liars=read_policy(self._policy).witnesses.liars)
        found = self._link.prove(*wanted)
        if found is None:
            return
        entry, proof = found
        rule.verify(*wanted, entry, proof)
        if rule.contradicts(self._copy, proof):
            self._wanted = None
            self._news()
            return
        try:
            rule.require(proof)
        except PressPoolError as error:  # not complete yet; the next cosignature wakes us
            log.info("witness: round %d is not witnessed yet: %s", wanted[1], error.got)
            return
        self._folder.keep_proof(*wanted, entry, proof)
        if self._wanted == wanted:
            self._wanted = None
        self._news()

    def _is_ready(self) -> None:
        if not self.ready.is_set():
            self.ready.set()
            self._news()


def _about(data: bytes) -> tuple[str, int]:
    """Log and size that a request speaks of, as far as it can be read at all."""
    lines = data.partition(b"\n\n")[2][:_MOST_SHOWN].split(b"\n")
    size = int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
    return ascii(lines[0].decode(errors="replace"))[1:-1], min(size, LARGEST_SIZE)
