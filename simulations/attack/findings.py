"""What an attack on a run found, in figures and in words; and the part of it that a card may show.

Invariants:
    * An attack whose noise-off control did not fire has no verdict: it would have missed a leak.
    * Joint confidence: each of the `BOUNDS` bounds gets an equal part of 1 - `CONFIDENCE`.
    * What comes from real readers never gets into `Attack.card`.

Example: `json.dumps(found.to_json())`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from presspool.common.audit.evidence.attack_document import FORMAT
from presspool.common.base.numbers import bound
from presspool.common.tasks.scores.exposure import Exposure
from presspool.simulations.attack.bounds import Guesses
from presspool.simulations.attack.roc import FALSE_POSITIVES, Separation
from presspool.simulations.attack.spans import Recovered

CONFIDENCE = 0.95
BOUNDS = 4  # two attacks, two bounds each
SIGNIFICANCE = (1 - CONFIDENCE) / BOUNDS
FIRES = 0.20  # of the canaries that are in, at 1 % false positives
MOST_OF_DRAWN = 0.5  # or this share of those who were drawn at all, where that is less


@dataclass(frozen=True, kw_only=True)
class Found:
    """One attack's result.

    Attributes:
        guesses: on the run under the claim.
        any_mechanism: bound on ε by Steinke et al. 2023.
        this_mechanism: bound on ε by Mahloujifar et al. 2024, for the plan with other noise.
        ceiling: the larger bound, had every guess been right.
        separation: of the canaries in from those out, under the claim.
        control: the same without noise.
        fired: whether the control shows that this attack would see a leak: without noise enough
            canaries are found, and its guesses refute the claim.
    """

    guesses: Guesses
    any_mechanism: float
    this_mechanism: float
    ceiling: float
    separation: Separation
    control: Separation
    fired: bool

    @property
    def epsilon(self) -> float:
        """The lower bound."""
        return max(self.any_mechanism, self.this_mechanism)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """All attacks on one outlet under one contract.

    Attributes:
        contract: its digest.
        outlet: who was attacked.
        readers: "made", or "own" where real records were trained on.
        claimed: y, the contract's ε for this outlet.
        delta: its δ.
        updates: by the released updates, coordinator malicious.
        adapter: by the final adapter alone, coordinator honest.
        members: losses of readers who were trained on against readers who were not.
        members_control: the same without noise.
        tokens: span check of an update under the plan; None where it was left out.
        tokens_control: of one short record without noise.
        tokens_left_out: in words, why it was.
        exposure: of the canaries that were in, by the final adapter; None where not measured.
        exposure_control: the same without noise.
        reproducible: whether the noise could be drawn again.
    """

    contract: str
    outlet: str
    readers: str
    claimed: float
    delta: float
    updates: Found
    adapter: Found
    members: Separation
    members_control: Separation
    tokens: Recovered | None
    tokens_control: Recovered | None
    tokens_left_out: str | None
    exposure: Exposure | None
    exposure_control: Exposure | None
    reproducible: bool

    @property
    def epsilon(self) -> float | None:
        """x, the largest bound of the attacks whose control fired; None where none did."""
        fired = [found.epsilon for found in (self.updates, self.adapter) if found.fired]
        return max(fired) if fired else None

    @property
    def _fired(self) -> list[str]:
        return [
            name
            for name, found in (
                ("the released updates", self.updates),
                ("the final adapter", self.adapter),
            )
            if found.fired
        ]

    @property
    def shown(self) -> str:
        """X in print, rounded down: it must not look stronger than it is."""
        return "–" if self.epsilon is None else f"{math.floor(100 * self.epsilon) / 100:.2f}"

    @property
    def defect(self) -> bool:
        """X > y: more leaks than is claimed."""
        return self.epsilon is not None and self.epsilon > self.claimed

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.epsilon is None:
            return (
                "This attack has no power here: even without noise it finds too little to refute "
                "the claim. "
                "It says nothing about the claimed bound of "
                f"{self.claimed:.2f}; try more canaries."
            )
        return (
            f"With {100 * CONFIDENCE:.0f} % confidence leakage is at least ε ≥ {self.shown} (x) "
            f"against this attack; claimed bound {bound(self.claimed)} (y), "
            f"δ = {bound(self.delta)}. x > y means a defect; x < y is no proof of privacy. "
            f"Here x {'>' if self.defect else '<'} y."
        )

    @property
    def card(self) -> dict[str, Any] | None:
        """`empirical.json` for a privacy card; None where it may not or need not be shown."""
        if self.readers != "made" or self.epsilon is None:
            return None
        control = max(
            (f.control for f in (self.updates, self.adapter) if f.fired),
            key=lambda found: found.tpr,
        )
        return {
            "status": "measured",
            "contract": self.contract,
            "attack": f"{self.updates.guesses.canaries} planted canary readers, one run, "
            f"{self.updates.guesses.made} guesses from {' and '.join(self._fired)} "
            "(Steinke et al. 2023; Mahloujifar et al. 2024); made readers",
            "confidence": CONFIDENCE,
            # The attack bounds from below only; the upper end is what is claimed.
            "interval": [self.epsilon, max(self.epsilon, self.claimed)],
            "claimed": self.claimed,
            "control": f"without noise {100 * control.tpr:.0f} % of the canaries are found at "
            f"{100 * FALSE_POSITIVES:.0f} % false positives",
            "sentence": self.sentence,
        }

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, for the operator."""
        body = dataclasses.asdict(  # the curves are drawn in `attack.html`
            self,
            dict_factory=lambda items: {k: v for k, v in items if k != "curve" and v is not None},
        )
        return {
            "format": FORMAT,
            **body,
            "epsilon": self.epsilon,
            "defect": self.defect,
            "confidence": CONFIDENCE,
            "sentence": self.sentence,
        }
