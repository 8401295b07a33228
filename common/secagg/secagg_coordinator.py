"""The coordinator's side of one attempt at a secure sum: it adds inputs as they arrive.

Four steps, each of which ends when the caller asks for what comes next: shares (`deliveries`),
inputs (`survivor_set`), consents (`quorum`), reveals (`total`). Fewer outlets than a step needs end
the attempt with `QuorumError`: make the next attempt, with new masks and new noise. After `quorum`
was handed out an outlet may have revealed, and takes no other attempt of that round: ask it for
the same reveal again, or give the round up and count it as spent.

Invariants:
    * One vector is held, and one more while an input is added. What is held of an outlet is of a
      size that does not depend on the vector's.
    * A message is taken as a whole or not at all, from each outlet once, in its step alone.
    * The state follows from the messages alone: a coordinator that was killed takes the kept ones
      again. It has no secrets.
    * Nothing here protects an outlet: whatever this code does, `secagg_outlet` does that.

Example:
    >>> from presspool.common.pki.keys import SigningKey
    >>> from presspool.common.secagg.pair_keys import gathered
    >>> from presspool.common.secagg.secagg_outlet import SecaggOutlet
    >>> signers = {name: SigningKey.generate() for name in "ABCD"}
    >>> cohort = {name: signer.public for name, signer in signers.items()}
    >>> plan = SecaggPlan(run="r", contract="sha256:0", cohort=cohort, colluders=0, dropouts=1,
    ...                   ring_bits=32, length=2, bound=100)
    >>> outlets = {name: SecaggOutlet.begin(plan, name, signer, lambda record: None)
    ...            for name, signer in signers.items()}
    >>> roster = gathered(plan, {name: outlet.advertise() for name, outlet in outlets.items()})
    >>> for outlet in outlets.values():
    ...     outlet.join(roster)
    >>> summing = SecaggSum(plan, roster, round=1, attempt=1)
    >>> for name, outlet in outlets.items():
    ...     summing.take_shares(name, outlet.share(1, 1))
    >>> delivered, _ = summing.deliveries(), outlets.pop("D")  # which drops out
    >>> for at, (name, outlet) in enumerate(outlets.items()):
    ...     summing.take_input(name, outlet.mask(delivered[name], np.array([at, -10])))
    >>> survivors = summing.survivor_set()
    >>> for name, outlet in outlets.items():
    ...     summing.take_consent(name, outlet.consent(survivors))
    >>> quorum = summing.quorum()
    >>> for name, outlet in outlets.items():
    ...     summing.take_reveal(name, outlet.reveal(quorum))
    >>> summing.total()
    array([  3, -30], dtype=int32)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from presspool.common.base.errors import EvidenceError, QuorumError
from presspool.common.pki.keys import SIGNATURE_BYTES, verify
from presspool.common.secagg.masks import SignedVector, add_mask, from_ring, to_ring
from presspool.common.secagg.pair_keys import checked_keys, session_of, unsealed
from presspool.common.secagg.secagg_messages import (
    CHECK_BYTES,
    CONSENT_TAG,
    Consent,
    Delivery,
    MaskedInput,
    Named,
    Reveal,
    Roster,
    ShareBundle,
    SurvivorSet,
    TurnMessage,
    named,
    seed_check,
)
from presspool.common.secagg.secagg_plan import SecaggPlan
from presspool.common.secagg.shamir import SECRET_BYTES, SHARE_BYTES, combine

Step = Literal["shares", "inputs", "consents", "reveals", "end"]
_SEAL_BYTES = 12 + 16  # nonce and tag


class SecaggSum:
    """One attempt at one round's sum.

    Args:
        plan: of the run.
        roster: everybody's keys.
        round: from 1.
        attempt: from 1; a number that was not used for this round before.

    Attributes:
        step: whose messages are taken now.

    Raises:
        EvidenceError: the roster is not one of this plan.
    """

    def __init__(self, plan: SecaggPlan, roster: Roster, *, round: int, attempt: int) -> None:
        checked_keys(plan, roster)
        self._plan, self._session, self._turn = plan, session_of(roster), (round, attempt)
        self.step: Step = "shares"
        self._bundles: dict[str, ShareBundle] = {}
        self._added: set[str] = set()
        self._consents: dict[str, bytes] = {}
        self._reveals: dict[str, Reveal] = {}
        self._total = to_ring(np.zeros(plan.length, dtype=np.int64), plan.ring_bits)

    def missing(self) -> list[str]:
        """Who may still answer in this step."""
        asked, answered = self._asked()
        return sorted(set(asked) - set(answered))

    def take_shares(self, sender: str, bundle: ShareBundle) -> None:
        """Keep an outlet's shares for the others; raises `EvidenceError` if they are not that."""
        self._check("shares", sender, bundle)
        others = self._plan.cohort.keys() - {sender}
        self._check_parts(sender, bundle.sealed, others, 2 * SHARE_BYTES + _SEAL_BYTES)
        pair_bytes = SECRET_BYTES * len(others) + _SEAL_BYTES
        if (len(bundle.self_check), len(bundle.pair_seeds)) != (CHECK_BYTES, pair_bytes):
            raise _malformed(sender)
        self._bundles[sender] = bundle

    def deliveries(self) -> dict[str, Delivery]:
        """For each outlet that shared, what the others sealed for it; shares are taken no more.

        Raises:
            QuorumError: fewer than K − d outlets shared.
        """
        self._close("shares", "inputs", len(self._bundles), self._plan.fewest)
        sealed = {name: dict(bundle.sealed) for name, bundle in self._bundles.items()}
        return {
            name: Delivery(
                self._session,
                *self._turn,
                named({peer: parts[name] for peer, parts in sealed.items() if peer != name}),
            )
            for name in sealed
        }

    def take_input(self, sender: str, masked: MaskedInput) -> None:
        """Add an outlet's masked input; raises `EvidenceError` if it is none."""
        self._check("inputs", sender, masked)
        if len(masked.values) != self._total.nbytes:
            raise _malformed(sender)
        self._total += np.frombuffer(masked.values, dtype=self._total.dtype)
        self._added.add(sender)

    def survivor_set(self) -> SurvivorSet:
        """U, those whose inputs were added, to be signed; inputs are taken no more.

        Raises:
            QuorumError: fewer than K − d inputs.
        """
        self._close("inputs", "consents", len(self._added), self._plan.fewest)
        return self._survivors()

    def take_consent(self, sender: str, consent: Consent) -> None:
        """Keep an outlet's signature on U₁ and U; raises `EvidenceError` if it is none."""
        self._check("consents", sender, consent)
        if len(consent.signature) != SIGNATURE_BYTES:
            raise _malformed(sender)
        body = self._survivors().agreement(self._bundles)
        verify(self._plan.cohort[sender], CONSENT_TAG, body, consent.signature)
        self._consents[sender] = consent.signature

    def quorum(self) -> SurvivorSet:
        """U with its signatures.

        Raises:
            QuorumError: fewer than t signatures.
        """
        self._close("consents", "reveals", len(self._consents), self._plan.threshold)
        return self._survivors()

    def take_reveal(self, sender: str, reveal: Reveal) -> None:
        """Keep an outlet's shares of the others' seeds; raises `EvidenceError` if it has others."""
        self._check("reveals", sender, reveal)
        self._check_parts(sender, reveal.self_shares, self._added, SHARE_BYTES)
        dropped = self._bundles.keys() - self._added
        self._check_parts(sender, reveal.pair_shares, dropped, SHARE_BYTES)
        self._reveals[sender] = reveal

    def total(self) -> SignedVector:
        """The sum over U: signed integers of w bits, of shape (length,).

        Raises:
            QuorumError: fewer than t outlets revealed.
            EvidenceError: shares that do not fit each other; the error names whose secret it is.
        """
        points = self._plan.points
        if len(self._reveals) < self._plan.threshold:
            raise self._too_few("reveals", len(self._reveals), self._plan.threshold)
        held = {points[name]: dict(r.self_shares) for name, r in self._reveals.items()}
        table = {points[name]: dict(r.pair_shares) for name, r in self._reveals.items()}
        selves = [self._self_seed(name, held) for name in sorted(self._added)]
        dropped = sorted(self._bundles.keys() - self._added)
        seeds = {name: self._pair_seeds(name, self._combined(name, table)) for name in dropped}
        self._close("reveals", "end", len(self._reveals), self._plan.threshold)
        for seed in selves:
            add_mask(self._total, seed, minus=True)
        for gone, of_peer in seeds.items():
            for name in self._added:  # who added the mask if its name comes first
                add_mask(self._total, of_peer[name], minus=name < gone)
        return from_ring(self._total)

    def _asked(self) -> tuple[Collection[str], Collection[str]]:
        """Who may answer in this step, and who has."""
        steps: dict[Step, tuple[Collection[str], Collection[str]]] = {
            "shares": (self._plan.cohort, self._bundles),
            "inputs": (self._bundles, self._added),
            "consents": (self._added, self._consents),
            "reveals": (self._added, self._reveals),
            "end": ((), ()),
        }
        return steps[self.step]

    def _check(self, step: Step, sender: str, message: TurnMessage) -> None:
        where = f"{type(message).__name__} of {sender}"
        if message.context != self._session:
            raise EvidenceError("of another run, or with other keys", where=where)
        if (message.round, message.attempt) != self._turn:
            raise EvidenceError("of another attempt", where=where, expected=self._turn)
        if step != self.step:
            raise EvidenceError("too late or too early", where=where, expected=self.step, got=step)
        asked, answered = self._asked()
        if sender not in asked:
            raise EvidenceError("from nobody who was asked", where=where)
        if sender in answered:
            raise EvidenceError("a second one", where=where)

    def _check_parts(self, sender: str, parts: Named, names: Collection[str], size: int) -> None:
        found = dict(parts)
        if found.keys() != set(names) or any(len(part) != size for part in found.values()):
            raise _malformed(sender)

    def _close(self, step: Step, following: Step, have: int, need: int) -> None:
        """Go on to the next step, if this one has what it needs."""
        if self.step != step:
            raise EvidenceError("too late or too early", where=step, expected=self.step)
        if have < need:
            raise self._too_few(step, have, need)
        self.step = following

    def _too_few(self, step: str, have: int, need: int) -> QuorumError:
        return QuorumError(
            f"too few {step}",
            where=f"secure sum of round {self._turn[0]}, attempt {self._turn[1]}",
            expected=f"{need} or more",
            got=have,
            advice="make another attempt" if self.step != "reveals" else "ask for reveals again",
        )

    def _survivors(self) -> SurvivorSet:
        signed = {name: self._consents.get(name, b"") for name in self._added}
        return SurvivorSet(self._session, *self._turn, named(signed))

    def _combined(self, owner: str, held: Mapping[int, Mapping[str, bytes]]) -> bytes:
        try:
            parts = {point: shares[owner] for point, shares in held.items()}
            return combine(parts, threshold=self._plan.threshold)
        except EvidenceError as error:
            raise EvidenceError(error.what, where=f"revealed shares of {owner}'s secret") from None

    def _self_seed(self, owner: str, held: Mapping[int, Mapping[str, bytes]]) -> bytes:
        seed = self._combined(owner, held)
        if seed_check(self._session, *self._turn, seed) != self._bundles[owner].self_check:
            raise EvidenceError("not the one it shared", where=f"self-mask of {owner}")
        return seed

    def _pair_seeds(self, owner: str, key: bytes) -> dict[str, bytes]:
        sealed = self._bundles[owner].pair_seeds
        raw = unsealed(key, sealed, self._session, where=f"pair seeds of {owner}")
        others = [peer for peer in self._plan.cohort if peer != owner]
        return {
            peer: raw[SECRET_BYTES * at : SECRET_BYTES * (at + 1)] for at, peer in enumerate(others)
        }


def _malformed(sender: str) -> EvidenceError:
    return EvidenceError("malformed", where=f"message of {sender}")
