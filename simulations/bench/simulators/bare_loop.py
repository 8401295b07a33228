"""A loop that one would write oneself: client after client on one PEFT model, and their mean.

Nothing travels and nothing is kept: the least that a round costs without grouping clients.

Example: ``python -m presspool.simulations.bench.simulators.contestant bare``
"""

from __future__ import annotations

import torch

from presspool.simulations.bench.simulators.simulator_task import ClientTask, done_between
from presspool.simulations.bench.simulators.simulator_turns import RoundDone, RoundSizes, Turns


def bare(sizes: RoundSizes) -> None:
    """Take turns until there are no more."""
    task, turns = ClientTask(sizes), Turns()
    done: RoundDone | None = None
    while turns.next(done):
        before = task.arrays()
        _round(task, sizes)
        after = task.arrays()
        records = sizes.clients * sizes.records
        done = done_between(before, after, clients=sizes.clients, records=records)


def _round(task: ClientTask, sizes: RoundSizes) -> None:
    total = {name: torch.zeros_like(p) for name, p in task.parameters.items()}
    for client in range(sizes.clients):
        for name, change in task.update(client).items():
            total[name] += change
    with torch.no_grad():
        for name, parameter in task.parameters.items():
            parameter.add_(total[name] / sizes.clients)
