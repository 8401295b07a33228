"""What a run did, in figures: the schema of `result.json`.

Invariants:
    * A value of these classes is valid: every field is checked on construction, whether it comes
      from a running federation or from a file that somebody edited.
    * JSON's missing NaN and Infinity are never needed: null stands for "not measured" and, for an
      ε, for "unprotected".
    * What was measured is described once a run, and every round has a value for each description.
    * ε never falls from round to round: what was spent stays spent.
    * A result is private only if nothing speaks against it: `RunResult.cautions` lists what does,
      and whoever prints a result prints them.

Example:
    >>> from presspool.common.tasks.metric import Metric
    >>> hits = Metric(name="hits", title="Hits", higher_is_better=True, primary=True)
    >>> outlet = OutletResult(name="north", population=120, weight=1.0, epsilon=3.0, delta=1e-5,
    ...                       unit="record", steps=40)
    >>> start = RoundResult(round=0, metrics={"hits": 0.25}, bytes_up=0, bytes_down=0,
    ...                     seconds=0.5, epsilon=0.0, outlets=(), refused={})
    >>> run = RunResult(name="demo", contract_digest="sha256:" + "0" * 64, status="running",
    ...                 deterministic=False, measures=(hits,), rounds=(start,), outlets=(outlet,),
    ...                 adapter_sha256=None, statement="not finished", trust="local",
    ...                 accountant="dp_accounting PLD 0.6", seconds=0.5, versions={}, contract={})
    >>> run.private, [str(caution) for caution in run.cautions]
    (False, ['record level: weaker than reader level'])
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator
from pydantic.dataclasses import dataclass

from presspool.common.base.errors import InputError
from presspool.common.runs.result_fields import (
    CHECKED,
    EXACT,
    Amount,
    Count,
    Figures,
    Line,
    Measures,
    Name,
    Names,
    Passage,
    Writing,
    distinct,
)
from presspool.common.runs.virtual_round import VirtualRound


class Caution(StrEnum):
    """What stands between a result and the word "private"; printed wherever the result is."""

    UNPROTECTED = "unprotected"
    RECORD = "record level: weaker than reader level"
    SIMULATION = "noise was reproducible: a simulation, not a release"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WholeFile:
    """What a round came to on every public held-out record, where its line is of a sample.

    Attributes:
        records: how many there are.
        sample: how many of them the line is of.
        metrics: as a round's.
    """

    records: Count
    sample: Count
    metrics: Mapping[Name, float | None]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RoundResult:
    """One round, as the coordinator saw it.

    Attributes:
        round: 0 is the state before training.
        metrics: name to value on the public held-out records, of a large file on a sample that is
            the same in every round; None: not measured, or not finite.
        bytes_up: bytes that all outlets sent in this round.
        bytes_down: bytes that all outlets received in this round.
        seconds: wall-clock time of this round.
        epsilon: the largest ε that an outlet may have spent after this round; None: unprotected.
        outlets: whose updates were admitted.
        refused: outlet to the fixed code of its refusal.
        whole: of a large file, first and last: the same on every record; else no such key.
        virtual: of a simulation with a clock: when it was there; else no such key.

    Raises:
        pydantic.ValidationError: a field holds something else.
    """

    round: Count
    metrics: Mapping[Name, float | None]
    bytes_up: Count
    bytes_down: Count
    seconds: Amount
    epsilon: Amount | None
    outlets: Names
    refused: Mapping[Name, Line]
    whole: WholeFile | None = None
    virtual: VirtualRound | None = None

    @property
    def figures(self) -> Mapping[str, float | None]:
        """The metrics on every record where that was measured, else on the sample."""
        return self.metrics if self.whole is None else self.whole.metrics

    @model_validator(mode="after")
    def _verify(self) -> Self:
        if self.round == 0 and (self.bytes_up or self.bytes_down or self.outlets):
            raise ValueError("round 0 is before training: no bytes and no updates")
        return self


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class OutletResult:
    """What the run cost one outlet's readers.

    Attributes:
        name: the outlet's name in the contract.
        population: declared number of readers, from the contract.
        weight: weight in the average, from the contract.
        epsilon: ε of every round that was handed out, whole or not, for one unit of this outlet;
            None: unprotected.
        delta: the δ that belongs to `epsilon`.
        unit: what one ε covers; "record" is weaker than "reader".
        steps: noised optimiser steps that it was asked for, which is the most it can have taken.

    Raises:
        pydantic.ValidationError: a field holds something else, or an ε has no δ.
    """

    name: Name
    population: Annotated[int, Field(ge=1, le=EXACT)]
    weight: Amount
    epsilon: Amount | None
    delta: Annotated[float, Field(gt=0, lt=1)] | None
    unit: Literal["reader", "record"]
    steps: Count

    @model_validator(mode="after")
    def _verify(self) -> Self:
        if self.epsilon is not None and self.delta is None:
            raise ValueError("a δ beside this outlet's ε")
        return self


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PooledFigures:
    """What an ε under an assumption on the other outlets stands beside.

    Attributes:
        alone: ε of one outlet's readers if everybody else works together.
        every: ε of a reader at every outlet: a group inside each sum, and no composition.

    Raises:
        pydantic.ValidationError: a field holds something else.
    """

    alone: Amount
    every: Amount


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WritingSample:
    """What a writing model makes of one public record; its lines are kept, nothing else that acts.

    Attributes:
        asked: what it was asked.
        answer: what the record itself has, where it has something.
        before: what the base model writes.
        after: what it writes with the run's adapter.

    Raises:
        pydantic.ValidationError: a field holds something else.
    """

    asked: Passage
    answer: Passage
    before: Passage
    after: Passage


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RunResult:
    """A run so far, or complete.

    Attributes:
        schema: version of this file's form.
        name: the run's name; whoever wrote the contract chose it, so it is never trusted as markup.
        contract_digest: sha256 of the contract that every outlet agreed to.
        status: "running" until the last round's result is written: a run that ended in the middle
            stays so, and its figures count the round that was under way.
        deterministic: noise and sampling could be reproduced, so nothing here is private.
        measures: what the task measures; one of them is primary.
        rounds: from round 0 on, without gaps.
        outlets: one or more, in contract order.
        adapter_sha256: of the final adapter file, in hex; None while there is none.
        statement: the one-line ε statement, or the sentence that says unprotected.
        trust: the trust model, "local" or "pooled".
        accountant: name and version of what computed ε.
        seconds: wall-clock time of the whole run.
        versions: package to version.
        contract: the canonical contract body.
        samples: of a complete run of a model that writes; the file has no key where there are none.
        figures: label by label, of a complete run that was measured by labels; else no such key.
        writing: base model against adapter, of a complete run that writes; else no such key.
        pooled: of a run whose outlets share their noise; the file of another has no such key.

    Raises:
        pydantic.ValidationError: a field holds something else, or two contradict each other.
    """

    schema: Literal[2] = 2
    name: Name
    contract_digest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    status: Literal["running", "complete"]
    deterministic: bool
    measures: Measures
    rounds: tuple[RoundResult, ...]
    outlets: Annotated[tuple[OutletResult, ...], Field(min_length=1)]
    adapter_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    statement: Line
    trust: Name
    accountant: Name
    seconds: Amount
    versions: Mapping[Name, Line]
    contract: Mapping[str, JsonValue]
    samples: tuple[WritingSample, ...] = ()
    figures: Figures | None = None
    writing: Writing | None = None
    pooled: PooledFigures | None = None

    @model_validator(mode="after")
    def _verify(self) -> Self:
        json.dumps(self.contract, allow_nan=False, ensure_ascii=False).encode()  # or ValueError
        distinct(tuple(outlet.name for outlet in self.outlets))
        if len({outlet.unit for outlet in self.outlets}) > 1:
            raise ValueError("one unit for all outlets")
        if [entry.round for entry in self.rounds] != list(range(len(self.rounds))):
            raise ValueError("rounds 0, 1, 2, … in order")
        if self.status == "complete" and not self.rounds:
            raise ValueError("at least round 0 in a complete run")
        measured = {metric.name for metric in self.measures}
        said = (set(found) for e in self.rounds for found in (e.metrics, e.figures))
        if any(measured != names for names in said):
            raise ValueError("each described metric in each round, and no other")
        names = {outlet.name for outlet in self.outlets}
        if not all(names.issuperset(entry.outlets) for entry in self.rounds):
            raise ValueError("only outlets of this run in its rounds")
        spent = [math.inf if e.epsilon is None else e.epsilon for e in self.rounds]
        if spent != sorted(spent):
            raise ValueError("an ε that never falls from round to round")
        return self

    @property
    def final(self) -> RoundResult:
        """The last round so far.

        Raises:
            InputError: the run has no round yet.
        """
        if not self.rounds:
            raise InputError("no round yet", where=self.name, advice="wait for round 0")
        return self.rounds[-1]

    @property
    def unit(self) -> Literal["reader", "record"]:
        """What one ε of this run covers."""
        return self.outlets[0].unit

    @property
    def epsilon(self) -> float | None:
        """The largest ε that one outlet's readers pay; None: somebody is unprotected.

        A reader of several outlets pays more: see `worst_case`.
        """
        spent = [outlet.epsilon for outlet in self.outlets]
        spent += [entry.epsilon for entry in self.rounds]
        return None if None in spent else max(value for value in spent if value is not None)

    @property
    def delta(self) -> float | None:
        """The largest δ beside `epsilon`; None where there is no ε."""
        deltas = [outlet.delta for outlet in self.outlets if outlet.delta is not None]
        return max(deltas) if deltas and self.epsilon is not None else None

    @property
    def worst_case(self) -> tuple[Decimal, Decimal] | None:
        """(ε, δ) of a reader who is at every outlet: both add up, but for pooled sums.

        Vadhan & Zhang, STOC 2023 (concurrent composition: the outlets answer in turn, each again
        and again). Decimal, because a bound must not shrink by rounding.
        """
        if self.epsilon is None:
            return None
        if self.pooled is not None:
            return Decimal(repr(self.pooled.every)), Decimal(repr(self.delta))
        epsilons = (Decimal(repr(outlet.epsilon)) for outlet in self.outlets)
        deltas = (Decimal(repr(outlet.delta)) for outlet in self.outlets)
        return sum(epsilons, Decimal()), sum(deltas, Decimal())

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Everything that keeps this result from being private at reader level."""
        unprotected = self.epsilon is None
        found = {
            Caution.UNPROTECTED: unprotected,
            Caution.RECORD: self.unit == "record" and not unprotected,
            Caution.SIMULATION: self.deterministic,
        }
        return tuple(caution for caution, applies in found.items() if applies)

    @property
    def private(self) -> bool:
        """Finite ε, at reader level, with noise that nobody can reproduce."""
        return not self.cautions

    @property
    def bytes_up(self) -> int:
        """Bytes that the outlets sent in all rounds."""
        return sum(entry.bytes_up for entry in self.rounds)

    @property
    def bytes_down(self) -> int:
        """Bytes that the outlets received in all rounds."""
        return sum(entry.bytes_down for entry in self.rounds)

    def to_json(self) -> str:
        """The text of `result.json`."""
        body = dataclasses.asdict(self)
        if not self.samples:
            del body["samples"]
        for key in ("figures", "writing", "pooled"):
            if body[key] is None:
                del body[key]
        for entry, key in product(body["rounds"], ("whole", "virtual")):
            if entry[key] is None:
                del entry[key]
        return json.dumps(body, ensure_ascii=False, indent=2) + "\n"
