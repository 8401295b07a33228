"""A run in MLflow: `mlflow/mlflow.db` in the folder, or the server of MLFLOW_TRACKING_URI.

The extra has MLflow's client alone (`mlflow-skinny`); to look at the database, install `mlflow`
wherever you like.

Invariant: MLflow reports nothing to its makers.

Example: `mlflow ui --backend-store-uri sqlite:///runs/first/mlflow/mlflow.db`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presspool.common.base.extras import from_extra
from presspool.common.released.adapter_folder import storing
from presspool.server.rounds.trackers.tracker import ToldRun, Tracker, not_taken

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY, SERVER = "presspool.key", "MLFLOW_TRACKING_URI"


class MlflowTracker(Tracker):
    """One MLflow run for each of ours, in an experiment of the contract's name."""

    folder = "mlflow"

    @classmethod
    def check(cls) -> None:
        """Look for MLflow."""
        _imported()

    def write(self, place: Path, told: ToldRun, *, label: str = "") -> None:
        """Write the run, unless it is there."""
        folder, refused = place / self.folder, _imported().exceptions.MlflowException
        try:
            with storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                _keep(folder, told, label or told.contract[7:19])
        except refused as error:
            raise not_taken("MLflow", error) from None


def _keep(folder: Path, told: ToldRun, name: str) -> None:
    client, artifacts = _client(folder)
    kept = client.get_experiment_by_name(told.name)
    experiment = kept.experiment_id if kept else client.create_experiment(told.name, artifacts)
    if not client.search_runs([experiment], f"tags.`{KEY}` = '{told.key}'"):
        _write(client, experiment, told, name)


def _imported() -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
    with from_extra("mlflow", "no MLflow here", where="--track"):
        import mlflow.entities
        import mlflow.exceptions
        import mlflow.tracking
    for name in ("mlflow", "alembic"):  # how they make a database
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def _client(folder: Path) -> tuple[MlflowClient, str | None]:
    """MLflow's client, and where files of runs would lie; of a server that is its own affair."""
    tracking = _imported().tracking
    if server := os.environ.get(SERVER):
        return tracking.MlflowClient(tracking_uri=server), None
    whole = folder.resolve()
    return tracking.MlflowClient(tracking_uri=f"sqlite:///{whole}/mlflow.db"), whole.as_uri()


def _write(client: MlflowClient, experiment: str, told: ToldRun, name: str) -> None:
    kinds = _imported().entities
    tags = {KEY: told.key, **{f"presspool.{word}": text for word, text in told.notes.items()}}
    run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    params = [kinds.Param(key, str(value)) for key, value in told.knobs.items()]
    client.log_batch(run, params=params)
    for done in told.rounds:
        found = [kinds.Metric(tag, value, 0, done.number) for tag, value in done.figures.items()]
        client.log_batch(run, metrics=found)
    client.set_terminated(run)
