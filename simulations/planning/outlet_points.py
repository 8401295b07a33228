"""What a private step costs an outlet, measured on made records of the greatest length.

Records are as long as the contract takes them, and each reader has as many as it may have in a
step: an outlet with shorter or fewer ones is faster. What lies below the first trained layer is
computed once for each record and kept, so a first step costs more than later ones.

Invariant: no reader's record is read.

Example: `measured_step(contract, 8)` is (seconds of a first step, of a later one).
"""

from __future__ import annotations

import time

import numpy as np

from presspool.client.data.readers import Readers
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.training import RoundWork, train_round
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import ALONE
from presspool.common.contract.doors import task_of
from presspool.common.models import adapters
from presspool.common.models.models import build


def measured_step(contract: Contract, readers: int) -> tuple[float, float]:
    """Processor seconds of a step in which so many readers are, the first time and later."""
    outlet = next(iter(contract.outlets))
    whole = contract.replace(
        outlets={outlet: readers},
        privacy={"sampling_rate": 1.0, "delta": min(contract.privacy.delta, 0.5 / readers)},
        federation={**ALONE, "local_steps": 1, "rounds": 2},
    )
    each = contract.privacy.records_per_reader
    made = task_of(whole).made([contract.task.max_length] * readers * each)
    data = Readers(table=made, offsets=np.arange(0, readers * each + 1, each))
    model, compute = build(whole), Compute()
    state, seconds = adapters.read(model), []
    for number in (1, 2):
        work = RoundWork(round=number, turn=number, population=readers, random=SecureRandom())
        began = time.process_time()
        train_round(model, state, data, whole, work, compute)
        seconds.append(time.process_time() - began)
    return seconds[0], seconds[1]
