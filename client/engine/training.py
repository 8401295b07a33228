"""The outlets' part of one round: T/R private steps of each on its own readers.

Each step: Poisson-sample readers, compute per-reader mean gradients in batches of public shapes
(`presspool.client.engine.step_gradients`), clip, sum, add noise once, step
(`presspool.client.engine.optimizer`). The answer is the change of the adapter; nothing else that
depends on the readers leaves this module.

Several outlets of a simulation's worker take their steps side by side and share batches
(`presspool.client.engine.together.seat`). A real outlet trains alone, on the same way.

Invariants:
    * An outlet's answer is the same, to the last bit, alone and in any company; what fails of its
      own ends its own way and nobody else's.
    * Every number that privacy depends on comes from the contract's `PrivacyPlan`.
    * An outlet without usable readers takes the same steps: pure noise. A reader whose records
      cannot be computed counts as zero, and nobody else changes.
    * That the model can be trained is proved on made texts before it gets here
      (`presspool.client.engine.selftest`): no refusal depends on a reader's records.
    * Losses stay here.
    * What a method lets rest in a round (public: by the round's number) is not trained and not
      noised; its change is zero.

Example: `train_round(model, readers, contract, work)` gives name → float32 change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from presspool.client.data.readers import Readers
from presspool.client.engine.compute import Compute
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.sampling import draw
from presspool.client.engine.step_gradients import StepGradients
from presspool.client.engine.together.seat import Drawn, Seat
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Optimizer
from presspool.common.contract.schedule import rate_factor
from presspool.common.models.adapters import State, group_of, load, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk

Change = dict[str, NDArray[Any]]
"""Name to float32 array: trained minus where the round began. Where the trust model adds whole
numbers up, name to int64 array: the noised sum of the round's one step, in steps of the grid."""


@dataclass(frozen=True, kw_only=True)
class RoundWork:
    """Which round is trained, and for whom.

    Attributes:
        round: from 1.
        turn: which of the outlet's own rounds it is (`presspool.common.contract.cohorts.turn_of`).
        population: the outlet's declared population.
        random: the outlet's secret stream for this round.
        before_step: told the number of each step (of the outlet's plan, from 1, as Opacus counts
            them) before a reader is drawn for it; raises `PlanError` where no budget holds it.
    """

    round: int
    turn: int
    population: int
    random: SecureRandom
    before_step: Callable[[int], None] = lambda _: None


def train_round(
    model: nn.Module,
    state: State,
    readers: Readers,
    contract: Contract,
    work: RoundWork,
    compute: Compute,
) -> Change:
    """Train one outlet's round from `state` and return the privatised change of the adapter.

    Args:
        model: the contract's model (`presspool.common.models.models.build`).
        state: the adapter to start from.
        readers: the outlet's records; may be empty.
        contract: the frozen contract.
        work: round, population and randomness.
        compute: speed knobs.

    Raises:
        EngineError: the model cannot be trained with exact per-reader gradients.
        PlanError: more steps were asked for than the plan allows.
    """
    (found,) = train_together(model, state, [(readers, work)], contract, compute)
    if isinstance(found, Exception):
        raise found
    return found


def train_together(
    model: nn.Module,
    state: State,
    outlets: Sequence[tuple[Readers, RoundWork]],
    contract: Contract,
    compute: Compute,
) -> list[Change | Exception]:
    """Train one round of several outlets in one pass; each gets what it would get alone.

    Args:
        model: as for `train_round`, as are the others.
        state: the adapter that all start from.
        outlets: records and work of each; the round is the same.
        contract: all train under it.
        compute: speed knobs.

    Returns:
        Of each outlet its change, or why it alone could not train.

    Raises:
        EngineError: the model cannot be trained with exact per-reader gradients.
    """
    compute.prepare(model)
    at_once = compute.seats_at_once(list(trainable(model).values()))
    courses = [_Course(readers, work) for readers, work in outlets]
    for first in range(0, len(courses), at_once):
        load(model, state)
        _pass(model, state, courses[first : first + at_once], contract, compute)
    return [course.failed or course.change for course in courses]


def _pass(
    model: nn.Module, state: State, courses: Sequence[_Course], contract: Contract, compute: Compute
) -> None:
    trunk = compute.trunk(model, contract)  # its shapes are those of `alike`, where nothing rests
    with _turn(model, contract, courses[0].work.round):
        trained = trainable(model)
        for course in courses:
            course.go(partial(course.begin, trained, contract))
        _steps(model, trunk, courses, contract, compute)
        for course in courses:
            course.go(partial(course.end, state, contract))


@contextmanager
def _turn(model: nn.Module, contract: Contract, number: int) -> Iterator[None]:
    """What has no turn in this round does not train while it lasts."""
    parameters = trainable(model)
    resting = contract.method.resting(parameters.keys(), number)
    for name in resting:
        parameters[name].requires_grad_(False)
    try:
        yield
    finally:
        for name in resting:
            parameters[name].requires_grad_(True)


