"""An outlet's side of a secure sum: keys, shares, masked input, consent, reveal; in this order.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017),
§6.2 with the consistency check of §6.1's active adversary, and these differences: pair seeds come
from one exchange a run, anew for each attempt; what is shared out for the case of a dropout is the
key to this attempt's pair seeds and no private key; everybody signs U₁ as well as U.

What the coordinator and at most c outlets learn together is the sum over the other outlets in U,
once a round, and nothing if it is not opened. What carries this, step by step:

* y = x + self-mask ± pair masks. Who has both an outlet's self-mask and its pair masks has x, so of
  each peer one share leaves here: of the self-mask if the peer is in U, of the pair seeds if not.
* A coordinator that tells different U (or U₁) to different outlets would get both kinds. But
  nothing is revealed before t outlets have signed the same U₁ and U, an outlet signs once an
  attempt, and two sets of t signers share an honest one (`secagg_plan`).
* An outlet reveals once a round, whatever the attempt. To open two attempts of one round takes two
  sets of t − c honest outlets, which have one in common. So an attempt that failed has told
  nothing, and to try again costs nothing.

Invariants:
    * The record is saved before what follows from it leaves. All that is random in an attempt comes
      from its one `root`, so that after a kill the same bytes are made again, or none.
    * One input an attempt, one U₁, one U. What would be a second is refused, also after a restart.
    * Nothing is refused because of an input's values.
    * A new attempt forgets the one before it: its root and the shares that were received.

Example: see `presspool.common.secagg.secagg_coordinator`, which plays both sides.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from numpy.typing import NDArray

from presspool.common.base.errors import EvidenceError, PlanError, QuorumError
from presspool.common.pki.keys import SigningKey, verify
from presspool.common.secagg.masks import add_mask, to_ring
from presspool.common.secagg.pair_keys import NONCE_BYTES, PairKeys, Turn, expanded, key_advert
from presspool.common.secagg.secagg_messages import (
    CONSENT_TAG,
    Consent,
    Delivery,
    KeyAdvert,
    MaskedInput,
    Named,
    Reveal,
    Roster,
    SecaggMessage,
    ShareBundle,
    SurvivorSet,
    TurnMessage,
    named,
    packed,
    seed_check,
)
from presspool.common.secagg.secagg_plan import SecaggPlan
from presspool.common.secagg.shamir import SECRET_BYTES, SHARE_BYTES, WIDE_BYTES, split

_LAST = (1 << 31) - 1  # round or attempt
Changes = dict[str, Any]  # of a record's fields
Save = Callable[[bytes], None]
"""Makes a record durable, where only the outlet can read it, before it returns."""


@dataclass(frozen=True, repr=False)
class OutletRecord(SecaggMessage):
    """All that an outlet must not forget, and must tell nobody: it holds secrets.

    Attributes:
        secret: the run's private key (X25519).
        roster: everybody's public keys, once known.
        round: of the attempt that goes on; 0 before the first.
        attempt: its number.
        root: the attempt's randomness, 32 bytes.
        received: U₁ without this outlet, with what each shared with it.
        masked: SHA-256 of U₁ and of the masked input that was made of it.
        signed: SHA-256 of the U₁ and U that were signed.
        revealed: the last round in which anything was revealed.
    """

    secret: bytes
    roster: Named = ()
    round: int = 0
    attempt: int = 0
    root: bytes = b""
    received: Named = ()
    masked: bytes = b""
    signed: bytes = b""
    revealed: int = 0


class SecaggOutlet:
    """One outlet in one run.

    Args:
        plan: of the run, from the contract as this outlet read it.
        name: its own.
        signer: its own key, whose public half stands in the plan.
        record: as it was saved last.
        save: keeps the next ones.

    Raises:
        EvidenceError: the record is of another run.
    """

    def __init__(
        self, plan: SecaggPlan, name: str, signer: SigningKey, record: OutletRecord, save: Save
    ) -> None:
        if record.context != plan.context:
            raise EvidenceError("of another run, or of other numbers", where="record")
        self._plan, self._name, self._signer = plan, name, signer
        self._record, self._save = record, save
        self._joined = self._keys_of(record.roster, known=True) if record.roster else None

    def __repr__(self) -> str:
        return f"SecaggOutlet({self._name}, round={self._record.round})"

    @classmethod
    def begin(cls, plan: SecaggPlan, name: str, signer: SigningKey, save: Save) -> Self:
        """An outlet that has no record of this run yet."""
        record = OutletRecord(plan.context, secrets.token_bytes(32))
        save(record.to_bytes())
        return cls(plan, name, signer, record, save)

    def advertise(self) -> KeyAdvert:
        """Its public key for this run."""
        return key_advert(self._plan, self._name, self._signer, self._record.secret)

    def join(self, roster: Roster) -> None:
        """Take everybody's keys.

        Raises:
            EvidenceError: they are not as they should be, or are others than before.
        """
        if roster.context != self._plan.context or self._record.roster not in ((), roster.adverts):
            raise EvidenceError("of another run, or a second one", where="roster")
        if self._record.roster:
            return  # the same again
        joined = self._keys_of(roster.adverts, known=False)
        self._keep({"roster": roster.adverts})
        self._joined = joined

    def share(self, round: int, attempt: int) -> ShareBundle:
        """Begin an attempt, with fresh masks; said again, the same bytes.

        Raises:
            EvidenceError: no round and attempt.
            PlanError: an older one, or a round in which this outlet has revealed already.
        """
        keys, turn, record = self._keys, (round, attempt), self._record
        if not (0 < round <= _LAST and 0 < attempt <= _LAST):
            raise EvidenceError("no attempt", where="round", expected="1 or more", got=turn)
        if turn < self._turn or (turn > self._turn and round <= record.revealed):
            raise PlanError(
                "an attempt that is over, or a round that may have been opened",
                where="secure sum",
                expected=f"later than {self._turn}",
                got=turn,
            )
        if turn > self._turn:
            new: Changes = {"round": round, "attempt": attempt, "root": secrets.token_bytes(32)}
            self._keep(new | {"received": (), "masked": b"", "signed": b""})
        sealed = {
            peer: keys.seal(peer, turn, shares, self._random(f"nonce {peer}", NONCE_BYTES))
            for peer, shares in self._shares().items()
            if peer != self._name
        }
        check = seed_check(keys.session, *turn, self._random("self-mask"))
        return ShareBundle(keys.session, *turn, check, self._sealed_pair_seeds(), named(sealed))

    @property
    def has_masked(self) -> bool:
        """An input was masked in the attempt that goes on."""
        return bool(self._record.masked)

    def received(self, delivery: Delivery) -> dict[str, bytes]:
        """What the others shared with this outlet; nothing is kept yet.

        Raises:
            EvidenceError: shares of another attempt or of nobody in the cohort.
            QuorumError: of fewer than K − d outlets.
        """
        self._expected(delivery)
        received = {peer: self._opened(peer, sealed) for peer, sealed in delivery.sealed}
        self._enough(len(received) + 1)
        return received

    def mask(self, delivery: Delivery, values: NDArray[np.int64]) -> MaskedInput:
        """The masked input.

        Args:
            delivery: the others' shares, which say who they are.
            values: x, int64 of shape (length,).

        Raises:
            EvidenceError, QuorumError: see `received`.
            PlanError: values of another shape, or a second input or delivery in this attempt.
        """
        keys, received = self._keys, self.received(delivery)
        if values.dtype != np.int64 or values.shape != (self._plan.length,):
            raise PlanError(
                "input of another form",
                where="secure sum",
                expected=f"int64, ({self._plan.length},)",
                got=f"{values.dtype}, {values.shape}",
            )
        total = to_ring(values, self._plan.ring_bits)
        add_mask(total, self._random("self-mask"))
        for peer in received:
            add_mask(total, keys.pair_seed(peer, self._turn), minus=self._name > peer)
        made = MaskedInput(keys.session, *self._turn, total.tobytes())
        digest = hashlib.sha256(delivery.to_bytes() + made.to_bytes()).digest()
        if self._record.masked not in (b"", digest):
            raise PlanError("a second input in one attempt", where="secure sum")
        self._keep({"received": named(received), "masked": digest})
        return made

    def consent(self, survivors: SurvivorSet) -> Consent:
        """Sign U₁ and U, once an attempt.

        Raises:
            EvidenceError: another U than was signed, or one that is not possible.
            QuorumError: fewer than K − d outlets.
        """
        keys, body = self._expected(survivors), self._agreed(survivors)
        self._keep({"signed": hashlib.sha256(body).digest()})
        return Consent(keys.session, *self._turn, self._signer.sign(CONSENT_TAG, body))

    def reveal(self, survivors: SurvivorSet) -> Reveal:
        """For each outlet of U₁ one share: of its self-mask if in U, of its pair seeds if not.

        Raises:
            EvidenceError: not the U that was signed here, or fewer than t have signed it.
        """
        keys, body = self._expected(survivors), self._agreed(survivors)
        if not self._record.signed:
            raise EvidenceError("not signed here", where="survivor set")
        self._check_signatures(survivors, body)
        self._keep({"revealed": self._record.round})
        held = {**dict(self._record.received), self._name: self._shares()[self._name]}
        alive = dict(survivors.survivors)
        opened = {peer: both[:SHARE_BYTES] for peer, both in held.items() if peer in alive}
        dropped = {peer: both[SHARE_BYTES:] for peer, both in held.items() if peer not in alive}
        return Reveal(keys.session, *self._turn, named(opened), named(dropped))

    @property
    def _turn(self) -> Turn:
        return self._record.round, self._record.attempt

    @property
    def _keys(self) -> PairKeys:
        if self._joined is None:
            raise PlanError("no keys of the others yet", where="secure sum")
        return self._joined

    def _keys_of(self, adverts: Named, *, known: bool) -> PairKeys:
        return PairKeys(self._plan, self._name, self._record.secret, adverts, known=known)

    def _keep(self, changes: Changes) -> None:
        record = replace(self._record, **changes)
        self._save(record.to_bytes())
        self._record = record

    def _expected(self, message: TurnMessage) -> PairKeys:
        """The keys, if the message is of this run and of the attempt that goes on."""
        where, keys = type(message).__name__, self._keys
        if message.context != keys.session:
            raise EvidenceError("of another run, or with other keys", where=where)
        if (message.round, message.attempt) != self._turn:
            got = (message.round, message.attempt)
            raise EvidenceError("of another attempt", where=where, expected=self._turn, got=got)
        return keys

    def _enough(self, outlets: int) -> None:
        if outlets < self._plan.fewest:
            raise QuorumError(
                "too few outlets; nothing was revealed",
                where="secure sum",
                expected=f"{self._plan.fewest} or more",
                got=outlets,
            )

    def _random(self, use: str, size: int = SECRET_BYTES) -> bytes:
        return expanded(self._record.root, packed("presspool/secagg/root/v1", use), size)

    def _shares(self) -> dict[str, bytes]:
        """Outlet to its share of the self-mask's seed and its share of the pair seeds' key."""
        points, threshold = self._plan.points, self._plan.threshold
        first, second = (
            split(
                self._random(use),
                threshold=threshold,
                points=points.values(),
                randomness=self._random(f"{use} polynomial", WIDE_BYTES * (threshold - 1)),
            )
            for use in ("self-mask", "pair seeds")
        )
        return {name: first[point] + second[point] for name, point in points.items()}

    def _sealed_pair_seeds(self) -> bytes:
        """The pair seeds in the cohort's order; the key is used for nothing else, so nonce 0 is."""
        others = (peer for peer in self._plan.cohort if peer != self._name)
        seeds = b"".join(self._keys.pair_seed(peer, self._turn) for peer in others)
        nonce, key = bytes(NONCE_BYTES), self._random("pair seeds")
        return nonce + ChaCha20Poly1305(key).encrypt(nonce, seeds, self._keys.session)

    def _opened(self, peer: str, sealed: bytes) -> bytes:
        if peer not in self._plan.cohort or peer == self._name:
            raise EvidenceError("shares from nobody else in the cohort", where="delivery")
        shares = self._keys.open(peer, self._turn, sealed)
        if len(shares) != 2 * SHARE_BYTES:
            raise EvidenceError("malformed", where=f"shares from {peer}")
        return shares

    def _agreed(self, survivors: SurvivorSet) -> bytes:
        """What is signed of a U that is possible here, and is no other than before."""
        alive, shared = dict(survivors.survivors), {*dict(self._record.received), self._name}
        if not self._record.masked or self._name not in alive or not shared.issuperset(alive):
            raise EvidenceError("with others than sent an input, or without us", where="survivors")
        self._enough(len(alive))
        body = survivors.agreement(shared)
        if self._record.signed not in (b"", hashlib.sha256(body).digest()):
            raise EvidenceError("a second one in one attempt", where="survivor set")
        return body

    def _check_signatures(self, survivors: SurvivorSet, body: bytes) -> None:
        signed = {name: signature for name, signature in survivors.survivors if signature}
        if len(signed) < self._plan.threshold:
            raise EvidenceError(
                "signed by too few",
                where="survivor set",
                expected=f"{self._plan.threshold} or more",
                got=len(signed),
            )
        for name, signature in signed.items():
            verify(self._plan.cohort[name], CONSENT_TAG, body, signature)
