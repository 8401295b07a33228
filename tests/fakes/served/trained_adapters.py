"""Adapters that really learnt what they were shown, without noise: also what they should not have.

Example: `trained_adapter(folder, contract, rows, steps=200)`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch

from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import statement
from presspool.common.models import adapters
from presspool.common.models.models import build, headed_of
from presspool.common.released.adapter_folder import write_adapter


def trained_adapter(
    folder: Path, contract: Contract, rows: pa.Table, *, steps: int, rate: float = 0.01
) -> Path:
    """The folder of an adapter after so many steps of Adam on all rows, as the task parses them."""
    model = build(contract).eval()  # without dropout: fewer steps, and the same every time
    task = headed_of(model).task
    batch = task.encode(task.texts(rows).to_pylist())
    moved = torch.optim.Adam(adapters.trainable(model).values(), lr=rate)
    for _ in range(steps):
        moved.zero_grad()
        task.losses(model(**batch), rows).mean().backward()  # type: ignore[no-untyped-call]
        moved.step()
    write_adapter(
        folder,
        model,
        adapters.read(model),
        contract,
        lambda digest: statement(contract, adapter=digest, reproducible=False),
    )
    return folder
