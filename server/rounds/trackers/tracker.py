"""What a tracker is told of a run, and what it is: TensorBoard, MLflow, Weights & Biases.

A tracker may send what it is told to a server of its own. So it gets a list of what is public, and
not the run: numbers of the rounds that the coordinator knows, the knobs of the contract, and the
sentence that says what the adapter's privacy is.

Invariants:
    * No record, file name, path, outlet or label is told.
    * An ε never goes alone: the statement and its δ go with it.
    * Writing a run again leaves it there once.

Example: `TRACKERS["mlflow"]().write(folder.path, told_of(result))`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from presspool.common.base.errors import ContractError, InputError, PressPoolError
from presspool.common.runs.results import RoundResult, RunResult
from presspool.server.rounds.trackers import TRACKERS

Knob = bool | int | float | str
# The contract's tables whose every key is a knob; others name models, labels and outlets.
TABLES = ("adapter", "federation", "privacy", "pooled", "optimizer", "server")


@dataclass(frozen=True, kw_only=True)
class ToldRound:
    """A round.

    Attributes:
        number: 0 is before training.
        figures: name to value, what was not measured left out.
    """

    number: int
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ToldRun:
    """All that a tracker is told of a complete run.

    Attributes:
        key: names this run and no other one, in hex.
        name: the contract's.
        contract: its digest.
        adapter: sha256 of the adapter's file.
        statement: what the run says of its privacy; δ stands in it.
        cautions: what keeps it from being private.
        knobs: dotted contract key to value.
        rounds: from round 0 on.
    """

    key: str
    name: str
    contract: str
    adapter: str
    statement: str
    cautions: tuple[str, ...]
    knobs: Mapping[str, Knob]
    rounds: tuple[ToldRound, ...]

    @property
    def notes(self) -> dict[str, str]:
        """What stands beside the numbers, in words."""
        return {
            "contract": self.contract,
            "adapter": self.adapter,
            "statement": self.statement,
            "cautions": "; ".join(self.cautions) or "none",
        }


class Tracker(ABC):
    """Keeps runs' public numbers.

    Attributes:
        folder: where, in the folder that it is given; a server of its own may be set instead.
    """

    folder: ClassVar[str]

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Raise `InputError` where what it needs is not installed."""

    @abstractmethod
    def write(self, place: Path, told: ToldRun, *, label: str = "") -> None:
        """Keep a run.

        Args:
            place: the run's folder, or of many runs the one around theirs.
            told: the run.
            label: of the run among many; "" where the place is its own.

        Raises:
            StorageError: the disk refuses.
        """


def told_of(result: RunResult) -> ToldRun:
    """The public part of a complete result."""
    whole = f"{result.contract_digest} {result.adapter_sha256}"
    return ToldRun(
        key=hashlib.sha256(whole.encode()).hexdigest()[:32],
        name=result.name,
        contract=result.contract_digest,
        adapter=result.adapter_sha256 or "",
        statement=result.statement,
        cautions=tuple(map(str, result.cautions)),
        knobs=dict(_knobs(result.contract)),
        rounds=tuple(
            ToldRound(number=done.round, figures=dict(_figures(done))) for done in result.rounds
        ),
    )


def _figures(done: RoundResult) -> Iterator[tuple[str, float]]:
    for tag, value in {
        **{f"held-out/{name}": value for name, value in done.metrics.items()},
        **{f"held-out-all/{name}": v for name, v in done.figures.items() if done.whole},
        "privacy/epsilon": done.epsilon,
        "traffic/bytes_up": done.bytes_up,
        "traffic/bytes_down": done.bytes_down,
    }.items():
        if value is not None:
            yield tag, value


def _knobs(contract: Mapping[str, object]) -> Iterator[tuple[str, Knob]]:
    yield from _inside("seed", contract.get("seed"))
    for table in TABLES:
        yield from _inside(table, contract.get(table))


def _inside(key: str, value: object) -> Iterator[tuple[str, Knob]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _inside(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        yield key, ", ".join(map(str, value))
    elif isinstance(value, bool | int | float | str):
        yield key, value


def require_trackers(names: Sequence[str]) -> None:
    """Look whether trackers can be had, before anything is trained.

    Raises:
        InputError: an unknown name, or an extra that is not installed.
    """
    for name in names:
        try:
            TRACKERS.check(name)
        except ContractError as error:
            raise InputError(error.what, **error.parts | {"where": "--track"}) from None
        TRACKERS[name].check()


def track(names: Sequence[str], place: Path, result: RunResult, *, label: str = "") -> None:
    """Tell trackers of a complete run; as `Tracker.write`.

    Raises:
        InputError: an extra that is not installed.
    """
    for name in dict.fromkeys(names):
        tracker = TRACKERS[name]
        tracker.check()
        tracker().write(place, told_of(result), label=label)


def not_taken(name: str, error: Exception) -> PressPoolError:
    """What to raise where a tracker, or its server, does not take a run."""
    return PressPoolError(
        f"{name} does not take the run",
        where="--track",
        got=" ".join(str(error).split()),
        advice="the run itself is complete; type the same again with --resume",
    )
