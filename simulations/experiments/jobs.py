"""Running many federations in parallel, each in a process of its own; stopped ones are continued.

A job is one run (an arm, an ε, a seed) in a folder of its own. How its model does on each test
record is written last (`Measure.file`), so that a job either counts as a whole or is done again
from its last checkpoint. Starting an experiment again does only what is missing.

Example: `run_jobs(jobs, Path("runs/experiments/outlets/jobs"), workers=2)`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from presspool.common.base.files import replace_file
from presspool.common.contract.contract import Contract
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import EvaluationData, RunFile, freeze
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.server_app import serve
from presspool.simulations.experiments.lies import LyingGrid
from presspool.simulations.experiments.measures import Measure, measure_of
from presspool.simulations.grids.local_grid import THREADS_PER_WORKER, LocalGrid
from presspool.simulations.grids.worker_pools import WorkerPool
from presspool.simulations.newsroom.click_baselines import popularity_each, read_impressions
from presspool.simulations.simulate import SimulateOptions, prepare

if TYPE_CHECKING:
    from torch import nn

    from presspool.common.models.activation_cache import ActivationCache
    from presspool.common.models.adapters import State

Floats = NDArray[np.float64]
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)  # scikit-learn's C: the inverse, per record


class RecordFigures(NamedTuple):
    """How a model does on each test record, (records,) each.

    Attributes:
        each: the measure.
        size: what the record weighs.
        written: ROUGE-L of what was written for it; not a number where nothing was.
    """

    each: Floats
    size: Floats
    written: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model of an experiment.

    Attributes:
        name: its folder's name; says arm, ε and seed.
        run: the run file.
        seed: of its reproducible noise: experiments measure accuracy, they release nothing. None
            for real noise.
        test: what its model is judged on.
        trained: whether rounds train it, or it is judged as it starts.
        asked: it judges the model that another job of this name trains, into a file of its own.
        fitted: the file of records that its head is fitted to before that, if any.
        counted: the file of impressions whose clicks are counted in place of a model, if any.
        attack: what its liars do, one of `lies.ATTACKS`; "" for nothing.
        liars: outlets that send something else than they trained.
    """

    name: str
    run: RunFile
    seed: int | None
    test: EvaluationData
    trained: bool = True
    asked: bool = False
    fitted: Path | None = None
    counted: Path | None = None
    attack: str = ""
    liars: tuple[str, ...] = ()

    def file(self, folder: Path) -> Path:
        """Where its results lie in the jobs' folder, once it is finished."""
        return folder / self.name / f"{'asked-' if self.asked else ''}{self.measure.file}"

    def finished(self, folder: Path) -> bool:
        """Whether its results lie in the jobs' folder."""
        return self.file(folder).exists()

    @property
    def measure(self) -> Measure:
        """What its model is judged by."""
        return measure_of(self.run.contract.task.model_dump())

    def figures(self, folder: Path) -> RecordFigures:
        """The finished job's."""
        found = np.load(self.file(folder)).astype(np.float64)
        if found.ndim == 1:
            return RecordFigures(found, np.ones(len(found)))
        return RecordFigures(*found)

    def seconds(self, folder: Path) -> float:
        """How long the finished job's rounds took, in seconds; 0 where nothing was trained."""
        if not self.trained:
            return 0.0
        return sum(done.seconds for done in read_result(folder / self.name).rounds)


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    workers: int,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Run the jobs that are not done yet; those that ask trained models, last.

    Args:
        jobs: the whole experiment.
        folder: where each job has its folder.
        workers: jobs at a time.
        on_done: called after each job that was run now.

    Raises:
        PressPoolError: a job failed; the others' results are kept.
    """
    todo = [job for job in jobs if not job.finished(folder)]
    turns = [job for job in todo if not job.asked], [job for job in todo if job.asked]
    pool = WorkerPool(workers, _begin)
    try:
        for some in turns:
            for done in as_completed([pool.submit(run_job, job, folder) for job in some]):
                done.result()
                on_done()
    finally:
        pool.end()


def run_job(job: Job, folder: Path) -> None:
    """Train one model, or continue its training, and judge it."""
    own = folder / job.name
    figures = io.BytesIO()
    np.save(figures, _popularity(job, job.counted) if job.counted else _of_model(job, own))
    own.mkdir(parents=True, exist_ok=True)
    replace_file(job.file(folder), figures.getvalue())


def _of_model(job: Job, own: Path) -> NDArray[Any]:
    contract, state = _train(job, RunFolder(own)) if job.trained else _start(job)
    return _judge(job, contract, state)


def _popularity(job: Job, file: Path) -> NDArray[Any]:
    shown, judged = (
        read_impressions(data.records(job.run.contract))
        for data in (EvaluationData(data=file), job.test)
    )
    return np.array([figures["auc"] for figures in popularity_each(shown, judged)])


def _train(job: Job, folder: RunFolder) -> tuple[Contract, State]:
    from presspool.server.rounds import round_checkpoint

    if not job.asked:
        started = folder.contract_file.exists()
        options = SimulateOptions(out=folder.path, deterministic=job.seed, resume=started)
        with _grid(job, prepare(job.run, options).outlets) as grid:
            serve(grid, folder)
    contract = folder.read_contract()
    point = round_checkpoint.load(folder.checkpoint, digest=contract.digest)
    assert point is not None  # `serve` has written it
    return contract, point.state


def _grid(job: Job, outlets: Sequence[Path]) -> LocalGrid:
    if not job.attack:
        return LocalGrid(outlets, workers=0)
    cap = job.run.contract.federation.update_norm_cap
    return LyingGrid(outlets, workers=0, liars=job.liars, attack=job.attack, cap=cap)


def _start(job: Job) -> tuple[Contract, State]:
    from presspool.common.models.adapters import read
    from presspool.common.models.models import build

    contract = freeze(job.run.contract, fetch=True)
    model = build(contract)
    return contract, _regression(model, contract, job.fitted) if job.fitted else read(model)


def _regression(model: nn.Module, contract: Contract, file: Path) -> State:
    """The head of a converged logistic regression; its penalty by cross-validation of three."""
    from sklearn.linear_model import LogisticRegressionCV

    from presspool.common.models.adapters import read
    from presspool.common.models.frozen_trunk import FrozenTrunk

    records, trunk = EvaluationData(data=file).records(contract), FrozenTrunk(model, contract)
    features = _activations().get(trunk, trunk.task.texts(records).to_pylist())
    fitted = LogisticRegressionCV(
        Cs=PENALTIES,
        cv=3,
        l1_ratios=(0.0,),
        scoring="accuracy",
        max_iter=1000,
        use_legacy_attributes=False,
    )
    fitted.fit(np.stack([one.numpy() for one in features]), records["label"].to_numpy())
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # of two labels, the second's log-odds
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    found = {"weight": weight, "bias": bias}
    state = read(model)
    for name in state:
        state[name] = found[name.rpartition(".")[2]].astype(np.float32)
    return state


def _judge(job: Job, contract: Contract, state: State) -> NDArray[Any]:
    from presspool.server.rounds.evaluation import Evaluation

    held_out = job.test.records(contract)
    return job.measure.of(Evaluation(contract, held_out, _activations()), state, held_out)


# The jobs of one process share what the frozen layers make of the test records.
@cache
def _activations() -> ActivationCache:
    from presspool.common.models.activation_cache import ActivationCache

    return ActivationCache()


def _begin() -> None:
    import torch

    torch.set_num_threads(THREADS_PER_WORKER)
