"""Where a run's public numbers are kept besides its folder; `--track` names one.

Example:
    >>> TRACKERS.names
    ('tensorboard', 'mlflow', 'wandb')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from presspool.common.base.registry import Registry

if TYPE_CHECKING:
    from presspool.server.rounds.trackers.tracker import Tracker

TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    {
        "tensorboard": "presspool.server.rounds.trackers.tensorboard_tracker:TensorBoardTracker",
        "mlflow": "presspool.server.rounds.trackers.mlflow_tracker:MlflowTracker",
        "wandb": "presspool.server.rounds.trackers.wandb_tracker:WandbTracker",
    },
)
