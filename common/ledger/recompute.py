"""Every ε of a ledger again, from the serialised events, by accountants that must agree.

For each reservation: its Rényi cost by this package's own accountant and by `dp_accounting`, both
compared with the charge in the ledger; and its ε as one run by privacy loss distributions (PLD),
compared with what the contract stated, beside the ε that the Rényi filter's order would give it.

`dp_accounting` needs 0.2 s for a PLD, `presspool.common.accounting.pld` a tenth of it and is within
`pld.CLOSE` of it. A run passes by the quick one where that cannot matter. No run fails by it: the
library itself has the last word.

Invariants:
    * Nothing is taken from the ledger's own sums: costs are computed and added up again.
    * A difference above `TOLERANCE` to an entry by the same accountant is a failure, by name.
    * A non-private ledger is recomputed, and every ε that its runs would have had is infinite.
    * The PLD of all runs together is shown for comparison. It would be the claim only if all runs
      had been fixed beforehand; the claim is the filter's cap.

Source: Meiser & Mohammadi, CCS 2018; Koskela, Jälkö & Honkela, AISTATS 2020 (PLD); Mironov, Talwar
& Zhang 2019 (Rényi).

Example:
    >>> job = events.SelfComposed(count=12, event=events.PoissonSampled(
    ...     rate=0.15, event=events.Gaussian(noise_multiplier=1.2)))
    >>> round(library_pld(job, delta=1e-5), 2)
    3.02
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import BinaryIO

from presspool.common.accounting import events, filter, pld, pooled_cost
from presspool.common.base.numbers import bound
from presspool.common.ledger import entries, verification
from presspool.common.ledger.history import History
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.ledger.restored_entries import Restored, restored_sentence, users
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint

TOLERANCE = 1e-6
# Beyond so many different kinds of step, the PLD of all runs together takes minutes.
MOST_KINDS = 32
Event = pld.Event
Step = events.Gaussian | events.PoissonSampled


@dataclass(frozen=True, kw_only=True)
class RecomputedRun:
    """One reservation, recomputed. Rényi costs in nats at the ledger's order.

    Attributes:
        seq: place of the reservation in the ledger.
        steps: what is charged after give-backs.
        charged: by the ledger's entries.
        renyi: by our own accountant.
        renyi_library: by `dp_accounting`.
        epsilon_renyi: ε at the ledger's δ from `renyi` alone.
        epsilon_pld: ε at the ledger's δ by PLD; inf for a run beyond all use.
        stated: what the contract stated for the whole run, if it did.
        stated_again: the same by the same accountant, now.
        pooled: whether its outlets share their noise; Rényi costs state ε then, else PLD.
    """

    seq: int
    run: str
    steps: int
    charged: float
    renyi: float
    renyi_library: float
    epsilon_renyi: float
    epsilon_pld: float
    stated: float | None
    stated_again: float | None
    pooled: bool = False

    @property
    def stated_by(self) -> str:
        """The accountant that ε has to be stated by, in short."""
        return "Renyi" if self.pooled else "PLD"

    @property
    def failures(self) -> tuple[str, ...]:
        """What differs by more than `TOLERANCE`."""
        pairs = [
            ("Rényi cost, own accountant", self.charged, self.renyi),
            ("Rényi cost, dp_accounting", self.charged, self.renyi_library),
        ]
        if self.stated is not None and self.stated_again is not None:
            pairs.append((f"stated ε, {self.stated_by}", self.stated, self.stated_again))
        return tuple(
            f"entry {self.seq}: {what}: the ledger says {said:.9g}, recomputed {again:.9g}"
            for what, said, again in pairs
            if not abs(said - again) <= TOLERANCE
        )


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """A ledger, recomputed.

    Attributes:
        verified: what the file's checks found.
        runs: every reservation, in its order.
        restored: what was charged for entries that are lost.
        spent: sum of the runs' Rényi costs (nats), by our own accountant, and of the former.
        capacity: what the cap in force holds (nats).
        pld_together: ε of all runs by PLD, had they been fixed beforehand; None for too many
            kinds of step, and in a non-private ledger.
        library: the version of `dp_accounting`.
    """

    verified: verification.Verified
    runs: tuple[RecomputedRun, ...]
    restored: tuple[Restored, ...]
    spent: float
    capacity: float
    pld_together: float | None
    library: str

    @property
    def failures(self) -> tuple[str, ...]:
        """Every difference above the tolerance, sums included."""
        found = [failure for run in self.runs for failure in run.failures]
        said = self.verified.book.spent * events.UNIT
        if not abs(said - self.spent) <= TOLERANCE * max(1, len(self.runs)):
            found.append(f"sum: the ledger says {said:.9g} nats, recomputed {self.spent:.9g}")
        return tuple(found)

    @property
    def sentence(self) -> str:
        """One sentence: what is used, what is claimed, what still fits."""
        book = self.verified.book
        opened, claim = book.opened, book.claim
        n = len(self.runs)
        if claim is None:
            return (
                f"{opened.origin}: {n} run{'s' * (n != 1)}{restored_sentence(self.restored)}; "
                f"{book.no_claim}"
            )
        text = (
            f"{opened.origin}: {users(n, self.restored)} {self.spent / self.capacity:.1%} of the "
            f"filter of order {opened.order}; the claim is ({claim:g}, {bound(opened.delta)})-DP "
            f"at {opened.unit} level{restored_sentence(self.restored)}"
            f"{pooled_cost.assumption(sum(run.pooled for run in self.runs))}"
        )
        if not self.runs or self.runs[-1].renyi == 0:
            return f"{text}."
        more = max(0, math.floor((self.capacity - self.spent) / self.runs[-1].renyi))
        return (
            f"{text}; {more} more run{'s' * (more != 1)} like the last one fit{'s' * (more == 1)}."
        )


def recompute(
    stream: BinaryIO,
    *,
    key: notes.VerifierKey | None = None,
    heads: Sequence[Checkpoint] = (),
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Recomputed:
    """Verify an export, then compute every ε in it again.

    Args:
        stream: the file.
        key: the ledger's first key, from somewhere else than the file.
        heads: heads of this ledger that others have kept.
        watch: called after each run with the runs done and their total.

    Raises:
        EvidenceError: the file does not hold; differences are no error but `failures`.
    """
    history = History()
    verified = verification.verify(stream, key=key, heads=heads, book=history)
    opened, reserved = history.opened, list(history.runs.values())
    runs: list[RecomputedRun] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # arrays and transforms leave the lock
        for run in pool.map(lambda held: _run(held, opened), reserved):
            runs.append(run if history.claim is not None else _unprotected(run))
            watch(len(runs), len(reserved))
    charged = [_charged_event(held) for held in reserved]
    return Recomputed(
        verified=verified,
        runs=tuple(runs),
        restored=tuple(history.restored),
        spent=math.fsum(
            [*(run.renyi for run in runs), *(e.charge * events.UNIT for e in history.restored)]
        ),
        capacity=filter.capacity(
            epsilon=history.caps.epsilon_max, delta=opened.delta, order=opened.order
        ),
        pld_together=_together([e for e in charged if e is not None], opened.delta)
        if history.claim is not None
        else None,
        library=version("dp-accounting"),
    )


def _charged_event(held: Reservation) -> Event | None:
    """What stays charged: the whole event, its first steps, or nothing."""
    if held.given_back is None:
        return held.entry.event
    return held.entry.event.first(held.steps) if held.steps else None


def _run(held: Reservation, opened: entries.Opened) -> RecomputedRun:
    entry, event, stated = held.entry, _charged_event(held), held.entry.stated
    own = events.renyi(event, order=opened.order) if event else 0.0
    return RecomputedRun(
        seq=entry.seq,
        run=entry.run,
        steps=event.steps if event else 0,
        charged=held.charge * events.UNIT,
        renyi=own,
        renyi_library=library_renyi(event, order=opened.order) if event else 0.0,
        epsilon_renyi=filter.epsilon_of(own, delta=opened.delta, order=opened.order)
        if event
        else 0.0,
        epsilon_pld=pld.epsilon(event, delta=opened.delta) if event else 0.0,
        stated=stated.epsilon if stated else None,
        stated_again=_again(entry.event, stated) if stated else None,
        pooled=pooled_cost.is_pooled(entry.event),
    )


def _unprotected(run: RecomputedRun) -> RecomputedRun:
    return replace(
        run, epsilon_renyi=math.inf, epsilon_pld=math.inf, stated=None, stated_again=None
    )


def _again(event: Event, stated: entries.Stated) -> float:
    """The stated ε again: by the library, unless the quick one cannot differ in the verdict.

    Of pooled sums no loss distribution is claimed: there, by our own costs at whole orders. Which
    it is says the event, not the word that the outlet wrote beside its ε.
    """
    if pooled_cost.is_pooled(event):
        return pooled_cost.best_of(event, delta=stated.delta).epsilon
    if stated.delta >= pld.FINEST_DELTA:
        quick = pld.epsilon(event, delta=stated.delta)
        if abs(quick - stated.epsilon) <= TOLERANCE - pld.CLOSE:
            return quick
    return library_pld(event, delta=stated.delta)


@lru_cache(maxsize=4096)
def library_renyi(event: Event, *, order: int) -> float:
    """ε(α) in nats by `dp_accounting`'s Rényi accountant."""
    import dp_accounting as dp
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant(
        orders=[order], neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant.compose(events.to_dp(event))
    # The accountant's only public output is an ε at some δ, with its conversion's clipping at 0.
    return float(accountant._rdp[0]) + _of_the_lattice(event, order)


def _of_the_lattice(event: Event, order: int) -> float:
    """What the library leaves out of pooled sums: that shares are not quite one Gaussian."""
    return math.fsum(
        phase.count * events.beyond_gaussian(phase.event, order)
        for phase in events.phases_of(event)
    )


@lru_cache(maxsize=4096)
def library_pld(event: Event, *, delta: float) -> float:
    """ε at δ by `dp_accounting`'s own PLD; inf where a Rényi bound is beyond all use."""
    import dp_accounting as dp
    from dp_accounting import pld as library

    if pld.beyond_use(event, delta=delta):
        return math.inf
    accountant = library.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(events.to_dp(event))
    return float(accountant.get_epsilon(delta))


def _together(charged: Sequence[Event], delta: float) -> float | None:
    """PLD of all that is charged: equal steps are composed at once."""
    counts: Counter[Step] = Counter()
    for event in charged:
        for phase in events.phases_of(event):
            counts[phase.continuous] += phase.count
    if not 0 < len(counts) <= MOST_KINDS or max(counts.values()) > events.MOST_STEPS:
        return None if counts else 0.0
    phases = [events.SelfComposed(event=step, count=n) for step, n in counts.items()]
    return pld.epsilon(events.Composed(events=tuple(phases)), delta=delta)
