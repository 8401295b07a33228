"""A trial of a sweep whose process dies in its middle, as if memory had run out."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from presspool.simulations.simulate import simulate
from presspool.simulations.sweeps import sweep_trial
from presspool.simulations.sweeps.sweep_trial import Ending, TrialJob, run_trial


def killed(job: TrialJob, level: int) -> Ending:
    """The sweep's second trial is killed after its first answer; all others are run."""
    with pytest.MonkeyPatch.context() as patch:
        if job.number == 1:
            kill = partial(os.kill, os.getpid(), signal.SIGKILL)
            patch.setattr(sweep_trial, "simulate", partial(simulate, on_reply=kill))
        return run_trial(job, level)


def ended(_job: TrialJob, _level: int) -> Ending:
    """A trial that is over at once."""
    return Ending(state="complete")
