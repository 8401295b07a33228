"""A finished run's figures for TensorBoard, which every run has where that is installed.

Invariant: they are written once, from the whole result, so that a resumed run has no gaps.

Example: `write_events(folder, result)`.
"""

from __future__ import annotations

import logging

from presspool.common.base.errors import InputError
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.trackers.tracker import track

log = logging.getLogger(__name__)


def write_events(folder: RunFolder, result: RunResult) -> None:
    """Scalars of all rounds."""
    try:
        track(["tensorboard"], folder.path, result)
    except InputError as missing:
        log.info("no TensorBoard here, so no %s/: %s", folder.events.name, missing.advice)
