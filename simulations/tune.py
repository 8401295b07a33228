"""`presspool tune`: clip norms, rates, steps and b for a budget, tried on public rows.

Tuning on readers' data would spend their budget. So a candidate is tried on *public* rows that play
the readers: dealt into readers of k records, a quarter of the rows kept for validation, trained by
the code that an outlet and the coordinator run. There are fewer public rows than readers in the
pool, so what must agree is the noise: a pool of K outlets with N readers has on its mean gradient
noise of standard deviation σS√K/(qN), and one made outlet of n readers gets the same from
σ' = σ√K·n/N, times an outlet's share where the pool shares its noise. Where cohorts take turns, K
and N are a round's in the mean. What does not agree is said: sampling varies more with fewer
readers, and outlets do not drift apart.

The search goes through the knobs one after the other, each at its best value so far; every trial is
written to `trials.jsonl`, and starting again in the same folder repeats none of them.

Example: `tune(contract, public, Path("runs/tune"))[0]` is the best trial.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from presspool.client.data.readers import Readers
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.training import RoundWork, train_round
from presspool.common.base.errors import DataError
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import decimal_text
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import ALONE
from presspool.common.contract.doors import task_of
from presspool.common.contract.privacy_plan import NOISE_STEP
from presspool.common.models.adapters import State, read
from presspool.common.models.models import build
from presspool.common.runs.shown_metrics import merit, shown
from presspool.common.tasks.metric import Metric
from presspool.server.rounds.aggregators.aggregator import aggregator_of
from presspool.server.rounds.evaluation import Evaluation

VALIDATION_SHARE = 0.25
FEWEST_ROWS = 100
NOISE_DRAWS = 2  # a candidate is trained this often
# Few large steps or many small ones at one ε, and how far rates and clip norms are moved.
SAMPLING = ((0.1, 40), (0.2, 20), (0.5, 12), (1.0, 8))
FACTORS = (1 / 3, 3.0)


@dataclass(frozen=True, kw_only=True)
class TuneTrial:
    """A candidate and what it reached.

    Attributes:
        tables: what was moved: [privacy] sampling rate, clip norms and the σ of the pool,
            [federation] rounds, and learning rates of [optimizer], or of [server] where the
            coordinator's optimiser takes the steps.
        metrics: the task's primary metric on validation rows, mean over noise draws; None: a draw
            diverged.
    """

    tables: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, float | None]


def tune(
    contract: Contract,
    public: pa.Table,
    folder: Path,
    *,
    on_trial: Callable[[], None] = lambda: None,
) -> list[TuneTrial]:
    """Search the knobs of a contract; the best trial first.

    Args:
        contract: says model, task, ε and declared populations, and where the search starts. Its
            model hashes must be filled in.
        public: public records, as the task parses them.
        folder: keeps `trials.jsonl`; the same folder continues a search.
        on_trial: called after each trial, also after one that was found in the folder.

    Raises:
        DataError: fewer than `FEWEST_ROWS` public rows.
        ContractError: an ε that no σ reaches.
    """
    contract = _with_budget(contract)
    bench = _Bench(contract, public, folder)
    primary = _primary(contract)

    def by_merit(trial: TuneTrial) -> float:
        return merit(primary, trial.metrics[primary.name])

    best = bench.try_(contract)
    on_trial()
    for candidates in (_samplings, _rates("head"), _rates("adapter"), _clips):
        for candidate in candidates(_applied(contract, best)):
            found = bench.try_(candidate)
            best = max(best, found, key=by_merit)
            on_trial()
    return sorted(bench.trials, key=by_merit, reverse=True)


def _with_budget(contract: Contract) -> Contract:
    """Where σ is given, its ε is the budget."""
    if contract.privacy.epsilon is not None:
        return contract
    return contract.replace(privacy={"epsilon": contract.trust.epsilon(contract)})


def _primary(contract: Contract) -> Metric:
    return task_of(contract).primary


def trials_of(contract: Contract) -> int:
    """How many trials a search makes."""
    groups = len(_rates_of(contract))
    return 1 + len(SAMPLING) + len(FACTORS) * (groups + 1)


def proposal(contract: Contract, trials: Sequence[TuneTrial], data: Path, rows: int) -> str:
    """The best trial as lines for a run.toml, and what it was found with."""
    contract, best, rated = _with_budget(contract), trials[0], _rated(contract)
    privacy, federation = best.tables["privacy"], best.tables["federation"]
    metric = shown([_primary(contract)], [trial.metrics for trial in trials])[0]
    said, worst = (trial.metrics[metric.name] for trial in (best, trials[-1]))
    readers, rate = sum(contract.outlets.values()), privacy["sampling_rate"]
    batch = ", ".join(f"{name} {rate * n:g}" for name, n in contract.outlets.items())
    return "\n".join(
        [
            f"# best of {len(trials)} trials: {metric.said(said)} on validation rows",
            f"# (worst {decimal_text(worst)}); ε = {contract.privacy.epsilon:g}, "
            f"{len(contract.outlets)} outlets, {readers:,} readers declared",
            f"# used: {data} ({rows:,} public rows, a quarter of them for validation);",
            "# noise as in the whole pool; no reader's record was read",
            "[federation]",
            f"rounds = {federation['rounds']}",
            f"local_steps = {federation['local_steps']}",
            f"quorum = {contract.federation.quorum}",
            "[privacy]",
            f"epsilon = {contract.privacy.epsilon:g}          "
            f"# σ = {privacy['noise_multiplier']:g}",
            f"sampling_rate = {rate:g}    # expected readers a step: {batch}",
            f"clip = {_toml(privacy['clip'])}",
            f"[{rated}]",
            f"learning_rate = {_toml(best.tables[rated]['learning_rate'])}",
        ]
    )


def as_json(trials: Sequence[TuneTrial], data: Path) -> dict[str, Any]:
    """All trials, the best first, and what they were found with."""
    return {"public": str(data), "trials": [asdict(trial) for trial in trials]}


def _toml(grouped: Mapping[str, float]) -> str:
    if "all" in grouped:
        return f"{grouped['all']:g}"
    return "{ " + ", ".join(f"{group} = {value:g}" for group, value in grouped.items()) + " }"


class _Bench:
    """Public rows as one outlet's readers and as a validation file."""

    def __init__(self, contract: Contract, public: pa.Table, folder: Path) -> None:
        rows = len(public)
        if rows < FEWEST_ROWS:
            raise DataError(
                "too few public rows to tune on",
                expected=f"at least {FEWEST_ROWS}",
                got=rows,
                advice="name a larger public file",
            )
        order = np.random.default_rng(contract.seed).permutation(rows)
        kept = round(rows * VALIDATION_SHARE)
        self._readers = _as_readers(public, order[kept:], contract.privacy.records_per_reader)
        self._file, self.trials = folder / "trials.jsonl", list[TuneTrial]()
        self._known = _read_trials(self._file)
        # Candidates differ in numbers only: one model, one start and one cache serve them all.
        self._compute, self._model = Compute(), build(contract)
        self._start = read(self._model)
        self._evaluation = Evaluation(
            contract, public.take(order[:kept]), self._compute.activations, model=self._model
        )

    def try_(self, contract: Contract) -> TuneTrial:
        """The trial of a contract: found in the folder, or made now and written there."""
        contract = contract.replace(privacy={"noise_multiplier": None}).with_noise()
        key = contract.digest
        if key not in self._known:
            self._known[key] = self._mean(contract)
            lines = [json.dumps({"contract": k, "metrics": m}) for k, m in self._known.items()]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, ("\n".join(lines) + "\n").encode())
        trial = _trial(contract, self._known[key])
        if trial not in self.trials:
            self.trials.append(trial)
        return trial

    def _mean(self, contract: Contract) -> dict[str, float | None]:
        found = [self._value(contract, draw) for draw in range(NOISE_DRAWS)]
        values = [value for value in found if value is not None]
        whole = len(values) == len(found)
        return {_primary(contract).name: float(np.mean(values)) if whole else None}

    def _value(self, contract: Contract, draw: int) -> float | None:
        """Train one made outlet whose mean gradient has the pool's noise, and validate."""
        small, state = self._small(contract), self._start
        moments: State = {}
        random = SecureRandom.deterministic("tune", draw)
        for number in range(1, small.federation.rounds + 1):
            work = RoundWork(
                round=number, turn=number, population=self._readers.readers, random=random
            )
            delta = train_round(self._model, state, self._readers, small, work, self._compute)
            change = {n: d.astype(np.float64) for n, d in delta.items()}
            state, moments = aggregator_of(small).step(state, change, moments, number=number)
        return self._evaluation.scores(state, writes=False).metrics[_primary(contract).name]

    def _small(self, contract: Contract) -> Contract:
        sigma = contract.plan.noise_multiplier
        outlets = len(contract.outlets)
        asked = contract.federation.cohort or outlets
        pool = sum(contract.outlets.values()) * asked / outlets  # of a round, in the mean
        share = contract.trust.noise_share(contract) * math.sqrt(asked)
        scaled = sigma * share * self._readers.readers / pool
        return contract.replace(
            outlets={"public": self._readers.readers},
            federation=ALONE,
            pooled=None,
            privacy={"epsilon": None, "noise_multiplier": max(scaled, NOISE_STEP) if sigma else 0},
        )


