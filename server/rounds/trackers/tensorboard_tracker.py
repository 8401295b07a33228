"""Scalars of a run's rounds as TensorBoard's event files, in `events/`.

Example: `tensorboard --logdir runs/first/events`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from presspool.common.base.extras import from_extra
from presspool.common.released.adapter_folder import storing
from presspool.server.rounds.trackers.tracker import ToldRun, Tracker


class TensorBoardTracker(Tracker):
    """Writes a run as a whole, so that one that was stopped has no gaps."""

    folder = "events"

    @classmethod
    def check(cls) -> None:
        """Look for TensorBoard."""
        with from_extra("tensorboard", "no TensorBoard here", where="--track"):
            import tensorboard  # noqa: F401

    def write(self, place: Path, told: ToldRun, *, label: str = "") -> None:
        """Write the scalars over those that are there."""
        from torch.utils.tensorboard import SummaryWriter

        folder = place / self.folder / label
        shutil.rmtree(folder, ignore_errors=True)
        with storing(folder), SummaryWriter(str(folder)) as writer:
            for done in told.rounds:
                for tag, value in done.figures.items():
                    writer.add_scalar(tag, value, done.number)
            for name, text in told.notes.items():
                writer.add_text(name, text)
