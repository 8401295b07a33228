"""A whole federation on one machine: the coordinator's app on a grid of outlet processes.

The order of work is what makes bad input harmless: everything is checked and frozen first, the run
folder is claimed next, and only then does anything train.

Example: `simulate(read_run_file(Path("run.toml")), SimulateOptions(out=Path("runs/x")))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from presspool.common.base.errors import ContractError
from presspool.common.contract.buffers import refuse_waiting
from presspool.common.contract.contract import Contract
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_file import EvaluationData, RunFile, Simulation, freeze
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.wire.run_grid import RunGrid
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.rounds import Committed, uncommitted
from presspool.server.rounds.trackers.tracker import require_trackers, track
from presspool.simulations.clock.clock_grid import ClockGrid
from presspool.simulations.clock.timed_round import TimedRound
from presspool.simulations.clock.timetable import timetable
from presspool.simulations.grids import GRIDS
from presspool.simulations.grids.simulation_grid import Check, Place, SimulationGrid
from presspool.simulations.newsroom.partitions import (
    check_elsewhere,
    outlets_of,
    remove_copies,
    write_outlets,
)
from presspool.simulations.simulated_ledgers import EXPORTS, export_ledgers, give_ledgers


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How a simulation is run; none of it is part of the contract.

    Attributes:
        out: the run folder.
        workers: worker processes; None takes the run file's number, 0 serves all in this one.
        outlets: use only the contract's first so many outlets; None takes the run file's number.
        deterministic: seed of reproducible, hence non-private, noise; None for real noise.
        resume: continue the folder's run, with the outlets that were written when it began.
        ledgers: give each outlet a policy and a ledger, and export the ledgers when the run is
            complete. A round that an outlet's ledger has bound is never trained again, so such a
            run is not continued in the middle of a round.
        ray_address: HOST:PORT of the Ray cluster to work on; None for this machine.
        keep_data: leave the copies of readers' records in the folder when the run is complete.
        track: names of trackers that keep the complete run's public numbers besides.
    """

    out: Path
    workers: int | None = None
    outlets: int | None = None
    deterministic: int | None = None
    resume: bool = False
    ledgers: bool = False
    ray_address: str | None = None
    keep_data: bool = False
    track: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run folder that is ready to run.

    Attributes:
        folder: the run folder.
        outlets: each outlet's `outlet.toml`.
        rounds: when each round is on the simulation's clock; none without one.
    """

    folder: RunFolder
    outlets: tuple[Path, ...]
    rounds: tuple[TimedRound, ...] = ()


def simulate(
    run: RunFile,
    options: SimulateOptions,
    *,
    on_reply: Callable[[], None] = lambda: None,
    committed: Committed = uncommitted,
) -> RunResult:
    """Run, or continue, a federation on this machine.

    Args:
        run: the run file.
        options: folder, workers and switches.
        on_reply: called after each outlet's answer, for progress.
        committed: told each whole round before the next, as `rounds.run` does.

    Raises:
        InputError: anything wrong with run file, data, model or folder; nothing was written.
        FolderError: another process works on this run.
        QuorumError: a round had too few admitted updates.
        StorageError: the disk refuses; the last whole round is kept.
    """
    from presspool.server.rounds.server_app import serve

    require_trackers(options.track)
    simulation = simulation_of(run)
    grid_kind = GRIDS[simulation.grid]
    workers = simulation.workers if options.workers is None else options.workers
    place = Place(address=options.ray_address, gpus=simulation.gpus_per_worker)
    with grid_kind.at(place, workers=workers) as there:
        prepared = prepare(run, options, look=partial(grid_kind.look, there))
        with prepared.folder.alone():
            with grid_kind(
                prepared.outlets, workers=workers, on_reply=on_reply, place=there
            ) as grid:
                clocked = _clocked(grid, prepared, options, on_reply)
                result = serve(clocked, prepared.folder, committed=committed)
            if options.ledgers:
                export_ledgers(prepared.outlets, prepared.folder.path / EXPORTS)
            if not options.keep_data:
                remove_copies(prepared.folder)
            track(options.track, prepared.folder.path, result)
    return result


def prepare(
    run: RunFile,
    options: SimulateOptions,
    *,
    look: Callable[[Sequence[Path], Check], None] = lambda _outlets, _check: None,
) -> Prepared:
    """Freeze the contract, claim the folder and write the outlets' files.

    Args:
        run: the run file.
        options: folder and switches.
        look: raises where somebody who will work on the outlets' files cannot read them; then
            nothing of what was written stays.

    Raises:
        InputError: anything wrong with run file, data, model or folder.
    """
    simulation = simulation_of(run)
    known = run.contract.outlets
    run = run.first_outlets(options.outlets or simulation.outlets)
    contract, folder = freeze(run.contract, fetch=True), RunFolder(options.out)
    evaluation = run.evaluation
    _check(contract, evaluation)
    setup = (
        evaluation.setup(deterministic=options.deterministic)
        if evaluation
        else Setup(deterministic=options.deterministic)
    )
    rounds = _timed(contract, simulation, known)
    if simulation.clock:
        setup = replace(setup, clock=simulation.clock.digest)
    with folder.claim(contract, setup, resume=options.resume):
        outlets = (
            outlets_of(contract, folder)
            if options.resume
            else write_outlets(contract, simulation, folder, deterministic=options.deterministic)
        )
        if options.ledgers:
            give_ledgers(contract, outlets)
        look(outlets, partial(check_elsewhere, contract))
    return Prepared(folder=folder, outlets=tuple(outlets), rounds=rounds)


def _timed(
    contract: Contract, simulation: Simulation, known: Mapping[str, int]
) -> tuple[TimedRound, ...]:
    """The rounds on the run's clock, if it has one."""
    if simulation.clock is None:
        refuse_waiting(contract, "a [simulation.clock]")
        return ()
    return timetable(contract, simulation.clock, known=known)


def _clocked(
    grid: SimulationGrid, prepared: Prepared, options: SimulateOptions, on_reply: Callable[[], None]
) -> RunGrid:
    """The grid, on its clock where the run has one."""
    if not prepared.rounds:
        return grid
    return ClockGrid(grid, prepared.rounds, pays=options.ledgers, on_skip=on_reply)


def rounds_done(path: Path) -> int:
    """How many whole rounds the run in a folder has behind it; 0 where there is none yet."""
    folder = RunFolder(path)
    if not folder.checkpoint.exists():
        return 0
    point = checkpoints.load(folder.checkpoint, digest=folder.read_contract().digest)
    return len(point.rounds) - 1 if point else 0


def _check(contract: Contract, evaluation: EvaluationData | None) -> None:
    """What a run would only meet later: the model and held-out data, built and read once here."""
    from presspool.common.models.models import build

    build(contract)  # first: a contract that can use no record is not the file's fault
    if evaluation:
        evaluation.records(contract)


def simulation_of(run: RunFile) -> Simulation:
    """The run file's [simulation].

    Raises:
        ContractError: it has none, or one with a grid that there is not.
    """
    if run.simulation is None:
        raise ContractError(
            "nothing to simulate",
            where="run.toml",
            expected="a [simulation] table",
            advice="say where the data lies and how it is split over outlets",
        )
    try:
        GRIDS.check(run.simulation.grid)
    except ContractError as error:
        parts = error.parts | {"where": "run.toml [simulation] grid"}
        raise ContractError(error.what, **parts) from None
    return run.simulation