def _as_readers(public: pa.Table, rows: np.ndarray[Any, Any], records: int) -> Readers:
    count = len(rows) // records * records
    return Readers(
        table=public.take(rows[:count]),
        offsets=np.arange(0, count + 1, records, dtype=np.int64),
    )


def _samplings(start: Contract) -> list[Contract]:
    local = start.federation.local_steps
    return [
        start.replace(
            privacy={"sampling_rate": rate}, federation={"rounds": max(1, round(steps / local))}
        )
        for rate, steps in SAMPLING
    ]


def _rated(contract: Contract) -> str:
    """The table whose learning rates count: Adam does not see how long the outlets' steps are."""
    return aggregator_of(contract).rated


def _rates_of(contract: Contract) -> Mapping[str, float]:
    rates: Mapping[str, float] = getattr(contract, _rated(contract)).learning_rate
    return rates


def _rates(group: str) -> Callable[[Contract], list[Contract]]:
    def candidates(start: Contract) -> list[Contract]:
        rates, table = _rates_of(start), _rated(start)
        # One rate for all parameters is the head's turn.
        moved = "all" if group == "head" and "all" in rates else group
        if moved not in rates:
            return []
        tables = [{"learning_rate": {**rates, moved: rates[moved] * f}} for f in FACTORS]
        return [start.replace(**{table: changed}) for changed in tables]

    return candidates


