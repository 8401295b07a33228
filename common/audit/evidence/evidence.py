"""All that was read, over outlets and runs: who pays what together, and what came of it.

The second half of the model; `reading` is the first and says how to use both.

Invariants:
    * What several outlets cost is a sum, never a maximum, and exact (`Decimal`): a bound must not
      shrink by rounding. Where an outlet states no ε there is no sum.
    * An outlet of a run whose ledger is not at hand is counted by the run's own result; a run whose
      contract is not at hand is never called complete.

Example:
    >>> one = Spent(outlet="north", epsilon=0.1, delta=1e-5, seq=3, source="north.export")
    >>> WorstCaseSum(run="sha256:…", parts=(one, one, one), complete=True).epsilon
    Decimal('0.3')
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from presspool.common.accounting import pooled_cost
from presspool.common.audit.evidence.ledger_view import OutletReading, ReservedRun
from presspool.common.contract.contract import Contract
from presspool.common.runs.results import RunResult


@dataclass(frozen=True, kw_only=True)
class RunReading:
    """A run folder.

    Attributes:
        path: the folder; only its name is ever shown.
        contract: the frozen contract.
        result: its figures.
        deterministic: seed of reproducible noise was set: nothing in it is private.
        adapter: sha256 of the adapter file that lies there, in hex; None where there is none.
    """

    path: Path
    contract: Contract
    result: RunResult
    deterministic: bool
    adapter: str | None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one run costs a reader at one outlet, for a sum over outlets.

    Attributes:
        outlet: the contract's name of it, or the ledger's where no contract is at hand.
        epsilon: None where the outlet adds no noise, or its ledger states no ε.
        delta: None where `epsilon` is.
        seq: entry of the reservation; None where the figure is from the run's result.
        source: the file that says so.
    """

    outlet: str
    epsilon: float | None
    delta: float | None
    seq: int | None
    source: str


