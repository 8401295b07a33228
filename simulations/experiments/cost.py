"""How long an experiment will take on this machine, from a few measured steps.

The work of a run is rows times seconds a row in the trained layers, timed on made texts of the
greatest length. Frozen layers are left out: a process runs them once a row for all of its jobs.

Example: `hours(jobs, workers=2)`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache

from presspool.common.contract import Contract, parse_contract
from presspool.common.run_file import freeze
from presspool.simulations.experiments.jobs import Job

ROWS = 32


def hours(jobs: Sequence[Job], *, workers: int) -> float:
    """Hours that the jobs take, `workers` at a time."""
    return sum(_seconds(job.run.contract) for job in jobs if job.trained) / 3600 / workers


def _seconds(contract: Contract) -> float:
    """Seconds of one run's steps, with one thread."""
    privacy = contract.privacy
    readers = privacy.sampling_rate * sum(contract.outlets.values())
    records = privacy.records_per_reader if privacy.unit == "reader" else 1
    shape = contract.replace(
        name="cost", seed=0, outlets={"cost": 1000},
        privacy={"noise_multiplier": 1.0, "epsilon": None, "clip": 1.0},
        federation={"rounds": 1, "local_steps": 1, "quorum": 1},
        optimizer={"learning_rate": 1.0},
    )  # fmt: skip
    return contract.steps * readers * records * _seconds_a_row(shape.canonical())


@cache
def _seconds_a_row(canonical: bytes) -> float:
    import torch

    from presspool.client.engine import ReaderGradients
    from presspool.client.training import record_losses
    from presspool.common.frozen_trunk import FrozenTrunk
    from presspool.common.models import build
    from presspool.simulations.local_grid import THREADS_PER_WORKER

    contract = parse_contract(json.loads(canonical))
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS_PER_WORKER)
    model = build(freeze(contract)).eval()
    trunk, one_each = FrozenTrunk(model, contract), torch.arange(ROWS)
    activations = trunk.run(["news " * contract.task.max_length] * ROWS)
    with ReaderGradients(model) as engine:
        for _ in range(2):  # the first time, memory and threads are still being set up
            began = time.perf_counter()
            losses = record_losses(trunk, activations, one_each % len(contract.task.labels))
            engine.backward(losses, one_each, ROWS)
            took = time.perf_counter() - began
    torch.set_num_threads(threads)
    return took / ROWS
