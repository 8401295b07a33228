"""A run in Weights & Biases: files in `wandb/`, which nobody sends unless the person says so.

Invariants:
    * Offline, unless WANDB_MODE is set; `wandb sync` sends what lies there.
    * The machine, its user, its programs and packages, and what is printed, stay out.

Example: `wandb sync runs/first/wandb/offline-run-*`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from presspool.common.base.extras import from_extra
from presspool.common.released.adapter_folder import storing
from presspool.server.rounds.trackers.tracker import ToldRun, Tracker, not_taken

MODE, LETTERS = "WANDB_MODE", 16  # of a run's id


class WandbTracker(Tracker):
    """One W&B run for each of ours, in a project of the contract's name."""

    folder = "wandb"

    @classmethod
    def check(cls) -> None:
        """Look for W&B."""
        _imported()

    def write(self, place: Path, told: ToldRun, *, label: str = "") -> None:
        """Write the run, unless it is there."""
        wandb, name = _imported(), told.key[:LETTERS]
        if any((place / self.folder).glob(f"*-{name}")):
            return
        try:
            with storing(place / self.folder):
                place.mkdir(parents=True, exist_ok=True)
                _write(wandb, place, told, name, label or told.contract[7:19])
        except wandb.Error as error:
            raise not_taken("Weights & Biases", error) from None


def _write(wandb: Any, place: Path, told: ToldRun, key: str, name: str) -> None:
    run = wandb.init(
        project=told.name,
        id=key,
        name=name,
        dir=place,
        notes=told.statement,
        config={**told.knobs, **told.notes},
        settings=_settings(wandb),
    )
    for done in told.rounds:
        run.log(dict(done.figures), step=done.number)
    run.finish()
    wandb.teardown()  # only then is all on disk, and W&B's own process gone


def _imported() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with from_extra("wandb", "no Weights & Biases here", where="--track"):
        import wandb
    return wandb


def _settings(wandb: Any) -> Any:
    return wandb.Settings(
        mode=os.environ.get(MODE, "offline"),
        silent=True,
        console="off",
        host="presspool",  # else the machine's name
        program="",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
