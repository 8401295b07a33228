"""The reading's sums are the ledger's own, after every entry; and each names its entry."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.fakes.made_ledgers import (
    DIGEST,
    JOB,
    RUN,
    SIGNER,
    following,
    identity,
    opened,
    reserve,
    rotation,
)

from presspool.common.accounting import events
from presspool.common.audit.evidence import projection
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.history import History
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.transparency import notes


class Both:
    """A book that forgets and a history that does not; both take the same entries."""

    def __init__(self, **changes: Any) -> None:
        self.book, self.history = opened(**changes), History()
        parts = self.book.opened
        self.history.apply(parts)

    def take(self, entry: entries.Entry) -> None:
        self.book.apply(entry)
        self.history.apply(entry)
        agree(self.book, self.reading)

    def add(self, kind: Any, **parts: Any) -> None:
        self.take(following(self.book, kind, **parts))

    def reserve(self, number: int, **changes: Any) -> None:
        run = f"sha256:{number:064x}"
        self.take(reserve(self.book, number, **{"run": run, **changes}))

    @property
    def reading(self) -> OutletReading:
        return projection.reading(self.history, source="o.export", verified=True)


def agree(book: LedgerState, reading: OutletReading) -> None:
    """Every number of the reading that the book has as well."""
    assert (reading.entries, reading.day) == (book.size, book.day)
    assert reading.lifetime.used == book.spent == reading.points[-1].used
    assert reading.lifetime.room == book.room(book.caps.epsilon_max) == reading.points[-1].room
    assert reading.claim == book.highest.epsilon_max
    assert {p.name: p.used for p in reading.periods} == {
        p.name: book.charged(period=p.name) for p in reading.periods
    }
    assert sum(p.used for p in reading.periods) == book.spent
    for dataset, room in reading.datasets.items():
        assert room is None or room.used == book.charged(dataset=dataset)
    assert {r.reservation: (r.charge, r.kept, r.executed) for r in reading.runs if r.open} == {
        name: (held.charge, held.steps, held.executed) for name, held in book.dangling.items()
    }
    assert reading.reserved == sum(held.charge for held in book.dangling.values())
    assert reading.settled + reading.reserved == book.spent
    assert reading.keys[-1].key == book.key
    for refused in reading.refusals:
        assert book.refused(refused.run, refused.reason)


def test_a_whole_life_of_a_ledger() -> None:
    both = Both(period_epsilon=6.0)
    both.reserve(1)
    both.add(entries.AdapterReceived, run=f"sha256:{1:064x}", round=1, digest=DIGEST)
    both.add(entries.ReleaseIntent, reservation=identity(1), round=1, steps=50, digest=DIGEST)
    both.add(entries.Refusal, run=RUN, reason="policy-noise", charge=0, free=0)
    both.add(entries.PolicyChanged, epsilon_max=9.0, period_epsilon=7.0, dataset_epsilon=8.5)
    both.add(
        entries.GiveBack,
        reservation=identity(1),
        kept=50,
        charge=events.charge(JOB.first(50), order=4),
    )
    both.add(entries.Settle, reservation=identity(1))
    both.reserve(2)
    both.reserve(3, period="2026-Q2")
    new = notes.Signer.generate("example.org/outlet", kind=notes.NOTE)
    both.take(rotation(both.book, SIGNER, new))
    both.add(entries.Settle, reservation=identity(2))
    both.add(entries.PeriodClosed, period="2026-Q1", charge=both.book.charged(period="2026-Q1"))
    reading = both.reading
    first, second, third = reading.runs
    assert (first.seq, first.settled, first.given_back, first.kept) == (1, 7, 6, 50)
    assert [(r.seq, r.round, r.steps, r.digest) for r in first.releases] == [(3, 1, 50, DIGEST)]
    assert [(r.seq, r.round, r.digest) for r in first.received] == [(2, 1, DIGEST)]
    assert (second.open, third.open) == (False, True)
    assert reading.dangling == ()  # the newest run may be running
    assert [(c.seq, c.epsilon_max) for c in reading.caps] == [(0, 8.0), (5, 9.0)]
    assert [k.seq for k in reading.keys] == [0, 10]
    assert [(p.name, p.closed, p.runs) for p in reading.periods] == [
        ("2026-Q1", 12, (1, 8)),
        ("2026-Q2", None, (9,)),
    ]
    assert [p.seq for p in reading.points] == [0, 1, 5, 6, 8, 9]


def test_an_open_run_that_another_overtook_dangles() -> None:
    both = Both()
    both.reserve(1)
    assert not both.reading.dangling
    both.reserve(2)
    assert [run.seq for run in both.reading.dangling] == [1]
    both.add(entries.Settle, reservation=identity(1))
    assert not both.reading.dangling


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_in_whatever_order_the_sums_are_the_books(seed: int) -> None:
    """What the book takes, the history takes; what it refuses, nobody takes."""
    draw = random.Random(seed)
    both = Both(period_epsilon=7.5)
    for number in range(1, 60):
        held = list(both.book.dangling)
        one = draw.choice(held) if held else identity(0)
        kept = draw.randrange(200)
        charge = events.charge(JOB.first(kept), order=4) if kept else 0
        choices: list[tuple[Any, dict[str, Any]]] = [
            (entries.Settle, {"reservation": one}),
            (
                entries.ReleaseIntent,
                {"reservation": one, "round": number, "steps": number, "digest": DIGEST},
            ),
            (entries.GiveBack, {"reservation": one, "kept": kept, "charge": charge}),
            (entries.PolicyChanged, {"epsilon_max": draw.uniform(7, 12)}),
            (entries.Refusal, {"run": RUN, "reason": "filter", "charge": 5, "free": 4}),
            (entries.Reserve, {}),
            (entries.Reserve, {}),
        ]
        kind, parts = draw.choice(choices)
        try:
            if kind is entries.Reserve:
                both.reserve(number, period=draw.choice(["2026-Q1", "2026-Q2"]))
            else:
                both.add(kind, **parts)
        except LedgerError:
            agree(both.book, both.reading)
    assert len(both.reading.runs) > 3


def test_how_many_more_runs_fit_is_what_the_ledger_then_admits() -> None:
    both = Both(period_epsilon=5.0)
    both.reserve(1)
    more = both.reading.more
    assert more is not None
    assert more > 3
    for number in range(2, 2 + more):
        assert both.reading.more == more + 2 - number
        both.reserve(number)
    assert both.reading.more == 0
    with pytest.raises(LedgerError, match="the run does not fit"):
        both.reserve(99)


def test_a_ledger_without_runs() -> None:
    reading = Both().reading
    assert (reading.more, reading.runs, reading.lifetime.share) == (None, (), 0.0)
    with pytest.raises(LedgerError, match="a first entry"):
        projection.reading(History(), source="", verified=True)
