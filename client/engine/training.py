"""One outlet's part of one round: T/R private steps on its own readers.

Each step: Poisson-sample readers, compute per-reader mean gradients in batches of public shapes
(`presspool.client.engine.step_gradients`), clip, sum, add noise once, step
(`presspool.client.engine.optimizer`). The answer is the change of the adapter; nothing else that
depends on the readers leaves this module.

Invariants:
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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Optimizer
from presspool.common.contract.schedule import rate_factor
from presspool.common.models.adapters import State, group_of, load, read, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk


@dataclass(frozen=True, kw_only=True)
class RoundWork:
    """Which round is trained, and for whom.

    Attributes:
        round: from 1.
        population: the outlet's declared population.
        random: the outlet's secret stream for this round.
        before_step: told the number of each step (of the whole run, from 1, as Opacus counts them)
            before a reader is drawn for it; raises `PlanError` where no budget holds it.
    """

    round: int
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
) -> dict[str, NDArray[Any]]:
    """Train one round from `state` and return the privatised change of the adapter.

    Args:
        model: the contract's model (`presspool.common.models.models.build`).
        state: the adapter to start from.
        readers: the outlet's records; may be empty.
        contract: the frozen contract.
        work: round, population and randomness.
        compute: speed knobs.

    Returns:
        Name to float32 array: trained minus `state`. Where the trust model adds whole numbers up,
        name to int64 array: the noised sum of the round's one step, in steps of the grid.

    Raises:
        EngineError: the model cannot be trained with exact per-reader gradients.
        PlanError: more steps were asked for than the plan allows.
    """
    load(model, state)
    compute.prepare(model)
    trunk = compute.trunk(model, contract)  # its shapes are those of `alike`, where nothing rests
    with _turn(model, contract, work.round):
        change = _steps(model, trunk, readers, contract, work, compute)
        whole = contract.trust.adds_up
        moved = change if whole else {n: array - state[n] for n, array in change.items()}
    kind = np.int64 if whole else np.float32
    still = {name: np.zeros(state[name].shape, kind) for name in state if name not in moved}
    return {**moved, **still}


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
    readers: Readers,
    contract: Contract,
    work: RoundWork,
    compute: Compute,
) -> dict[str, NDArray[Any]]:
    """What trains after the round's steps, or the noised sum of the one."""
    first = (work.round - 1) * contract.federation.local_steps
    optimizer = private_optimizer(model, contract, work, steps_before=first)
    offsets = _units(readers, contract)
    with ReaderGradients(model) as engine:
        gradients = StepGradients(engine, optimizer, trunk, readers, contract, compute)
        for step in range(first, first + contract.federation.local_steps):
            work.before_step(optimizer.steps_taken + 1)
            _set_rates(optimizer, contract.optimizer, step, contract.steps)
            sample = draw(
                offsets,
                rate=contract.privacy.sampling_rate,
                records_per_reader=contract.privacy.records_per_reader,
                random=work.random,
            )
            gradients.add(sample)
            optimizer.finish_step()
    if contract.trust.adds_up:
        return _whole(optimizer, model)
    return dict(read(model))


def _whole(optimizer: ReaderOptimizer, model: nn.Module) -> dict[str, NDArray[Any]]:
    """The last step's noised sum; what the optimiser made of it stays here and moves nobody."""
    sums = {id(p): sums for p, sums in zip(optimizer.params, optimizer.noisy, strict=True)}
    return {name: sums[id(p)].view_as(p).cpu().numpy() for name, p in trainable(model).items()}


def private_optimizer(
    model: nn.Module, contract: Contract, work: RoundWork, *, steps_before: int
) -> ReaderOptimizer:
    """The contract's optimiser over the model's trainable parameters, made private."""
    parameters = trainable(model)
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
