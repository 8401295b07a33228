"""Proof before training: the engine on this machine clips, noises, trains and saves as promised.

Silent failures are the dangerous ones: adapters that never received a gradient (opacus issue 820),
a state dict loaded with `strict=False` that loads nothing, a driver or library build that computes
something else. So one step on made records is taken with the contract's own model and plan, and
every promise is measured. It fails closed: an outlet whose proof fails does not train.

The proof reads no reader's record, so its outcome says nothing about any.

Example: `prove(build(contract), contract)` returns None, or raises `SelfTestError` naming the
promise.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import record_losses
from presspool.client.engine.training import RoundWork, private_optimizer
from presspool.common.base.errors import SelfTestError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import load, read, save, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import base, restored

RECORDS_PER_READER, READERS = 2, 3
POPULATION = 1000
# Pushes every gradient far over any clip norm, so that the clip must bind.
LOUDNESS = 1e8
# A right sample standard deviation is further off than this once in 10⁹ proofs.
DEVIATIONS = 6.2


def prove(model: nn.Module, contract: Contract) -> None:
    """Take one synthetic step and check every promise of the engine.

    Args:
        model: the contract's model; its adapter holds made values afterwards.
        contract: the frozen contract that is about to be trained.

    Raises:
        SelfTestError: a promise is not kept; says which, with expected and got.
        EngineError: the model cannot be trained with exact per-reader gradients.
    """
    model.eval()
    load(model, _made_state(model))
    before = _outputs(model, contract)
    _prove_isolation(model, contract)
    random = SecureRandom()
    work = RoundWork(round=1, turn=1, population=POPULATION, random=random)
    optimizer = private_optimizer(trainable(model), contract, work, steps_before=0)
    with ReaderGradients(model) as engine:
        _prove_gradients(engine, model, contract)
        _prove_clipping(engine, optimizer, model, contract)
    _prove_noise(optimizer, contract)
    _prove_saving(model, contract, before)


def _prove_isolation(model: nn.Module, contract: Contract) -> None:
    """The engine proves it for the trained layers; here are the frozen ones below them."""
    trunk = FrozenTrunk(model, contract)
    texts = trunk.task.texts(_made_records(contract, READERS)).to_pylist()
    for text, together in zip(texts, trunk.run(texts), strict=True):
        (alone,) = trunk.run([text])
        if alone.shape != together.shape or not torch.allclose(alone, together, 1e-3, 1e-4):
            raise SelfTestError(
                "records of one batch are mixed in the frozen layers",
                expected="each record's activations to depend on that record alone",
            )


def _prove_gradients(engine: ReaderGradients, model: nn.Module, contract: Contract) -> None:
    losses = _made_losses(model, contract)
    readers = -(-len(losses) // RECORDS_PER_READER)
    engine.backward(losses, torch.arange(len(losses)) // RECORDS_PER_READER, readers)
    for name, parameter in trainable(model).items():
        gradient: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
        if gradient.shape != (readers, *parameter.shape) or not bool(gradient.any()):
            raise SelfTestError(
                "a trained tensor received no per-reader gradient",
                where=name,
                expected=f"({readers}, …) with values",
                got=tuple(gradient.shape),
                advice="do not train with this base model and adapter; report it",
            )


def _prove_clipping(
    engine: ReaderGradients, optimizer: ReaderOptimizer, model: nn.Module, contract: Contract
) -> None:
    losses = _made_losses(model, contract)
    engine.backward(losses * LOUDNESS, torch.zeros(len(losses), dtype=torch.int64), 1)
    optimizer.clip_and_accumulate()
    for group, bound in contract.plan.clip.items():
        sums = [p.summed_grad.double().square().sum() for p in optimizer.groups[group]]
        got = math.sqrt(float(sum(sums))) * optimizer.grid
        # Cut off towards zero, each coordinate loses less than a step of the grid.
        cut = optimizer.grid * math.sqrt(sum(p.numel() for p in optimizer.groups[group]))
        if not max(bound * (1 - 1e-3) - cut, bound / 2) <= got <= bound:
            raise SelfTestError(
                "clipping does not bind",
                where=f"group {group}",
                expected=f"norm {bound:g}, less {cut:.2g} at most that the grid takes",
                got=f"{got:g}",
                advice="where the pool shares its noise, raise [pooled] grid; else report it",
            )
    for parameter in optimizer.params:
        parameter.summed_grad = parameter.grad_sample = None


def _prove_noise(optimizer: ReaderOptimizer, contract: Contract) -> None:
    """An empty step is noise alone: its scale is measured over all coordinates."""
    plan = contract.plan
    gradients: list[NDArray[Any]] = []
    count = optimizer.step_hook

    def listen(stepped: ReaderOptimizer) -> None:
        count(stepped)
        gradients.extend(p.grad.double().flatten().cpu().numpy() for p in stepped.params)

    optimizer.attach_step_hook(listen)
    optimizer.finish_step()
    values = np.concatenate(gradients) * plan.expected_batch(POPULATION)
    got, slack = float(np.sqrt(np.mean(values**2))), DEVIATIONS / math.sqrt(2 * len(values))
    right = plan.noise_std * optimizer.noise_share
    if not right * (1 - slack) <= got <= right * (1 + slack):
        raise SelfTestError(
            "noise is not of the plan's scale",
            expected=f"{right:g}",
            got=f"{got:g}",
            where=f"{len(values)} coordinates",
        )
    if optimizer.steps_taken != 1:
        raise SelfTestError("steps are not counted", expected=1, got=optimizer.steps_taken)


def _prove_saving(model: nn.Module, contract: Contract, before: Tensor) -> None:
    """What is saved is what was trained, and it matters to the output."""
    load(model, _made_state(model))
    with tempfile.TemporaryDirectory(prefix="presspool-selftest-") as folder:
        save(model, Path(folder))
        fresh = base(contract)
        plain = _outputs(fresh, contract)
        again = restored(fresh, contract, Path(folder)).eval()
        saved, expected = _named(again), read(model)
    for name, array in expected.items():
        if name not in saved or not np.array_equal(saved[name], array):
            raise SelfTestError("a saved tensor does not reload bit-exactly", where=name)
    after = _outputs(again, contract)
    if not torch.equal(after, before) or torch.equal(after, plain):
        raise SelfTestError(
            "the reloaded adapter does not act like the saved one",
            expected="the same output, other than the base model's",
        )


def _named(model: nn.Module) -> Mapping[str, NDArray[np.float32]]:
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def _made_state(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A made, non-zero adapter: with B = 0 or a zero head some gradients would rightly be 0."""
    random = np.random.default_rng(0)
    return {
        name: (0.05 * random.standard_normal(p.shape)).astype(np.float32)
        for name, p in trainable(model).items()
    }


def _made_records(contract: Contract, readers: int) -> pa.Table:
    """Records of the shortest, an ordinary and the greatest length."""
    lengths = (1, 2, contract.task.max_length)
    return task_of(contract).made([lengths[i % 3] for i in range(RECORDS_PER_READER * readers)])


def _made_losses(model: nn.Module, contract: Contract) -> Tensor:
    """Of a batch of short made records, (rows,); 0 for what fills it up.

    Activations of filling are zero, where a layer's normalisation multiplies a gradient by
    hundreds: a dozen layers of that leave float32.
    """
    records, trunk = _made_records(contract, READERS), FrozenTrunk(model, contract)
    activations = trunk.run(trunk.task.texts(records).to_pylist())
    places = trunk.batches(activations)[0]
    losses = record_losses(trunk, [activations[place] for place in places], records.take(places))
    return losses * (torch.arange(len(losses), device=losses.device) < len(places))


@torch.no_grad()
def _outputs(model: Any, contract: Contract) -> Tensor:
    """What the model says of the made records, (records, ...)."""
    task = task_of(contract)
    texts = task.texts(_made_records(contract, READERS)).to_pylist()
    outputs: Tensor = model(**task.encode(texts))
    return outputs
