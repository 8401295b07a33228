"""What an answer's document says of the ledger that paid for it: no more than the ledger says."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
from tests.fakes.made_outlets import EPSILON, ORDER, new_ledger

from presspool.client.engine.randomness import SecureRandom
from presspool.client.opinion.counts_release import COLUMNS, noised
from presspool.client.opinion.opinion_query import OpinionQuery
from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.ledger.store import Ledger
from presspool.common.released.counts_document import CountsDocument

ASKED = OpinionQuery(
    name="none", labels=("a", "b"), first=date(2026, 1, 1), periods=3, by="day", share=0.1
)


def held_in(ledger: Ledger) -> Reservation:
    event = ASKED.event(order=ORDER, room=ledger.book.room(EPSILON) * events.UNIT)
    return ledger.book.dangling[reserved(ledger, ASKED.run, event).reservation]


def reserved(ledger: Ledger, run: str, event: events.SelfComposed) -> entries.Reserve:
    datasets = [entries.new_id()]
    return ledger.reserve(
        run=run, unit="reader", period="2026", datasets=datasets, event=event, head=None
    )


def drawn(ledger: Ledger, held: Reservation) -> CountsDocument:
    nobody = pa.table({name: pa.array([], pa.large_string()) for name in COLUMNS})
    return noised(nobody, ASKED, held=held, ledger=ledger, random=SecureRandom())


def test_a_ledger_in_doubt_claims_nothing_beside_an_answer(tmp_path: Path) -> None:
    """Entries from before the first run are lost: one may say that nobody is protected."""
    with Ledger(new_ledger(tmp_path / "ledger.db")) as ledger:
        ledger.change_policy(Caps(epsilon_max=EPSILON, period=EPSILON / 2))
        ledger.restore("period", like="2026", leaves=[], head=None)
        ledger.change_policy(Caps(epsilon_max=EPSILON))
        assert ledger.book.claim is None
        found = drawn(ledger, held_in(ledger))
    assert found.claim is None
    assert "nothing is claimed as a whole" in found.statement
    assert CountsDocument.model_validate_json(found.encode()) == found


def test_a_claim_says_what_pooled_runs_make_it_lean_on(tmp_path: Path) -> None:
    step = events.PooledSum(
        rate=0.01, noise_multiplier=9.0, shares=4, scale=2.0**20, parameters=100
    )
    with Ledger(new_ledger(tmp_path / "ledger.db")) as ledger:
        held = held_in(ledger)
        assert "share their noise" not in drawn(ledger, held).statement
        pooled = events.SelfComposed(event=step, count=2)
        ledger.settle(reserved(ledger, "sha256:" + "2" * 64, pooled).reservation)
        found = drawn(ledger, held)
    assert found.pooled_runs == 1
    assert "if in 1 run whose outlets share their noise" in found.statement
