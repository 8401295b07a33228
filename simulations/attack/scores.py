"""How sure an attacker is that a canary was in: one score each, the higher the surer.

`from_updates` sees every released update. In a round that starts from a known adapter, an outlet's
update is, up to known factors, the sum of the clipped gradients of whoever was drawn, plus noise.
A canary's own gradient g is known, so the best linear test is a matched filter: take what the other
canaries are expected to add from the update and project the rest on Σ⁻¹g, Σ being the covariance of
everything else (the other canaries and the noise). Whether a canary was drawn in the round is a
mixture, whose log likelihood ratio is added up over the rounds.

`from_losses` sees the final adapter alone: how well it knows a canary's label.

Invariant: no score looks at a coin.

Example: `from_updates(transcript, canaries)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from presspool.client.training import rate_factor
from presspool.common.adapters import State, digest
from presspool.common.frozen_trunk import ActivationCache
from presspool.common.models import build
from presspool.simulations.attack import gradients
from presspool.simulations.attack.canaries import Canaries
from presspool.simulations.attack.outlet import Audience
from presspool.simulations.attack.transcript import Transcript

Scores = NDArray[np.float64]

# Share of the canaries' energy that goes elsewhere than their gradient at a round's start says:
# steps within a round move the model.
DRIFT = 0.05


def from_losses(transcript: Transcript, canaries: Canaries) -> Scores:
    """How much better the final adapter knows a canary's label than chance; (canaries,) float64.

    The loss under the canary's label, centred: minus its mean over all labels (which says how
    unusual the text is) and minus the label's mean over all canaries (how common the label).
    """
    contract = transcript.contract
    model, cache, state = build(contract), ActivationCache(), transcript.states[-1]
    table = np.stack([
        gradients.losses(model, contract, state, canaries.texts, np.full(len(canaries), y), cache)
        for y in range(len(contract.task.labels))
    ], axis=1).astype(np.float64)  # fmt: skip
    table -= table.mean(1, keepdims=True)
    table -= table.mean(0, keepdims=True)
    return -table[np.arange(len(canaries)), canaries.labels]


def of_readers(transcript: Transcript, audience: Audience) -> tuple[Scores, Scores]:
    """Minus each reader's mean loss at the end: of as many who were trained on as were not."""
    contract, cache = transcript.contract, ActivationCache()
    model, state = build(contract), transcript.states[-1]

    def score(table: pa.Table) -> Scores:
        number = {name: i for i, name in enumerate(contract.task.labels)}
        labels = np.array([number[label] for label in table["label"].to_pylist()], np.int64)
        texts = table["text"].to_pylist()
        losses = gradients.losses(model, contract, state, texts, labels, cache)
        reader = table["reader"].combine_chunks().dictionary_encode().indices.to_numpy()
        sums: Scores = np.bincount(reader, losses) / np.bincount(reader)
        return -sums

    others = pc.unique(audience.others["reader"])
    known = pc.unique(audience.members["reader"])[: len(others)]  # as many: forward passes cost
    compared = audience.members.filter(pc.is_in(audience.members["reader"], known))
    return score(compared), score(audience.others)


def from_updates(transcript: Transcript, canaries: Canaries) -> Scores:
    """Log likelihood ratios from all released updates; (canaries,) float64."""
    contract, cache = transcript.contract, ActivationCache()
    model = build(contract)
    texts, labels = canaries.texts, canaries.labels
    total, known = np.zeros(len(canaries)), ""
    for number, update in enumerate(transcript.updates):
        state = transcript.states[number]
        if digest(state) != known:  # a malicious coordinator sends the same one in every round
            known = digest(state)
            rows = gradients.clipped(model, contract, state, texts, labels, cache)
        total += _one_round(_Round.of(transcript, number), update, rows)
    return total


@dataclass(frozen=True, kw_only=True)
class _Round:
    """Public constants of one round.

    Attributes:
        scale: group to what an update is multiplied with to be a sum of gradients.
        rate: q times steps: how often one canary that is in is drawn.
        chance: that a canary that is in is drawn at all.
        noise: variance of the noise on each coordinate of the sum.
    """

    scale: dict[str, float]
    rate: float
    chance: float
    noise: float

    @classmethod
    def of(cls, transcript: Transcript, number: int) -> _Round:
        contract, plan = transcript.contract, transcript.contract.plan
        population, steps = transcript.population, contract.federation.local_steps
        first = number * steps
        factors = np.array(
            [
                rate_factor(contract.optimizer, t, contract.steps)
                for t in range(first, first + steps)
            ]
        )
        weights = factors / factors.mean()
        batch, rates = plan.expected_batch(population), contract.optimizer.learning_rate
        return cls(
            scale={group: -batch / (rate * factors.mean()) for group, rate in rates.items()},
            rate=plan.sampling_rate * steps,
            chance=1 - (1 - plan.sampling_rate) ** steps,
            noise=plan.noise_std**2 * float(np.square(weights).sum()),
        )  # fmt: skip


def _one_round(known: _Round, update: State, rows: gradients.Vectors) -> Scores:
    """Log likelihood ratios of one round.

    Args:
        known: the round's constants.
        update: what the outlet released.
        rows: (canaries, coordinates) clipped gradients at the round's start.
    """
    prior = known.rate / 2
    rest = gradients.flat(update, known.scale) - prior * rows.sum(0)
    coordinates = max(1, int(rows.any(0).sum()))
    floor = known.noise + DRIFT * prior * float(np.square(rows).sum()) / coordinates
    signal, energy = _whitened(rows, prior, rest, floor)
    # Everything so far counts the canary itself among the others; take it out (Sherman-Morrison).
    alone = 1 - prior * energy
    signal, energy = signal / alone, energy / alone
    log_ratio = signal + prior * energy - energy / 2
    mixed: Scores = np.logaddexp(np.log1p(-known.chance), np.log(known.chance) + log_ratio)
    return mixed


def _whitened(
    rows: gradients.Vectors, prior: float, rest: gradients.Vectors, floor: float
) -> tuple[Scores, Scores]:
    """gᵀΣ⁻¹y and gᵀΣ⁻¹g for each row g, Σ = prior·Σ g gᵀ + floor·I.

    By Woodbury's identity in the space of the rows, which are far fewer than the coordinates.
    """
    gram = (rows @ rows.T).astype(np.float64)
    heard = (rows @ rest).astype(np.float64)
    factor = cho_factor(gram + np.eye(len(gram)) * (floor / prior))
    solved = cho_solve(factor, gram)
    signal = (heard - solved.T @ heard) / floor
    energy = (np.diag(gram) - np.einsum("ij,ij->j", gram, solved)) / floor
    return signal, energy
