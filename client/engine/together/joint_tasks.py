"""Tasks that go to their training each by itself, are trained in one pass, and go on by themselves.

A task is a generator: it yields the training that it asks for, and is sent the change, or thrown
the error that kept its outlet from training. What it holds open meanwhile, such as a ledger, stays
its own. Trainings that start from one adapter under one contract share a pass
(`presspool.client.engine.training`); a single one is a pass of its own.

Invariants:
    * Every task comes to its own end, whatever becomes of the others.
    * Whatever ends this, each task is closed.

Example: `(data,) = together([task], compute)`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from presspool.client.data.readers import Readers
from presspool.client.engine.alike import try_rows
from presspool.client.engine.compute import Compute
from presspool.client.engine.training import Change, RoundWork, train_together
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PassRequest:
    """What a task asks for.

    Attributes:
        model: the contract's.
        state: the adapter to start from.
        base: its digest.
        contract: the frozen contract.
        readers: the outlet's records.
        work: its round.
    """

    model: nn.Module
    state: State
    base: str
    contract: Contract
    readers: Readers
    work: RoundWork

    @property
    def shared(self) -> tuple[str, str, int]:
        """Equal for trainings that may share a pass."""
        return self.contract.digest, self.base, self.work.round


Task = Generator[PassRequest, Change, T]


def together(tasks: Sequence[Task[T]], compute: Compute) -> list[T]:
    """Let tasks of different outlets come to their ends; returns what each returned.

    Args:
        tasks: just made.
        compute: speed knobs, and what the frozen layers made of records.

    Raises:
        BaseException: what a task lets through; the others are closed then.
    """
    with ExitStack() as leaving:
        for task in tasks:
            leaving.callback(task.close)
        ends, passes = dict[int, T](), dict[object, list[tuple[int, PassRequest]]]()
        for number, task in enumerate(tasks):
            try:
                training = next(task)
                passes.setdefault(training.shared, []).append((number, training))
            except StopIteration as end:
                ends[number] = end.value
        for some in passes.values():
            for (number, _), found in zip(
                some, _trained([t for _, t in some], compute), strict=True
            ):
                ends[number] = _ended(tasks[number], found)
        return [ends[number] for number in range(len(tasks))]


def _trained(trainings: Sequence[PassRequest], compute: Compute) -> Sequence[Change | Exception]:
    one = trainings[0]
    outlets = [(training.readers, training.work) for training in trainings]
    try:
        if len(trainings) > 1 and one.contract.federation.local_steps > 1:
            try_rows(one.model, one.state, one.contract, compute)
        return train_together(one.model, one.state, outlets, one.contract, compute)
    except Exception as error:  # noqa: BLE001  each task is told
        return [error] * len(trainings)


def _ended(task: Task[T], found: Change | Exception) -> T:
    try:
        task.throw(found) if isinstance(found, Exception) else task.send(found)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("a task trains once")
