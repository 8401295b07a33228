"""Does it pay to join? Each outlet's model alone, beside the run of all of them.

`train_beside` trains, in the run's folder, one model for each outlet on its own readers alone: the
same contract but for the other outlets, so the same budget and steps; a default recipe is made anew
for one outlet, because its rate follows from the noise. All models are judged on the run's public
held-out file; where that has a column of outlets, each outlet's model counts on its own rows.
`beside` reads what is there. Machinery and statistics are those of the experiments.

::

    RUN/correct.npy               how the run's model does on each held-out record
    RUN/local/OUTLET/…            a run folder for each outlet alone, with a file of that name
    RUN/local/test.parquet        which outlet each held-out record is of

Invariant: what is finished is never done again; a model counts only with all of its figures.

Example: `beside(Path("runs/first"))` after `presspool simulate run.toml --local-only`.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from presspool.client.identity.settings import OutletSettings, read_settings
from presspool.common.base.errors import ContractError, DataError, FolderError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import ALONE
from presspool.common.data.decoders import Tally
from presspool.common.data.table_refusals import column_names
from presspool.common.data.tables import batches
from presspool.common.runs.run_file import EvaluationData, RunFile, Simulation, freeze, slug
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.experiments.arms import Arm, Kind, Trial
from presspool.simulations.experiments.jobs import Job, run_jobs
from presspool.simulations.experiments.pools import EVERYBODY, Pool
from presspool.simulations.experiments.tidy import Judged
from presspool.simulations.local_only.pay_table import PayTable, pay_table
from presspool.simulations.newsroom.partitions import write_outlets
from presspool.simulations.newsroom.table_files import replace_table
from presspool.simulations.simulate import SimulateOptions

_SAME = b"presspool.held_out"  # whose sha256 it is, in the metadata of `test.parquet`


def jobs_beside(run: RunFile, out: Path, *, seed: int | None) -> list[Job]:
    """The run itself, only to be judged, and each outlet alone.

    Args:
        run: the run file of the run in `out`, with the outlets that take part.
        out: the run's folder, where `outlets` of its `local` folder lie.
        seed: of reproducible noise; None for real noise.

    Raises:
        ContractError: it has no held-out file to judge models on.
    """
    evaluation, alone = require_judge(run), run.with_own_noise()
    jobs = [Job(name=".", run=run, seed=seed, test=evaluation)]
    for name in run.contract.outlets:
        own = read_settings(RunFolder(out / "local").outlets / f"{name}.toml")
        simulation = Simulation(data=_folder(own), columns=own.columns, partition="files")
        jobs.append(
            Job(
                name=f"local/{name}",
                run=RunFile(contract=alone.only([name], **ALONE).contract, simulation=simulation),
                seed=seed,
                test=evaluation,
            )
        )
    return jobs


def _folder(own: OutletSettings) -> Path:
    if isinstance(own.data, Path):
        return own.data.parent
    raise ContractError(
        "models alone are trained on this machine",
        where="run.toml [simulation] data",
        expected="a path",
        got=own.data,
        advice="copy the outlets' files here",
    )


def train_beside(
    run: RunFile, options: SimulateOptions, *, on_done: Callable[[], None] = lambda: None
) -> None:
    """Train what is missing, and judge it.

    Args:
        run: the run file of a finished run.
        options: where it lies, and how it was made.
        on_done: called after each model that was trained or judged now.

    Raises:
        InputError: no held-out file, or another one than before; another run; bad data; another
            process works on the run.
        PressPoolError: a model failed; the others' results are kept.
    """
    simulation, out, seed = run.simulation, options.out, options.deterministic
    assert simulation is not None  # the run in `out` was simulated
    run = run.first_outlets(options.outlets or simulation.outlets)
    local, contract = RunFolder(out / "local"), freeze(run.contract, fetch=True)
    workers = simulation.workers if options.workers is None else options.workers
    with RunFolder(out).alone():
        _write_test(run, contract, out)
        try:
            write_outlets(contract, simulation, local, deterministic=seed)
            run_jobs(jobs_beside(run, out, seed=seed), out, workers=workers, on_done=on_done)
        finally:
            shutil.rmtree(local.outlets, ignore_errors=True)  # copies of readers' data


def beside(out: Path) -> PayTable:
    """What a run with its outlets' own models came to.

    Raises:
        FolderError: not a run folder, or one whose local models are missing.
    """
    folder = RunFolder(out)
    contract, setup = folder.read_contract(), folder.read_setup()
    test = EvaluationData(data=Path(setup.evaluation or "none"))
    jobs = {
        name: Job(name=place, run=RunFile(contract=contract), seed=None, test=test)
        for name, place in (
            (EVERYBODY, "."),
            *((name, f"local/{name}") for name in contract.outlets),
        )
    }
    if missing := [name for name, job in jobs.items() if not job.finished(out)]:
        raise FolderError(
            "no models of outlets alone to compare with",
            where=str(out),
            expected="a run made with --local-only",
            got=f"missing: {', '.join(missing)}",
            advice="presspool simulate RUN.toml --out of this folder --local-only trains them",
        )
    together = Judged.read(_trial(contract, out, {EVERYBODY: jobs.pop(EVERYBODY)}), out)
    alone = Judged.read(_trial(contract, out, jobs), out)
    models = {name: job.figures(out)[0] for name, job in jobs.items()}
    return pay_table(together, alone, models, deterministic=setup.deterministic is not None)


def _trial(contract: Contract, out: Path, jobs: Mapping[str, Job]) -> Trial:
    kind: Kind = "federated" if EVERYBODY in jobs else "local"
    pool = Pool(
        name=contract.name,
        folder=out / "local",
        readers=contract.outlets,
        records={},
        labels=(),
        max_length=contract.task.max_length,
        task=contract.task.model_dump(),
    )
    plan, arm = contract.plan, Arm(name=kind, kind=kind, recipe={})
    epsilon = plan.epsilon() if plan.protected else math.inf
    return Trial(pool=pool, arm=arm, epsilon=epsilon, seed=1, jobs=jobs)


def require_judge(run: RunFile) -> EvaluationData:
    """The held-out file that models are judged on.

    Raises:
        ContractError: the run file names none.
    """
    if run.evaluation is None:
        raise ContractError(
            "nothing to judge models on",
            where="run.toml",
            expected="an [evaluation] table",
            advice="keep some records aside, of other readers, and name their file there",
        )
    return run.evaluation


def _write_test(run: RunFile, contract: Contract, out: Path) -> None:
    """Keep which outlet each held-out record is of; the file must stay the same."""
    evaluation, path = require_judge(run), out / "local" / "test.parquet"
    same = hashlib.sha256(evaluation.data.read_bytes()).hexdigest().encode()
    if path.exists():
        if (pq.read_schema(path).metadata or {}).get(_SAME) != same:
            raise FolderError(
                "models here were judged on another held-out file",
                where=str(out),
                expected=f"{evaluation.data} as it was",
                advice="choose another --out, and train there",
            )
        return
    outlets = _outlets_in(run, evaluation.data, rows=len(evaluation.records(contract)))
    path.parent.mkdir(exist_ok=True)
    table = pa.table({"outlet": outlets})
    replace_table(path, table.replace_schema_metadata({_SAME: same}))


def _outlets_in(run: RunFile, held_out: Path, *, rows: int) -> list[str]:
    """The outlet of each record, or `EVERYBODY` where nothing in the file says it.

    A column says it that is called as the partition's, or whose values all name outlets.
    """
    known = set(run.contract.outlets)
    first = run.simulation.partition.partition(":")[2] if run.simulation else ""
    for column in sorted(column_names(held_out), key=lambda name: name != first):
        found = [slug(each) for each in _values(held_out, column)]
        says = known & set(found) and (column == first or known >= set(found))
        if says and len(found) == rows:
            return [name if name in known else EVERYBODY for name in found]
    return [EVERYBODY] * rows


def _values(path: Path, column: str) -> list[str]:
    """Of any column; none where it holds no text."""
    try:
        parts = [pc.fill_null(values, "") for ((values, _),) in batches(path, [column], Tally())]
    except DataError:
        return []
    return [value for part in parts for value in part.to_pylist()]
