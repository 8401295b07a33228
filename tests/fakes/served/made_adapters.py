"""Adapters' folders as runs release them, with arrays drawn far from their start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import statement
from presspool.common.models import adapters
from presspool.common.models.models import build
from presspool.common.released.adapter_folder import write_adapter
from presspool.common.tasks.scores.answer_figures import AnswerFigures


def made_adapter(
    folder: Path,
    contract: Contract,
    figures: AnswerFigures | None = None,
    *,
    seed: int = 5,
    scale: float = 2.0,
) -> Path:
    """The folder of an adapter that trained: far from its start, so that answers differ."""
    model, rng = build(contract), np.random.default_rng(seed)
    state = {
        # A bias would give every text one label.
        name: rng.normal(scale=0 if name.endswith("bias") else scale, size=array.shape).astype(
            np.float32
        )
        for name, array in adapters.read(model).items()
    }
    write_adapter(
        folder,
        model,
        state,
        contract,
        lambda digest: statement(contract, adapter=digest, reproducible=False),
        figures,
    )
    return folder