def _clips(start: Contract) -> list[Contract]:
    """Other clip norms, at the same length of a clipped step where that length counts."""
    adam = _rated(start) == "server"
    return [
        start.replace(
            privacy={"clip": {group: c * factor for group, c in start.privacy.clip.items()}},
            optimizer={
                "learning_rate": {
                    group: rate if adam else rate / factor
                    for group, rate in start.optimizer.learning_rate.items()
                }
            },
        )
        for factor in FACTORS
    ]


def _trial(contract: Contract, metrics: Mapping[str, float | None]) -> TuneTrial:
    privacy, federation = contract.privacy, contract.federation
    tables: dict[str, dict[str, Any]] = {
        "privacy": {
            "sampling_rate": privacy.sampling_rate,
            "clip": dict(privacy.clip),
            "noise_multiplier": privacy.noise_multiplier,
        },
        "federation": {"rounds": federation.rounds, "local_steps": federation.local_steps},
        _rated(contract): {"learning_rate": dict(_rates_of(contract))},
    }
    return TuneTrial(tables=tables, metrics=metrics)


def _applied(contract: Contract, trial: TuneTrial) -> Contract:
    return contract.replace(**trial.tables).replace(privacy={"noise_multiplier": None})


def _read_trials(file: Path) -> dict[str, Mapping[str, float | None]]:
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    # Folders of before results' schema 2 say an accuracy alone.
    return {
        line["contract"]: line.get("metrics") or {"accuracy": line["accuracy"]} for line in lines
    }
