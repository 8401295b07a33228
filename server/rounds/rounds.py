"""A run's rounds, phase by phase: send, admit, average, evaluate, checkpoint; or go on again.

Flower's `Strategy.start` keeps its state in memory and hides a failed round; this loop calls the
same Strategy methods on the same Grid, and writes a checkpoint after every whole round.

Invariants:
    * What is on disk after a round is enough to continue with the same result.
    * A round either counts as a whole (quorum reached, checkpoint written) or not at all.
    * A round is on disk before it is committed, and committed before the next is handed out.
    * A round is counted as spent, in `result.json`, before it is handed out: a run that ends in the
      middle of one, or misses its quorum, has spent it all the same.
    * Whether a run goes on never depends on what it measured (no early stopping).

Example: `run(grid, RunFolder(Path("runs/demo")))`.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from torch import nn

from presspool.common.audit.pages.run_report import write_report
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.contract.statement import statement
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build
from presspool.common.models.spectral import USUAL_RATIO, ratios
from presspool.common.released.adapter_folder import write_adapter
from presspool.common.runs.result_file import write_result
from presspool.common.runs.results import (
    RoundResult,
    RunResult,
    WritingSample,
)
from presspool.common.runs.run_file import EvaluationData
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.runs.shown_metrics import shown
from presspool.common.secagg.secagg_messages import CohortKeys
from presspool.common.wire.run_grid import RunGrid
from presspool.common.wire.update import RecordState, array_record
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.buffered_strategy import strategy_of
from presspool.server.rounds.compute_meter import ComputeMeter
from presspool.server.rounds.evaluation import NOT_MEASURED, Evaluation, Scores
from presspool.server.rounds.gathering import cohort_of, gathering_of
from presspool.server.rounds.handed_out import HandedOut
from presspool.server.rounds.round_checkpoint import RoundCheckpoint
from presspool.server.rounds.run_events import write_events
from presspool.server.rounds.strategy import AdapterStrategy

log = logging.getLogger(__name__)

Scorer = Callable[[int, State], Scores]  # of a round's number and adapter
Committed = Callable[[int, str, tuple[str, ...], str | None], None]
"""Told a whole round's number, the digest of the adapter after it and whose updates are in it; of
the start also the digest of the keys by which outlets that mask know each other."""


def uncommitted(number: int, digest: str, outlets: tuple[str, ...], keys: str | None) -> None:
    """A simulation's rounds are written down nowhere else."""


def run(
    grid: Grid, folder: RunFolder, *, committed: Committed = uncommitted, bound: bool = False
) -> RunResult:
    """Run, or continue, the run of a folder to its end and write its results.

    Args:
        grid: the outlets.
        folder: a created run folder.
        committed: told each whole round before the next is handed out, round 0 (the start) first;
            after a kill it is told the last one again, with the same words.
        bound: the outlets' ledgers bind one answer to a round, so that a round that is handed out
            again costs nothing, and they compute on their own machines; elsewhere it is answered
            with fresh noise, and both cost.

    Raises:
        QuorumError: a round had too few admitted updates.
        StorageError: the disk refuses; the last whole round is kept.
        ModelError: the base model is missing or is not the pinned one.
    """
    contract, setup = folder.read_contract(), folder.read_setup()
    model = build(contract)
    before, evaluation = adapters.read(model), _evaluation(contract, setup, model)
    scores = _scorer(contract, evaluation)
    point = checkpoints.load(folder.checkpoint, digest=contract.digest)
    if point is None:
        point = _start(contract, model, scores, cohort_of(contract, grid))
        checkpoints.save(folder.checkpoint, point)  # so that round 0 is the same after a kill
    else:
        log.info(
            "continuing after round %d of %d", len(point.rounds) - 1, contract.federation.rounds
        )
    _commit(committed, contract, point)
    meter = ComputeMeter(folder, contract, model, elsewhere=bound)
    spent = HandedOut.before(folder, point, contract)
    free = bound or setup.deterministic is not None  # the same bytes again
    while len(point.rounds) <= contract.federation.rounds:
        spent = spent.next(len(point.rounds), free=free)
        _publish(folder, _result(contract, setup, point, spent, adapter=None))
        point = _one_round(grid, contract, point, scores, spent)
        checkpoints.save(folder.checkpoint, point)
        meter.keep()
        _commit(committed, contract, point)
        _warn_of_loud(model, contract, point)
    say = partial(_statement, contract, setup, spent)
    figures = None if evaluation is None else evaluation.figures(point.state)
    digest = write_adapter(folder.adapter, model, point.state, contract, say, figures)
    samples = () if evaluation is None else evaluation.samples(before, point.state)
    result = _result(contract, setup, point, spent, adapter=digest, samples=samples)
    writing = None if evaluation is None else evaluation.compared(before, point.state)
    result = replace(result, figures=figures, writing=writing)
    _publish(folder, result)
    write_events(folder, result)
    return result


def _start(
    contract: Contract, model: nn.Module, scores: Scorer, cohort: CohortKeys | None
) -> RoundCheckpoint:
    """Round 0; the model still holds its public initial values."""
    began, state = time.monotonic(), RecordState(array_record(adapters.read(model)))
    measured = scores(0, state).of(task_of(contract).metrics)
    first = RoundResult(
        round=0,
        **measured,
        bytes_up=0,
        bytes_down=0,
        seconds=time.monotonic() - began,
        epsilon=0.0 if contract.plan.protected else None,
        outlets=(),
        refused={},
    )
    kept = cohort.before(b"") if cohort else b""
    return RoundCheckpoint(contract=contract.digest, rounds=(first,), state=state, kept=kept)


