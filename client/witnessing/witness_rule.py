"""The rule before each round: its start is in the consortium log, and enough peers have seen it.

Round r + 1 is trained only from the adapter that the log's entry for (contract, round r) names,
under a head that the coordinator signed, that this outlet's own witness cosigned, and that more
than (n + f)/2 of the n approved peers cosigned (`presspool.common.transparency.quorum` says why
this finds every fork). The own witness cosigns only what it has read entry by entry
(`presspool.client.witnessing.log_copy`), so no round has two entries under such a head.

Invariants:
    * A proof that is missing or not complete yet is "not now"; the round is trained later.
    * A coordinator that was caught with two histories, or with a task that is not what its log
      says, is refused everything from then on.
    * Nothing here sees readers' data.

Example: ``rule.check(contract.digest, number=1, adapter=digest(task.state))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from presspool.client.identity.identity import Identity
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.log_copy import ContradictionError, Fetch, LogCopy
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import EvidenceError, GuardError, LedgerError, NotNowError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, Proof
from presspool.common.transparency.consortium_entries import Entry, parse_entry
from presspool.common.transparency.forks import contradict, fork_proof
from presspool.common.transparency.quorum import needed, require_quorum
from presspool.common.wire.peers import PeerKeys


@dataclass(frozen=True, kw_only=True)
class WitnessRule:
    """Keys and folder that the rule goes by.

    Attributes:
        log: the consortium log's key, as the token pinned it.
        own: this outlet's witness key.
        approved: the peers that the operator approved.
        liars: how many of them may lie.
        folder: what the witness keeps.
    """

    log: notes.VerifierKey
    own: notes.VerifierKey
    approved: Sequence[PeerKeys]
    liars: int
    folder: WitnessFolder

    @classmethod
    def of(cls, identity: Identity, *, liars: int) -> Self:
        """The rule at an outlet's home, as its files are now."""
        return cls(
            log=notes.parse_key(identity.log_key),
            own=identity.witness.key,
            approved=trusted_peers.approved(identity.home),
            liars=liars,
            folder=WitnessFolder.at(identity.home),
        )

    def check(self, contract: str, *, number: int, adapter: str) -> None:
        """Return if a round may be trained from this adapter.

        Args:
            contract: digest of the contract.
            number: of the round, from 1.
            adapter: digest of the adapter that the task starts from.

        Raises:
            GuardError: the coordinator contradicts itself, or no quorum can be made.
            NotNowError: the round before is not witnessed yet.
        """
        proof, said = self._entry(contract, number)
        if said.adapter != adapter:
            self._contradicted(
                "the task starts from another adapter than the log says", adapter, number, proof
            )
        self._require_seen(proof, contract, number)

    def check_keys(self, contract: str, *, keys: str) -> None:
        """Return if a run's outlets may know each other by these keys; before any mask is made.

        Args:
            contract: digest of the contract.
            keys: digest of the keys that the task brings.

        Raises:
            As `check`; `GuardError` also where the log names no keys.
        """
        proof, said = self._entry(contract, 1)
        if said.keys is None:
            raise GuardError(
                "sum-refused",
                "the consortium log does not say by which keys the outlets know each other",
                where=f"start of {contract}",
                expected="their digest",
                advice="ask the coordinator to offer the run anew, under a new name",
            )
        if said.keys != keys:
            self._contradicted(
                "the task brings other keys of outlets than the log says", keys, 1, proof
            )
        self._require_seen(proof, contract, 1)

    def _entry(self, contract: str, number: int) -> tuple[Proof, Entry]:
        """What the log says before a round, and its proof; raises as `check`."""
        self.check_undivided()
        self.check_peers()
        proof = self._proof(contract, number - 1)
        if proof is None:
            raise _not_yet(contract, number, got="no proof yet")
        return proof, parse_entry(proof.extra)

    def _contradicted(self, what: str, task: str, number: int, proof: Proof) -> None:
        """Keep what proves that a task is not what the log says, and raise because of it."""
        contract = parse_entry(proof.extra).contract
        self.folder.contradicted(
            what, contract=contract, round=number - 1, task=task, proof=proof.encode().decode()
        )
        self.check_undivided()

    def _require_seen(self, proof: Proof, contract: str, number: int) -> None:
        try:
            self.require(proof)
        except EvidenceError as error:
            raise _not_yet(contract, number, got=error.got or error.what) from None

    def check_undivided(self) -> None:
        """Raise `GuardError` where the coordinator was caught in a contradiction."""
        found = evidence(self.folder, self.log)
        if found is not None:
            raise GuardError(
                "split-view",
                "the coordinator has contradicted itself",
                where=str(found),
                expected="one history for all outlets",
                got="proof of two",
                advice="compare with the other outlets' operators; nothing is trained for this "
                "coordinator any more",
            )

    def check_peers(self) -> None:
        """Raise `GuardError` where the approved peers can never be enough."""
        try:
            needed(peers=len(self.approved), liars=self.liars)
        except LedgerError as error:
            raise GuardError(
                "witnesses-too-few",
                "no quorum of witnesses can be made",
                where="policy.toml [witnesses]",
                expected="more approved peers than may lie",
                got=error.got,
                advice="approve peers: presspool outlet peers approve NAME FINGERPRINT; or write "
                "required = false under [witnesses], and trust the coordinator",
            ) from None

    def require(self, proof: Proof) -> None:
        """Raise `EvidenceError` unless enough witnesses have seen the proof's head."""
        require_quorum(
            proof.checkpoint,
            log=self.log,
            own=self.own,
            liars=self.liars,
            approved=[peer.witness for peer in self.approved],
        )

    def verify(self, contract: str, number: int, entry: bytes, proof: Proof) -> None:
        """Check that the coordinator's log has this entry for this round.

        Raises:
            EvidenceError: it is another round's, or not in the log under a signed head.
        """
        said = parse_entry(entry)
        if (said.contract, said.round) != (contract, number):
            raise EvidenceError(
                "entry of another round",
                expected=f"round {number} of {contract}",
                got=f"round {said.round} of {said.contract}",
            )
        proof.verify(merkle.leaf_hash(entry), log=self.log)

    def contradicts(self, copy: LogCopy, proof: Proof) -> bool:
        """Whether a proof's head is of another history than what was cosigned and read.

        What proves that is kept, and `check_undivided` raises from then on.
        """
        held = self.folder.heads.read(self.log.name)
        if held is None:
            return False
        ours, theirs = (Checkpoint.parse(note.text) for note in (held, proof.checkpoint))
        if contradict(ours, theirs):
            kept = fork_proof(held, proof.checkpoint, log=self.log)
            self.folder.heads.keep_fork(self.log.name, kept)
            return True
        older = theirs.size < ours.size <= len(copy)
        if older and copy.root(theirs.size) != theirs.root:
            self.folder.contradicted(
                "a head that is no beginning of the one cosigned",
                heads=[note.encode().decode() for note in (proof.checkpoint, held)],
                leaves=copy.leaves(ours.size),
            )
            return True
        return False

    def read_log(self, proof: Proof, fetch: Fetch) -> LogCopy:
        """The log's entries up to a proof's head, and to what was cosigned before.

        Raises:
            EvidenceError: they do not lead there.
            GuardError: they contradict each other, or what was cosigned; the proof is kept.
        """
        held, copy = self.folder.heads.read(self.log.name), LogCopy(self.log)
        heads = [note for note in (proof.checkpoint, held) if note is not None]
        newest = max(heads, key=lambda note: Checkpoint.parse(note.text).size)
        try:
            copy.follow(newest, held=held, fetch=fetch)
        except ContradictionError as error:
            self.folder.contradicted(error.what, **error.evidence)
        else:
            self.contradicts(copy, proof)
        self.check_undivided()
        return copy

    def _proof(self, contract: str, number: int) -> Proof | None:
        """The kept proof, verified again; None where there is none that holds."""
        try:
            proof = self.folder.proof(contract, number)
            if proof is not None:
                self.verify(contract, number, proof.extra, proof)
        except EvidenceError:  # damaged; the witness fetches it again
            return None
        return proof


def evidence(folder: WitnessFolder, log: notes.VerifierKey) -> Path | None:
    """The file that proves that the coordinator contradicted itself, if there is one."""
    return next(
        (path for path in (folder.heads.fork(log.name), folder.contradiction) if path.exists()),
        None,
    )


def _not_yet(contract: str, number: int, *, got: object) -> NotNowError:
    return NotNowError(
        "not-now-witnesses",
        "the round before is not witnessed yet",
        where=f"round {number - 1} of {contract}",
        expected="this outlet's cosignature and those of enough approved peers",
        got=got,
        advice="nothing: it is tried again; presspool outlet doctor says who is missing",
    )
