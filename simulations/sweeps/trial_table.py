"""`trials.parquet`: what every trial of a sweep was, came to and cost; one row a trial.

The file is also the sweep's memory: a trial that has a row is not run again.

::

    number, point, seed    the trial, its point, and the contract's seed where the sweep says it
    contract               sha256 of the frozen contract
    privacy.epsilon, …     what was swept
    epsilon, delta, unit   what the run's statement says; infinity for an unprotected run
    bytes_up, bytes_down, seconds, rounds
    metric.NAME            on the public held-out file, after the last round
    state, reason          complete, pruned or failed, and why
    folder, statement      the run's folder inside the sweep's, and its ε statement

Invariants:
    * What is not known is null; a trial that failed may still have cost an ε, which then stands.
    * What a contract spells "inf" is the number in a table.
    * Reading back what was written gives equal rows.

Example: `read_table(Path("runs/sweep-first"))`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.errors import FolderError
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.newsroom.table_files import replace_table
from presspool.simulations.sweeps.points import Point
from presspool.simulations.sweeps.sweep_trial import Ending, State, result_of, rounds_of

TABLE_FILE, METRIC = "trials.parquet", "metric."


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial that ended.

    Attributes:
        number: its place among all trials, from 0.
        point: number of its point.
        seed: of its contract; None where the sweep does not say it.
        contract: digest of the contract; None where it has not come so far.
        values: what was swept.
        epsilon: of its readers; infinite where they were not protected.
        delta: the δ beside it.
        unit: what one ε covers.
        bytes_up: that its outlets sent.
        bytes_down: that they received.
        seconds: wall-clock time of its rounds.
        rounds: whole rounds.
        metrics: name to value on the public held-out file.
        state: how it ended.
        reason: why it failed.
        folder: of its run, in the sweep's folder.
        statement: what it says of its privacy.
    """

    number: int
    point: int
    seed: int | None
    contract: str | None
    values: Point
    epsilon: float | None
    delta: float | None
    unit: str | None
    bytes_up: int | None
    bytes_down: int | None
    seconds: float | None
    rounds: int | None
    metrics: Mapping[str, float | None]
    state: State
    reason: str
    folder: str
    statement: str | None

    @property
    def bytes_moved(self) -> int:
        """Up and down."""
        return (self.bytes_up or 0) + (self.bytes_down or 0)

    def flat(self) -> dict[str, Any]:
        """As a row of the file."""
        row: dict[str, Any] = {}
        for each in fields(self):
            found = getattr(self, each.name)
            if each.name == "values":
                row |= found
            elif each.name == "metrics":
                row |= {f"{METRIC}{name}": value for name, value in found.items()}
            else:
                row[each.name] = found
        return row


def row_of(sweep: Path, ending: Ending, **known: Any) -> TrialRow:
    """The row of a trial that has just ended.

    Args:
        sweep: the sweep's folder.
        ending: how it ended.
        known: number, point, seed, values and folder.
    """
    found = _of_run(sweep / known["folder"])
    # As a contract spells it; among numbers of a column it is one.
    values = {key: math.inf if v == "inf" else v for key, v in known.pop("values").items()}
    return TrialRow(**known, **found, values=values, state=ending.state, reason=ending.reason)


def _of_run(out: Path) -> dict[str, Any]:
    """What its folder tells of a run, however far it has come."""
    names = [each.name for each in fields(TrialRow)]
    costs = names[names.index("epsilon") : names.index("metrics")]
    nothing = dict.fromkeys([*costs, "contract", "statement"]) | {"metrics": {}}
    result = result_of(out) if RunFolder(out).contract_file.exists() else None
    if result is None:
        return nothing
    # Of a run that was ended between rounds, result.json is of the moment before its last one.
    rounds = max(result.rounds, rounds_of(out), key=len)
    return {
        "contract": result.contract_digest,
        "epsilon": math.inf if result.epsilon is None else result.epsilon,
        "delta": result.delta,
        "unit": result.unit,
        "bytes_up": sum(done.bytes_up for done in rounds),
        "bytes_down": sum(done.bytes_down for done in rounds),
        "seconds": sum(done.seconds for done in rounds),
        "rounds": len(rounds) - 1,
        "metrics": dict(rounds[-1].figures),
        "statement": result.statement,
    }


def write_table(folder: Path, rows: Sequence[TrialRow]) -> None:
    """Write, or replace, the sweep's table.

    Raises:
        StorageError: the disk refuses; the table before is still there.
    """
    table = [row.flat() for row in sorted(rows, key=lambda row: row.number)]
    keys = dict.fromkeys(key for row in rows for key in row.values)
    names = dict.fromkeys(f"{METRIC}{name}" for row in rows for name in row.metrics)
    columns = {
        name: pa.array([row.get(name) for row in table], type_)
        for name, type_ in _schema(rows, [*keys], [*names]).items()
    }
    replace_table(folder / TABLE_FILE, pa.table(columns))


def _schema(
    rows: Sequence[TrialRow], keys: Sequence[str], metrics: Sequence[str]
) -> dict[str, pa.DataType]:
    whole, number, text = pa.int64(), pa.float64(), pa.string()
    swept = {key: _type([row.values.get(key) for row in rows]) for key in keys}
    return {
        "number": whole,
        "point": whole,
        "seed": whole,
        "contract": text,
        **swept,
        **dict.fromkeys(("epsilon", "delta"), number),
        "unit": text,
        **dict.fromkeys(("bytes_up", "bytes_down"), whole),
        "seconds": number,
        "rounds": whole,
        **dict.fromkeys(metrics, number),
        **dict.fromkeys(("state", "reason", "folder", "statement"), text),
    }


def _type(values: Sequence[object]) -> pa.DataType:
    if all(isinstance(value, bool) for value in values):
        return pa.bool_()
    if any(isinstance(value, str) for value in values):
        return pa.string()
    return pa.int64() if all(isinstance(value, int) for value in values) else pa.float64()


def read_table(folder: Path) -> list[TrialRow]:
    """The rows so far; none where no trial has ended.

    Raises:
        FolderError: a file that no sweep wrote.
    """
    path = folder / TABLE_FILE
    if not path.exists():
        return []
    try:
        return [_row(found) for found in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise FolderError(
            "not the table of a sweep",
            where=str(path),
            got=type(error).__name__,
            advice="choose another --out",
        ) from None


def _row(found: Mapping[str, Any]) -> TrialRow:
    own = {each.name for each in fields(TrialRow)}
    known = {name: value for name, value in found.items() if name in own}
    metrics = {
        name.removeprefix(METRIC): value
        for name, value in found.items()
        if name.startswith(METRIC) and found["rounds"] is not None
    }
    values = {n: v for n, v in found.items() if n not in own and not n.startswith(METRIC)}
    return TrialRow(**known, values=values, metrics=metrics)
