"""How sure an attacker is that a canary was in: one score each, the higher the surer.

`from_updates` sees every released update. In a round that starts from a known adapter, an outlet's
update is, up to known factors, the sum of the clipped gradients of whoever was drawn, plus noise.
A canary's own gradient g is known, so the best linear test is a matched filter: take what the other
canaries are expected to add from the update and project the rest on Σ⁻¹g, Σ being the covariance of
everything else (the other canaries and the noise). How much noise there is, is estimated from the
update. Whether a canary was drawn in the round is a mixture, whose log likelihood ratio is added up
over the rounds.

`from_losses` sees the final adapter alone: how well it knows a canary.

Invariant: no score looks at a coin, nor at what the contract says of the noise.

Example: `from_updates(transcript, canaries)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.contract.schedule import rate_factor
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapters import State, digest
from presspool.common.models.models import build
from presspool.common.tasks.scores.exposure import Scores
from presspool.simulations.attack import gradients
from presspool.simulations.attack.attacked_outlet import Audience
from presspool.simulations.attack.canaries import Canaries
from presspool.simulations.attack.tasks.attacked_task import attacked
from presspool.simulations.attack.transcript import Transcript

TINY = 1e-6  # of the largest: below it, float32 has lost what was there
FLOORS = 400  # tried between `TINY` and 1 / `TINY` times a canary's energy: steps of 7 %


def from_losses(transcript: Transcript, canaries: Canaries) -> Scores:
    """How well the final adapter knows each canary; (canaries,) float64."""
    return attacked(transcript.contract).known(partial(_probe, transcript), canaries)


def of_readers(transcript: Transcript, audience: Audience) -> tuple[Scores, Scores]:
    """Minus each reader's mean loss at the end: of as many who were trained on as were not."""
    task, probe = attacked(transcript.contract), _probe(transcript, -1)

    def score(table: pa.Table) -> Scores:
        records = task.parsed(table)
        losses = probe.losses(records)
        reader = records["reader"].combine_chunks().dictionary_encode().indices.to_numpy()
        sums: Scores = np.bincount(reader, losses) / np.bincount(reader)
        return -sums

    return score(audience.compared), score(audience.others)


def from_updates(transcript: Transcript, canaries: Canaries) -> Scores:
    """Log likelihood ratios from all released updates; (canaries,) float64."""
    probe = _probe(transcript, 0)
    records = attacked(transcript.contract).records(canaries)
    total, known = np.zeros(len(canaries)), ""
    for number, update in enumerate(transcript.updates):
        state = transcript.states[number]
        if digest(state) != known:  # a malicious coordinator sends the same one in every round
            known = digest(state)
            rows = replace(probe, state=state).clipped(records)
            canary_filter = _Filter.of(rows)
        total += canary_filter.score(_Round.of(transcript, number), update)
    return total


def _probe(transcript: Transcript, number: int) -> gradients.Probe:
    return gradients.Probe(
        model=build(transcript.contract),
        contract=transcript.contract,
        state=transcript.states[number],
        cache=ActivationCache(),
    )


@dataclass(frozen=True, kw_only=True)
class _Round:
    """Public constants of one round; the noise is not among them, whatever the contract says of it.

    Attributes:
        scale: group to what an update is multiplied with to be a sum of gradients.
        rate: q times steps: how often one canary that is in is drawn.
        chance: that a canary that is in is drawn at all.
    """

    scale: dict[str, float]
    rate: float
    chance: float

    @classmethod
    def of(cls, transcript: Transcript, number: int) -> _Round:
        contract, plan = transcript.contract, transcript.contract.plan
        steps = contract.federation.local_steps
        numbers = range(number * steps, (number + 1) * steps)
        factors = [rate_factor(contract.optimizer, t, contract.steps) for t in numbers]
        moved = -float(np.mean(factors)) / plan.expected_batch(transcript.population)
        rates = contract.optimizer.learning_rate
        return cls(
            scale={group: 1 / (rate * moved) for group, rate in rates.items()},
            rate=plan.sampling_rate * steps,
            chance=1 - (1 - plan.sampling_rate) ** steps,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Filter:
    """The canaries' gradients, decomposed once for all rounds that start from one adapter.

    Attributes:
        rows: (canaries, coordinates) clipped gradients, coordinates that they touch alone.
        touched: (coordinates before that,) bool.
        sizes: (rank,) float64, the eigenvalues of rows · rowsᵀ that are not 0.
        vectors: (canaries, rank) float64, their eigenvectors as columns.
    """

    rows: gradients.Vectors
    touched: NDArray[np.bool_]
    sizes: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @classmethod
    def of(cls, rows: gradients.Vectors) -> _Filter:
        touched: NDArray[np.bool_] = np.any(rows, axis=0)
        rows = rows[:, touched]
        short = rows if len(rows) <= rows.shape[1] else rows.T  # the same eigenvalues, sooner
        sizes, vectors = np.linalg.eigh((short @ short.T).astype(np.float64))
        real = sizes > TINY * sizes[-1]
        sizes, vectors = sizes[real], vectors[:, real]
        if short is not rows:
            vectors = rows @ vectors / np.sqrt(sizes)
        return cls(rows=rows, touched=touched, sizes=sizes, vectors=vectors)

    def score(self, known: _Round, update: State) -> Scores:
        """Log likelihood ratios of one round."""
        prior = known.rate / 2
        summed = gradients.flat(update, known.scale)[self.touched]
        signal, energy = self._whitened(prior, summed - prior * self.rows.sum(0))
        # Everything so far counts the canary itself among the others; take it out (Sherman-
        # Morrison).
        alone = 1 - prior * energy
        signal, energy = signal / alone, energy / alone
        log_ratio = signal + prior * energy - energy / 2
        mixed: Scores = np.logaddexp(np.log1p(-known.chance), np.log(known.chance) + log_ratio)
        return mixed

    def _whitened(self, prior: float, rest: gradients.Vectors) -> tuple[Scores, Scores]:
        """gᵀΣ⁻¹y and gᵀΣ⁻¹g for each row g, Σ = prior·Σ g gᵀ + floor·I.

        By G(prior·GᵀG + floor·I)⁻¹ = (prior·GGᵀ + floor·I)⁻¹G in the rows' eigenbasis.
        """
        heard = self.vectors.T @ (self.rows @ rest).astype(np.float64)
        floor = self._floor(prior, heard, float(np.square(rest, dtype=np.float64).sum()))
        weight = 1 / (prior * self.sizes + floor)
        return self.vectors @ (weight * heard), np.square(self.vectors) @ (weight * self.sizes)

    def _floor(self, prior: float, heard: Scores, total: float) -> float:
        """Variance of all that is not a canary on each coordinate: the most likely one.

        Read off the update, because a defect of the noise is nothing that the attacker is told.

        Args:
            prior: how often one canary is expected to be drawn.
            heard: (rank,) the eigenvectors' share of rows · rest.
            total: energy of the rest, inside the rows' span and outside.
        """
        sizes, inside = prior * self.sizes, np.square(heard) / self.sizes
        free = self.rows.shape[1] - len(sizes)  # coordinates outside the span
        outside = max(0.0, total - float(inside.sum()))
        floors = np.geomspace(TINY, 1 / TINY, FLOORS) * float(sizes.mean())
        spread = sizes + floors[:, None]
        cost = (np.log(spread) + inside / spread).sum(1) + free * np.log(floors) + outside / floors
        return float(floors[cost.argmin()])