def _steps(
    model: nn.Module,
    trunk: FrozenTrunk,
    courses: Sequence[_Course],
    contract: Contract,
    compute: Compute,
) -> None:
    """All steps of a round, each taken by all outlets before the next."""
    steps = contract.federation.local_steps
    first = (courses[0].work.round - 1) * steps
    population = sum(course.work.population for course in courses)
    with ReaderGradients(model) as engine:
        gradients = StepGradients(engine, trunk, contract, compute, population=population)
        for step in range(first, first + steps):
            for course in courses:
                course.go(partial(course.draw, contract, step))
            drawn = [course.drawn for course in courses if course.failed is None]
            # All start from one adapter; after a step each outlet has its own.
            own = step > first and len(drawn) > 1
            by_rows = own and engine.by_rows and compute.by_rows == (contract.digest, True)
            for some in [[one] for one in drawn] if own and not by_rows else [drawn]:
                for seat, _ in some[:1]:
                    seat.put(engine.trained)
                    gradients.add(some, by_rows=by_rows)
            for course in courses:
                course.go(course.finish_step)


class _Course:
    """One outlet's way through a round, which ends where something of its own fails.

    Args:
        readers: its records.
        work: its round.

    Attributes:
        failed: why it ended; nobody else's does.
        change: of the adapter, at the end.
    """

    def __init__(self, readers: Readers, work: RoundWork) -> None:
        self.readers, self.work = readers, work
        self.failed: Exception | None = None
        self.change: Change = {}

    def go(self, on: Callable[[], None]) -> None:
        """Take a part of the way, unless it has ended."""
        if self.failed is None:
            try:
                on()
            except Exception as error:  # noqa: BLE001  whoever asked for it is told
                self.failed = error

    def begin(self, trained: Mapping[str, nn.Parameter], contract: Contract) -> None:
        """Take a seat: what the model holds is where its adapter starts."""
        before = (self.work.turn - 1) * contract.federation.local_steps
        own = {name: nn.Parameter(p.detach().clone()) for name, p in trained.items()}
        optimizer = private_optimizer(own, contract, self.work, steps_before=before)
        self.seat = Seat(parameters=own, optimizer=optimizer, readers=self.readers)
        self.offsets = _units(self.readers, contract)

    def draw(self, contract: Contract, step: int) -> None:
        """Draw readers for a step of the run (from 0)."""
        self.work.before_step(self.seat.optimizer.steps_taken + 1)
        _set_rates(self.seat.optimizer, contract.optimizer, step, contract.steps)
        sample = draw(
            self.offsets,
            rate=contract.privacy.sampling_rate,
            records_per_reader=contract.privacy.records_per_reader,
            random=self.work.random,
        )
        self.drawn: Drawn = self.seat, sample

    def finish_step(self) -> None:
        """Noise the step's sum and step."""
        self.seat.optimizer.finish_step()

    def end(self, state: State, contract: Contract) -> None:
        """Say what is released: the adapter's change since `state`, or the last step's sum."""
        whole = contract.trust.adds_up
        if whole:  # what the optimiser made of it stays here and moves nobody
            moved = self.seat.noised()
        else:
            moved = {name: array - state[name] for name, array in self.seat.state().items()}
        kind = np.int64 if whole else np.float32
        still = {name: np.zeros(state[name].shape, kind) for name in state if name not in moved}
        self.change = {**moved, **still}


def private_optimizer(
    parameters: Mapping[str, nn.Parameter],
    contract: Contract,
    work: RoundWork,
    *,
    steps_before: int,
) -> ReaderOptimizer:
    """The contract's optimiser over trained parameters, by name, made private."""
    spec, rates = contract.optimizer, contract.optimizer.learning_rate
    by_rate = [
        {
            "params": [p for n, p in parameters.items() if group in ("all", group_of(n))],
            "rate": rate,
            "lr": rate,
        }
        for group, rate in rates.items()
    ]
    inner: torch.optim.Optimizer = (
        torch.optim.SGD(by_rate, momentum=spec.momentum)
        if spec.name == "sgd"
        else torch.optim.AdamW(by_rate, weight_decay=spec.weight_decay)
    )
    return ReaderOptimizer(
        inner,
        plan=contract.plan,
        groups={
            group: [p for n, p in parameters.items() if group in ("all", group_of(n))]
            for group in contract.plan.clip
        },
        population=work.population,
        random=work.random,
        noise_share=contract.trust.noise_share(contract),
        grid_bits=contract.trust.grid_bits(contract),
        steps_before=steps_before,
    )


def _units(readers: Readers, contract: Contract) -> NDArray[np.int64]:
    """Offsets of the privacy units: readers, or single records where the contract says so."""
    if contract.privacy.unit == "reader":
        return readers.offsets
    return np.arange(readers.records + 1, dtype=np.int64)


def _set_rates(optimizer: ReaderOptimizer, spec: Optimizer, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * rate_factor(spec, step, steps)
