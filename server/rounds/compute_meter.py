"""What a run's rounds cost to compute: operations by public numbers, time and energy as measured.

Invariants:
    * Only the coordinator's own process and machine are measured, never an outlet.
    * A run that goes on adds to what its earlier processes measured, round by whole round.

Example: `meter = ComputeMeter(folder, contract, model, elsewhere=True)`; `meter.keep()` each round.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import trainable
from presspool.common.runs.compute_file import RunCompute, read_compute, write_compute
from presspool.common.runs.run_folder import RunFolder

POWERCAP = Path("/sys/class/powercap")
"""Linux' counters of processors' energy, in microjoules; each begins again at its own end."""


def training_flop(contract: Contract, model: nn.Module) -> float:
    """Operations of all outlets' training, at most, in expectation; from public numbers alone.

    Counted are 4 a token for each frozen number and 6 for each trained one (forward, the input's
    gradient, the weight's own; Chowdhery et al. 2022, appendix B), every record at full length.
    """
    trained = sum(parameter.numel() for parameter in trainable(model).values())
    frozen = sum(parameter.numel() for parameter in model.parameters()) - trained
    plan, task = contract.plan, contract.task
    sampled = sum(plan.expected_batch(population) for population in contract.outlets.values())
    tokens = sampled * plan.records_per_reader * contract.outlet_steps * task.max_length
    return float(tokens * (4 * frozen + 6 * trained))


class ComputeMeter:
    """Adds up what the rounds take, and keeps it in the run's folder."""

    def __init__(
        self, folder: RunFolder, contract: Contract, model: nn.Module, *, elsewhere: bool
    ) -> None:
        """Begin to measure.

        Args:
            folder: the run's; what is kept there is added to.
            contract: the run's.
            model: of the run, for its size.
            elsewhere: the outlets compute on other machines.
        """
        before = read_compute(folder.path)
        self._folder, self._elsewhere = folder, elsewhere
        self._flop = training_flop(contract, model)
        self._seconds = before.processor_seconds if before else 0.0
        self._joules = before.energy_joules if before else 0.0
        self._clock, self._counters = time.process_time(), dict(_counters())

    def keep(self) -> None:
        """Write what was taken since the beginning; raises `StorageError`."""
        clock, counters = time.process_time(), dict(_counters())
        self._seconds += clock - self._clock
        if self._joules is not None:
            self._joules = self._joules + _joules(self._counters, counters) if counters else None
        self._clock, self._counters = clock, counters
        kept = RunCompute(
            training_flop=self._flop,
            processor_seconds=self._seconds,
            energy_joules=self._joules,
            outlets="elsewhere" if self._elsewhere else "here",
        )
        write_compute(self._folder.path, kept)


def _counters() -> Iterator[tuple[str, tuple[int, int]]]:
    """Each package's counter and where it begins again, in microjoules; none that is locked."""
    for zone in sorted(POWERCAP.glob("intel-rapl:[0-9]*")):
        try:
            used, end = (int((zone / n).read_text()) for n in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):
            continue
        if zone.name.count(":") == 1:  # a zone inside a package is counted with it
            yield zone.name, (used, end)


def _joules(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float:
    """Energy between two readings, each counter round its end once at most."""
    both = before.keys() & after.keys()
    return sum((after[zone][0] - before[zone][0]) % (after[zone][1] + 1) for zone in both) / 1e6