@dataclass(frozen=True, kw_only=True)
class WorstCaseSum:
    """A reader of every outlet of a run: ε and δ add up.

    Source: each outlet is an interactive mechanism on the reader's data and the coordinator talks
    to all of them in turn, so what is needed is concurrent composition: Vadhan & Wang, TCC 2021;
    Vadhan & Zhang, "Concurrent Composition Theorems for Differential Privacy", STOC 2023, by which
    ε and δ add up as in sequential composition (Dwork & Roth 2014, theorem 3.16).

    Attributes:
        run: digest of the contract.
        parts: one an outlet.
        complete: all outlets of the run are counted; False where its contract is not at hand.
        together: (ε, δ) of the reader where the outlets share their noise: a group inside each sum,
            whose outlets' figures do not add up. None where they do.
        unnamed: ledgers that reserved the run under a name that its contract does not have; each is
            one of the outlets in `parts`, and is not added again.
    """

    run: str
    parts: tuple[Spent, ...]
    complete: bool
    together: tuple[Decimal, Decimal] | None = None
    unnamed: tuple[str, ...] = ()

    @property
    def epsilon(self) -> Decimal | None:
        """The sum; None where an outlet has no ε."""
        if self.together is not None:
            return self.together[0]
        return _sum(part.epsilon for part in self.parts)

    @property
    def delta(self) -> Decimal | None:
        """The sum of δ; None where an outlet has no ε."""
        if self.together is not None:
            return self.together[1]
        return _sum(part.delta for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """From an outlet's period to a run to the adapter that came of it.

    Attributes:
        seq: entry of the reservation.
        adapter: sha256 in hex of the released adapter; None where no run folder is at hand, or the
            run has not released one.
    """

    origin: str
    period: str
    seq: int
    run: str
    name: str | None
    adapter: str | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was read.

    Attributes:
        outlets: one a ledger, by origin.
        runs: one a run folder, by name.
    """

    outlets: tuple[OutletReading, ...]
    runs: tuple[RunReading, ...]

    def unclaimed(self, digest: str) -> tuple[str, ...]:
        """Ledgers that have the run and claim nothing: its statement is not true of them."""
        run = self.run(digest)
        if run is not None and (run.deterministic or run.result.epsilon is None):
            return ()  # it says so itself
        return tuple(
            outlet.origin
            for outlet in self.outlets
            if outlet.claim is None and any(found.run == digest for found in outlet.runs)
        )

    def run(self, digest: str) -> RunReading | None:
        """The folder of the run with this contract."""
        return next((run for run in self.runs if run.contract.digest == digest), None)

    @property
    def lineage(self) -> tuple[Lineage, ...]:
        """Every reservation and what came of it."""
        return tuple(
            Lineage(
                origin=outlet.origin,
                period=kept.period,
                seq=kept.seq,
                run=kept.run,
                name=found.contract.name if found else None,
                adapter=found.adapter if found else None,
            )
            for outlet in self.outlets
            for kept in outlet.runs
            for found in [self.run(kept.run)]
        )

    @property
    def worst_cases(self) -> tuple[WorstCaseSum, ...]:
        """For each run that ledgers or folders know: the sum over its outlets."""
        known = [run.contract.digest for run in self.runs]
        known += [kept.run for outlet in self.outlets for kept in outlet.runs]
        return tuple(self.worst_case(digest) for digest in dict.fromkeys(known))

    def worst_case(self, digest: str) -> WorstCaseSum:
        """The sum over the outlets of one run: a ledger's figure, else the run's own result's."""
        ledgers = {
            outlet.name: (outlet, kept)
            for outlet in self.outlets
            for kept in outlet.runs
            if kept.run == digest
        }
        folder = self.run(digest)
        if folder is None:
            found = [_by_ledger(*pair) for pair in ledgers.values()]
            together = _group([kept for _, kept in ledgers.values()], len(found))
            return WorstCaseSum(run=digest, parts=tuple(found), complete=False, together=together)
        outlets = folder.result.outlets
        parts = tuple(
            _by_ledger(*ledgers[said.name], name=said.name)
            if said.name in ledgers
            else Spent(
                outlet=said.name,
                epsilon=said.epsilon,
                delta=said.delta,
                seq=None,
                source=folder.path.name,
            )
            for said in outlets
        )
        strange = sorted(
            ledger.origin
            for name, (ledger, _) in ledgers.items()
            if name not in {said.name for said in outlets}
        )
        return WorstCaseSum(
            run=digest,
            parts=parts,
            complete=True,
            together=_shared(folder, [kept for _, kept in ledgers.values()]),
            unnamed=tuple(strange),
        )

    @property
    def claims(self) -> tuple[Decimal, Decimal] | None:
        """(ε, δ) of a reader of every outlet here, over the ledgers' lifetimes; None for none.

        Where two of them share their noise in a run, its sum costs such a reader more than both.
        """
        pooled = [
            run.run for o in self.outlets for run in o.runs if pooled_cost.is_pooled(run.event)
        ]
        if len(set(pooled)) < len(pooled):
            return None
        epsilon = _sum(outlet.claim for outlet in self.outlets)
        delta = _sum(outlet.delta for outlet in self.outlets)
        return (epsilon, delta) if self.outlets and epsilon and delta else None


def _shared(folder: RunReading, kept: Sequence[ReservedRun]) -> tuple[Decimal, Decimal] | None:
    """The same of a run's folder: by its contract, or by a ledger's event where that is more."""
    contract, steps = folder.contract, max(outlet.steps for outlet in folder.result.outlets)
    if contract.pooled is None:
        return None
    count = len(contract.outlets)
    epsilon, delta = contract.trust.several(contract, count, steps)
    planned = Decimal(repr(epsilon)), Decimal(repr(delta))
    return max(planned, _group(kept, count) or planned)


def _group(kept: Sequence[ReservedRun], outlets: int) -> tuple[Decimal, Decimal] | None:
    """(ε, δ) of a reader at so many outlets that share their noise; None where they do not."""
    shared = [run for run in kept if run.stated is not None and pooled_cost.is_pooled(run.event)]
    if not shared:
        return None
    delta = max(run.stated.delta for run in shared if run.stated is not None)
    epsilon = max(
        pooled_cost.group_epsilon(run.event, outlets=outlets, delta=delta) for run in shared
    )
    return Decimal(repr(epsilon)), Decimal(repr(delta))


def _by_ledger(outlet: OutletReading, kept: ReservedRun, *, name: str = "") -> Spent:
    said = kept.stated
    return Spent(
        outlet=name or outlet.origin,
        epsilon=said.epsilon if said else None,
        delta=said.delta if said else None,
        seq=kept.seq,
        source=outlet.source,
    )


def _sum(values: Iterable[float | None]) -> Decimal | None:
    """Exact, because a bound must not shrink by rounding; None where one is missing."""
    total = Decimal()
    for value in values:
        if value is None:
            return None
        total += Decimal(repr(value))
    return total