def _one_round(
    grid: Grid, contract: Contract, point: RoundCheckpoint, scores: Scorer, spent: HandedOut
) -> RoundCheckpoint:
    number, began = len(point.rounds), time.monotonic()
    gathering = gathering_of(contract, number=number, kept=point.kept, state=point.state)
    strategy = strategy_of(contract, point.moments, gathering)
    state, traffic = _phases(grid, strategy, number, array_record(point.state)), strategy.traffic
    measured = scores(number, state).of(task_of(contract).metrics)
    done = RoundResult(
        round=number,
        **measured,
        bytes_up=traffic.bytes_up,
        bytes_down=traffic.bytes_down,
        seconds=time.monotonic() - began,
        epsilon=spent.largest_epsilon,
        outlets=tuple(traffic.admitted.updates),
        refused=traffic.admitted.refused,
        virtual=grid.virtual(number) if isinstance(grid, RunGrid) else None,
    )
    _log_round(done, contract)
    return RoundCheckpoint(
        contract=contract.digest,
        rounds=(*point.rounds, done),
        state=state,
        moments=dict(strategy.moments),
        kept=gathering.kept,
    )


def _phases(
    grid: Grid, strategy: AdapterStrategy, number: int, adapter: ArrayRecord
) -> RecordState:
    """The adapter after a round: each phase is answered before the next is sent."""
    arrays: ArrayRecord | None = None
    for phase in range(strategy.gathering.first, len(strategy.gathering.phases) + 1):
        config = ConfigRecord({"phase": phase})
        messages = strategy.configure_train(number, adapter, config, grid)
        arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages))
    assert arrays is not None  # the last phase ends the round
    return RecordState(arrays)


def _commit(committed: Committed, contract: Contract, point: RoundCheckpoint) -> None:
    """Say what the last whole round came to; of the start, who may take part."""
    done = point.rounds[-1]
    outlets = done.outlets if done.round else contract.outlets
    keys = CohortKeys.apart(point.kept)[0].digest if point.kept and not done.round else None
    committed(done.round, adapters.digest(point.state), tuple(sorted(outlets)), keys)


def _warn_of_loud(model: nn.Module, contract: Contract, point: RoundCheckpoint) -> None:
    """Noise and high rates can make an adapter that outlets refuse: say so before they do."""
    number = len(point.rounds) - 1
    shares = dict(ratios(model, contract.method, point.state))
    loudest = max(shares, key=shares.__getitem__, default="")
    if number < contract.federation.rounds and shares.get(loudest, 0.0) > USUAL_RATIO:
        log.warning(
            "the adapter after round %d is %.3g times as strong as the frozen layer %s: outlets "
            "whose policy has the usual max_branch_ratio = %g refuse the next round. Offer a new "
            "contract with lower learning rates, less noise or a smaller alpha",
            number,
            shares[loudest],
            loudest,
            USUAL_RATIO,
        )


def _log_round(done: RoundResult, contract: Contract) -> None:
    primary = shown(task_of(contract).metrics, [done.metrics, done.figures])[0]
    whole = done.whole
    epsilon = "unprotected" if done.epsilon is None else f"ε = {done.epsilon:.2f}"
    log.info(
        "round %d of %d: %s%s, %s, %d updates%s, %.1f s",
        done.round,
        contract.federation.rounds,
        primary.said(done.metrics[primary.name]),
        f" ({primary.said(whole.metrics[primary.name])} on all {whole.records:,})" if whole else "",
        epsilon,
        len(done.outlets),
        f", refused {dict(done.refused)}" if done.refused else "",
        done.seconds,
    )


def _evaluation(contract: Contract, setup: Setup, model: nn.Module) -> Evaluation | None:
    if setup.evaluation is None:
        return None
    data = EvaluationData.model_validate({"data": setup.evaluation, "columns": setup.columns})
    return Evaluation(contract, data.records(contract), model=model)


def _scorer(contract: Contract, evaluation: Evaluation | None) -> Scorer:
    if evaluation is None:
        return lambda _number, _state: NOT_MEASURED
    last = contract.federation.rounds
    return lambda number, state: evaluation.of_round(state, end=number in (0, last))


def _result(
    contract: Contract,
    setup: Setup,
    point: RoundCheckpoint,
    spent: HandedOut,
    *,
    adapter: str | None,
    samples: tuple[WritingSample, ...] = (),
) -> RunResult:
    reproducible = setup.deterministic is not None
    return RunResult(
        name=contract.name,
        contract_digest=contract.digest,
        status="running" if adapter is None else "complete",
        deterministic=reproducible,
        measures=task_of(contract).metrics,
        rounds=point.rounds,
        outlets=spent.outlets(),
        adapter_sha256=adapter,
        statement="INCOMPLETE: no adapter is released, but updates are. ε counts every round that "
        f"was handed out, whole or not: {spent.rounds}; the plan has {contract.federation.rounds}."
        if adapter is None
        else _statement(contract, setup, spent, f"sha256:{adapter}"),
        trust=contract.federation.trust,
        accountant=contract.trust.accountant(),
        seconds=sum(r.seconds for r in point.rounds),
        versions=_versions(),
        contract=contract.body(),
        samples=samples,
        pooled=spent.pooled(),
    )


def _statement(contract: Contract, setup: Setup, spent: HandedOut, adapter: str) -> str:
    reproducible, steps = setup.deterministic is not None, spent.most_steps
    return statement(contract, adapter=adapter, reproducible=reproducible, steps=steps)


def _publish(folder: RunFolder, result: RunResult) -> None:
    write_result(folder.path, result)
    write_report(folder.path, result)


def _versions() -> dict[str, str]:
    packages = ("presspool", "torch", "transformers", "peft", "opacus", "dp-accounting", "flwr")
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in packages}
