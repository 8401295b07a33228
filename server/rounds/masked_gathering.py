"""A round whose answers the coordinator sees in their sum alone: its side of the phases.

Who takes part, and by which keys, is fixed before the first round, with every outlet of the
contract; keys for the run are exchanged in it, and go from round to round. After that a round may
lose outlets, up to the contract's dropouts over all its phases.
The protocol, and what it protects against, is `presspool.common.secagg`; what an outlet says in
each phase stands in `presspool.client.sums.sum_party`.

Invariants:
    * An answer is added to the one running sum when it is admitted, and its arrays are let go.
    * A round has one attempt. One that is handed out again is the same, with the same answers.

Example: ``MaskedGathering(contract, number=1, kept=keys.before(b""), shapes={}).brief(1)``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from presspool.common.base.errors import AdmissionError, EvidenceError, QuorumError
from presspool.common.contract.contract import Contract
from presspool.common.secagg.masks import arrays_in
from presspool.common.secagg.pair_keys import checked_advert, gathered, session_of
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import (
    Bundles,
    CohortKeys,
    Consent,
    KeyAdvert,
    MaskedInput,
    Reveal,
    Roster,
    ShareBundle,
    named,
)
from presspool.common.secagg.secagg_plan import ATTEMPT, contract_context, plan_of
from presspool.common.trust.pooled import Pooled
from presspool.common.trust.trust_model import Phases
from presspool.common.wire.update import AdapterUpdate

KEYS, SHARES, TRAIN, CONSENT, REVEAL = range(1, 6)


class MaskedGathering:
    """One round's sum.

    Args:
        contract: the run's.
        number: of the round.
        kept: the cohort's keys, and behind them what the run's first round kept.
        shapes: name to shape of every trained array.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        number: int,
        kept: bytes,
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        masked = contract.trust.masked
        assert masked is not None  # `gathering_of` asks
        self.phases: Phases = masked
        self._contract, self._number, self._shapes = contract, number, shapes
        keys, roster = _read(kept)
        self._keys, self._plan = keys, plan_of(contract, dict(keys.keys))
        self.first = KEYS if roster is None else SHARES
        self._roster = roster
        self._adverts: dict[str, KeyAdvert] = {}
        self._bundles: dict[str, ShareBundle] = {}
        self._inputs: dict[str, AdapterUpdate] = {}
        self._consented: set[str] = set()
        self._sum: SecaggSum | None = None

    @property
    def kept(self) -> bytes:
        """Cohort and roster, for the rounds that follow."""
        return self._keys.before(self.roster.to_bytes())

    @property
    def roster(self) -> Roster:
        """Everybody's key for the run."""
        if self._roster is None:
            self._roster = gathered(self._plan, self._adverts)
        return self._roster

    @property
    def summing(self) -> SecaggSum:
        """The round's sum, as far as it has come."""
        if self._sum is None:
            turn = {"round": self._number, "attempt": ATTEMPT}
            self._sum = SecaggSum(self._plan, self.roster, **turn)
        return self._sum

    def brief(self, phase: int) -> bytes:
        """What a phase's task passes on.

        Raises:
            QuorumError: too few have answered the phase before.
            EvidenceError: keys that do not go together.
        """
        if phase == KEYS:
            return self._keys.to_bytes()
        if phase == SHARES:
            return self.roster.to_bytes()
        if phase == TRAIN:
            self.summing.deliveries()
            parts = {name: bundle.to_bytes() for name, bundle in self._bundles.items()}
            session = session_of(self.roster)
            return Bundles(session, self._number, ATTEMPT, named(parts)).to_bytes()
        said = self.summing.survivor_set() if phase == CONSENT else self.summing.quorum()
        return said.to_bytes()

    def asked(self, phase: int) -> Collection[str] | None:
        """Those whose answers to the phases before are in the sum; first, whoever is there."""
        known: Mapping[int, Collection[str]] = {
            SHARES: self._adverts,
            TRAIN: self._bundles,
            CONSENT: self._inputs,
            REVEAL: self._consented,
        }
        return None if phase == self.first else known[phase]

    def sends_adapter(self, phase: int) -> bool:
        """Where it is trained; phases about masks have no use for it."""
        return self.phases.releases(phase)

    def fewest(self, phase: int) -> int:
        """Everybody's key, K − d outlets' numbers, t signatures and shares."""
        plan = self._plan
        fewest = {KEYS: len(plan.cohort), CONSENT: plan.threshold, REVEAL: plan.threshold}
        return fewest.get(phase, self._contract.trust.fewest(self._contract))

    def take(self, phase: int, outlet: str, update: AdapterUpdate) -> None:
        """Keep an admitted answer's part in the sum; raises `AdmissionError` where it has none."""
        takes = {
            KEYS: self._take_key,
            SHARES: self._take_shares,
            TRAIN: self._take_input,
            CONSENT: self._take_consent,
            REVEAL: self._take_reveal,
        }
        try:
            takes[phase](outlet, update)
        except EvidenceError as error:
            raise AdmissionError("malformed", str(error), where=outlet) from None

    def opened(self) -> tuple[Mapping[str, AdapterUpdate], Mapping[str, float]]:
        """The one change that the sum makes.

        Raises:
            EvidenceError: shares that do not fit each other; names whose secret it is.
            PressPoolError: the sum is longer than honest outlets' can be.
        """
        trust = self._contract.trust
        assert isinstance(trust, Pooled)
        total = arrays_in(self.summing.total(), self._shapes)
        return trust.opened(self._contract, total, self._inputs)

    def _take_key(self, outlet: str, update: AdapterUpdate) -> None:
        advert = KeyAdvert.from_bytes(update.said, most=self._plan.message_bytes)
        checked_advert(self._plan, outlet, advert)
        self._adverts[outlet] = advert

    def _take_shares(self, outlet: str, update: AdapterUpdate) -> None:
        bundle = ShareBundle.from_bytes(update.said, most=self._plan.message_bytes)
        self.summing.take_shares(outlet, bundle)
        self._bundles[outlet] = bundle

    def _take_input(self, outlet: str, update: AdapterUpdate) -> None:
        flat = b"".join(update.delta[name].tobytes() for name in sorted(self._shapes))
        session = session_of(self.roster)
        self.summing.take_input(outlet, MaskedInput(session, self._number, ATTEMPT, flat))
        self._inputs[outlet] = replace(update, delta={})

    def _take_consent(self, outlet: str, update: AdapterUpdate) -> None:
        consent = Consent.from_bytes(update.said, most=self._plan.message_bytes)
        self.summing.take_consent(outlet, consent)
        self._consented.add(outlet)

    def _take_reveal(self, outlet: str, update: AdapterUpdate) -> None:
        reveal = Reveal.from_bytes(update.said, most=self._plan.message_bytes)
        self.summing.take_reveal(outlet, reveal)


def keys_of(contract: Contract, cohort: Mapping[str, bytes]) -> CohortKeys:
    """The keys of a contract's outlets.

    Args:
        contract: the run's.
        cohort: members' public keys by outlet.

    Raises:
        QuorumError: an outlet of the contract is no member.
    """
    if missing := sorted(contract.outlets.keys() - cohort.keys()):
        raise QuorumError(
            "a pooled run begins with all of its outlets",
            where="coordinator",
            expected=f"{len(contract.outlets)} members",
            got=f"without {', '.join(missing)}",
            advice="wait until they have joined",
        )
    keys = named({name: cohort[name] for name in contract.outlets})
    return CohortKeys(contract_context(contract), keys)


def _read(kept: bytes) -> tuple[CohortKeys, Roster | None]:
    keys, rest = CohortKeys.apart(kept)
    return keys, Roster.from_bytes(rest, most=len(rest)) if rest else None
