"""How long an experiment will take on this machine, from a few measured steps.

The work of a run is rows times seconds a row. A row that trains goes through the trained layers at
each of its steps, and every row, for testing too, once a process through the frozen layers. Both
are timed on made texts of the greatest length, so the answer is rather too long than too short.

Example: `seconds(jobs, workers=2)`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.contract_schema import ALONE
from presspool.common.runs.run_file import freeze
from presspool.simulations.experiments.jobs import Job


def seconds(jobs: Sequence[Job], *, workers: int) -> float:
    """Seconds that the jobs take, `workers` at a time."""
    trained, frozen = 0.0, dict[tuple[Path, float], float]()
    for job in (job for job in jobs if job.trained):
        contract = job.run.contract
        once, each = _seconds_a_row(_shape(contract).canonical())
        rows = sum(contract.outlets.values()) * _records(contract)
        tested = pq.read_metadata(job.test.data).num_rows
        trained += each * contract.outlet_steps * contract.privacy.sampling_rate * rows
        frozen[job.test.data, once] = max(
            frozen.get((job.test.data, once), 0), once * (rows + tested)
        )
    return trained / workers + sum(frozen.values())


def _records(contract: Contract) -> int:
    return contract.privacy.records_per_reader if contract.privacy.unit == "reader" else 1


def _shape(contract: Contract) -> Contract:
    """A contract that costs the same a row; equal ones are timed once."""
    return contract.replace(
        name="cost",
        seed=0,
        outlets={"cost": 1000},
        privacy={
            "noise_multiplier": 1.0,
            "epsilon": None,
            "clip": 1.0,
            "sampling_rate": 1.0,
            "unit": "reader",
            "records_per_reader": 1,
        },
        federation={**ALONE, "rounds": 1, "local_steps": 1},
        pooled=None,
        optimizer={"learning_rate": 1.0},
        server={"learning_rate": 1.0},
    )


@cache
def _seconds_a_row(canonical: bytes) -> tuple[float, float]:
    """Of the frozen layers, and of a step through the trained ones, with one thread."""
    import torch

    from presspool.client.engine.reader_gradients import ReaderGradients
    from presspool.client.engine.step_gradients import record_losses
    from presspool.common.models.frozen_trunk import FrozenTrunk
    from presspool.common.models.models import build
    from presspool.simulations.grids.local_grid import THREADS_PER_WORKER

    contract = parse_contract(json.loads(canonical))
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS_PER_WORKER)
    model = build(freeze(contract, fetch=True)).eval()
    trunk = FrozenTrunk(model, contract)
    rows = trunk.shapes.rows(contract.task.max_length)
    records = trunk.task.made([contract.task.max_length] * rows)
    texts = trunk.task.texts(records).to_pylist()
    with ReaderGradients(model) as engine:
        for _ in range(2):  # the first time, memory and threads are still being set up
            began = time.perf_counter()
            activations = trunk.run(texts)
            between = time.perf_counter()
            losses = record_losses(trunk, activations, records)
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            ended = time.perf_counter()
    torch.set_num_threads(threads)
    return (between - began) / rows, (ended - between) / rows
