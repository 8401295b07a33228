"""A whole secure sum in one process: every message through its bytes, every record through its own.

Outlets may be restarted from what they saved last, and drop out before any step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from presspool.common.pki.keys import SigningKey
from presspool.common.secagg.masks import SignedVector
from presspool.common.secagg.pair_keys import gathered
from presspool.common.secagg.secagg_coordinator import SecaggSum
from presspool.common.secagg.secagg_messages import (
    Consent,
    Delivery,
    KeyAdvert,
    MaskedInput,
    Reveal,
    Roster,
    SecaggMessage,
    ShareBundle,
    SurvivorSet,
)
from presspool.common.secagg.secagg_outlet import OutletRecord, SecaggOutlet
from presspool.common.secagg.secagg_plan import SecaggPlan

M = TypeVar("M", bound=SecaggMessage)
Inputs = Mapping[str, NDArray[np.int64]]
STEPS = ("shares", "inputs", "consents", "reveals")


def names(outlets: int) -> list[str]:
    return [f"outlet-{at:02}" for at in range(outlets)]


class SecurePool:
    """K outlets with their keys exchanged, and what each saved last."""

    def __init__(
        self, outlets: int = 4, *, join: bool = True, run: str = "run-1", **numbers: Any
    ) -> None:
        self.signers = {name: SigningKey.generate() for name in names(outlets)}
        self.plan = plan_of(self.signers, run=run, **numbers)
        self.records: dict[str, bytes] = {}
        self.outlets = {name: self.begun(name) for name in self.signers}
        adverts = {n: self.sent(o.advertise(), KeyAdvert) for n, o in self.outlets.items()}
        self.roster = self.sent(gathered(self.plan, adverts), Roster)
        for outlet in self.outlets.values() if join else ():
            outlet.join(self.roster)

    def begun(self, name: str) -> SecaggOutlet:
        def save(record: bytes) -> None:
            self.records[name] = record

        return SecaggOutlet.begin(self.plan, name, self.signers[name], save)

    def record(self, name: str) -> OutletRecord:
        return OutletRecord.from_bytes(self.records[name], most=self.plan.message_bytes)

    def restart(self, *restarted: str) -> None:
        """What `kill -9` leaves of an outlet: its record."""
        for name in restarted or tuple(self.outlets):
            old = self.outlets[name]
            self.outlets[name] = SecaggOutlet(
                self.plan, name, self.signers[name], self.record(name), old._save
            )

    def sent(self, message: M, kind: type[M]) -> M:
        return kind.from_bytes(message.to_bytes(), most=self.plan.message_bytes)

    def coordinator(self, round: int = 1, attempt: int = 1) -> SecaggSum:
        return SecaggSum(self.plan, self.roster, round=round, attempt=attempt)

    def to_inputs(
        self, round: int = 1, attempt: int = 1, gone: Collection[str] = ()
    ) -> tuple[SecaggSum, dict[str, Delivery]]:
        """The first step: who is not gone has shared, and what is to be delivered."""
        summing = self.coordinator(round, attempt)
        for name in self.outlets.keys() - gone:
            bundle = self.outlets[name].share(round, attempt)
            summing.take_shares(name, self.sent(bundle, ShareBundle))
        return summing, summing.deliveries()

    def attempt(
        self,
        inputs: Inputs,
        *,
        round: int = 1,
        attempt: int = 1,
        leaving: Mapping[str, Collection[str]] | None = None,
        restarts: bool = False,
    ) -> SignedVector:
        """A whole attempt; `leaving` says who drops out before which of `STEPS`."""
        gone: set[str] = set()

        def here(step: str) -> list[str]:
            gone.update((leaving or {}).get(step, ()))
            if restarts:
                self.restart()
            return [name for name in self.outlets if name not in gone]

        here("shares")
        summing, delivered = self.to_inputs(round, attempt, frozenset(gone))
        for name in here("inputs"):
            box = self.sent(delivered[name], Delivery)
            masked = self.outlets[name].mask(box, inputs[name])
            summing.take_input(name, self.sent(masked, MaskedInput))
        survivors = self.sent(summing.survivor_set(), SurvivorSet)
        for name in here("consents"):
            consent = self.outlets[name].consent(survivors)
            summing.take_consent(name, self.sent(consent, Consent))
        quorum = self.sent(summing.quorum(), SurvivorSet)
        for name in here("reveals"):
            summing.take_reveal(name, self.sent(self.outlets[name].reveal(quorum), Reveal))
        return summing.total()


def plan_of(signers: Mapping[str, SigningKey], **numbers: Any) -> SecaggPlan:
    """A plan with small defaults."""
    cohort = {name: signer.public for name, signer in signers.items()}
    defaults = {"colluders": 0, "dropouts": 1, "ring_bits": 32, "length": 3, "bound": 1000}
    fixed = {"run": "run-1", "contract": "sha256:00", "cohort": cohort}
    return SecaggPlan(**{**fixed, **defaults, **numbers})


def made_inputs(pool: SecurePool, seed: int = 1) -> dict[str, NDArray[np.int64]]:
    draw, bound = np.random.default_rng(seed), pool.plan.bound
    shape = pool.plan.length
    return {n: draw.integers(-bound, bound, shape, endpoint=True) for n in pool.outlets}
