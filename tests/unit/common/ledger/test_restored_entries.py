"""What a restored ledger may say: the hashes of what is lost, then the whole charge, or nothing."""

from __future__ import annotations

import io
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_ledgers import DAY, JOB, RUN, SIGNER, following, identity, opened, reserve
from tests.fakes.made_outlets import new_ledger

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.audit.evidence.verdicts import recomputed_json
from presspool.common.base.errors import BudgetError, EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.ledger_state import IN_DOUBT, NO_CLAIM, LedgerState
from presspool.common.ledger.recompute import recompute
from presspool.common.ledger.restored_entries import (
    Lost,
    Restored,
    leaf_of,
    owed,
    periods_between,
    restored_sentence,
)
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import verify
from presspool.common.transparency import merkle

LATER = "2026-03-05"
PERIOD_CAP = 4.0


def _book(*, lost: int = 2) -> LedgerState:
    """A ledger of January with an open run, and entries that were lost until March."""
    book = opened(period_epsilon=PERIOD_CAP)
    book.apply(reserve(book, 1, period="2026-01"))
    for _ in range(lost):
        book.apply(following(book, Lost, day=LATER, leaf="ab" * 32))
    return book


def _restored(book: LedgerState, **changes: Any) -> Restored:
    periods = ("2026-01", "2026-02", "2026-03")
    parts = {"day": LATER, "lost": 2, "basis": "period", "periods": periods, **changes}
    parts.setdefault("charge", owed(book, parts["basis"], parts["periods"]))
    made: Restored = following(book, Restored, **parts)
    return made


def test_every_period_since_the_copy_is_spent_and_open_runs_are_over() -> None:
    book = _book()
    charge = events.charge(JOB, order=book.opened.order)
    room, lifetime = book.room(PERIOD_CAP), book.room(book.caps.epsilon_max)
    book.apply(_restored(book))
    assert book.spent == min(lifetime, 3 * room)
    assert [book.charged(period=f"2026-0{month}") for month in (1, 2, 3, 4)] == [*3 * [room], 0]
    assert not book.dangling
    assert book.reserved(RUN) is not None  # and is never reserved again as a new one
    assert book.charged(dataset=next(iter(book.datasets))) >= charge


@pytest.mark.parametrize(
    "changes",
    [
        {"charge": 10**9},
        {"lost": 1},
        {"periods": ("2026-01", "2026-03")},
        {"periods": ("2026-02", "2026-03")},
        {"periods": (), "charge": 0},
        {"basis": "moved", "periods": (), "charge": 0},
        {"basis": "lifetime"},
        {"day": "2026-03-06"},
    ],
)
def test_nothing_less_or_else_is_taken(changes: dict[str, Any]) -> None:
    book = _book()
    with pytest.raises(LedgerError):
        book.apply(_restored(book, **changes))
    assert book.lost == 2


def test_nothing_but_the_payment_follows_what_is_lost() -> None:
    book = _book()
    with pytest.raises(LedgerError, match="not paid for"):
        book.apply(reserve(book, 2, day=LATER))
    with pytest.raises(LedgerError, match="day of a lost entry"):
        book.apply(following(book, Lost, day="2026-03-06", leaf="ab" * 32))
    book.apply(_restored(book, basis="lifetime", periods=()))
    assert book.spent == book.room(book.caps.epsilon_max)


def test_a_ledger_that_has_moved_pays_nothing_and_its_runs_go_on() -> None:
    book = _book(lost=0)
    before = book.spent
    book.apply(_restored(book, lost=0, basis="moved", periods=()))
    assert (book.spent, len(book.dangling), len(book.restored)) == (before, 1, 1)


def test_where_periods_have_no_cap_they_bound_nothing() -> None:
    book = opened()
    with pytest.raises(LedgerError, match="no cap"):
        owed(book, "period", ("2026",))


def test_periods_between_two_days() -> None:
    first, last = date(2026, 11, 30).isoformat(), date(2027, 2, 1).isoformat()
    assert periods_between(first, last, like="2020") == ("2026", "2027")
    assert periods_between(first, last, like="2020-Q1") == ("2026-Q4", "2027-Q1")
    assert periods_between(first, last, like="2020-H1") == ("2026-H2", "2027-H1")
    assert periods_between(first, last, like="2020-01") == (
        "2026-11",
        "2026-12",
        "2027-01",
        "2027-02",
    )


def test_the_leaf_of_a_lost_entry_is_the_lost_one_s() -> None:
    lost = entries.build(Lost, seq=3, day="2026-01-05", leaf="ab" * 32)
    assert leaf_of(lost.canonical()) == bytes.fromhex("ab" * 32)
    assert entries.parse_entry(lost.canonical()) == lost
    other = b'{"day":"2026-01-05","kind":"settle","reservation":"x","seq":3}'
    assert leaf_of(other) == merkle.leaf_hash(other)


def test_every_changed_byte_of_a_restored_ledger_s_export_is_found(tmp_path: Path) -> None:
    with Ledger(new_ledger(tmp_path / "ledger.db")) as ledger:
        shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
        for number in (1, 2):
            parts = {"unit": "reader", "period": "2026", "datasets": [identity(1)]}
            run = "sha256:" + f"{number:064x}"
            ledger.reserve(run=run, event=JOB, head=None, **parts)  # type: ignore[arg-type]
        head = ledger.checkpoint(SIGNER)
        leaves = [leaf_of(body) for body in ledger.bodies(1, ledger.book.size)]
    with Ledger(tmp_path / "copy.db") as copy:
        copy.restore("lifetime", like="2026", leaves=leaves, head=head)
        stream = io.BytesIO()
        export(copy, stream, signer=SIGNER, witnesses=[])
    whole = stream.getvalue()
    verify(io.BytesIO(whole), key=SIGNER.key)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(EvidenceError):
            verify(io.BytesIO(changed), key=SIGNER.key)


def test_hashes_that_do_not_lead_to_the_head_or_follow_a_move_are_refused(tmp_path: Path) -> None:
    path = new_ledger(tmp_path / "ledger.db")
    shutil.copy(path, tmp_path / "copy.db")
    with Ledger(path) as ledger:
        ledger.refuse(run=RUN, reason="declined")
        head = ledger.checkpoint(SIGNER)
        leaves = [leaf_of(body) for body in ledger.bodies(1, 2)]
    with Ledger(tmp_path / "copy.db") as copy:
        before = copy.book.size
        for wrong in ([], [bytes(32)], [*leaves, bytes(32)]):
            with pytest.raises(EvidenceError, match="do not lead to the head"):
                copy.restore("lifetime", like="2026", leaves=wrong, head=head)
        with pytest.raises(LedgerError, match="entries came after this copy"):
            copy.restore("moved", like="2026", leaves=leaves, head=head)
        assert copy.refresh().size == before


def test_a_head_that_is_kept_already_stays(tmp_path: Path) -> None:
    with Ledger(new_ledger(tmp_path / "ledger.db")) as ledger:
        head = ledger.checkpoint(SIGNER)
        for _ in range(2):
            ledger.restore("moved", like="2026", leaves=[], head=head)
        assert len(ledger.book.restored) == 2


@pytest.mark.parametrize("basis", ["period", "lifetime"])
@pytest.mark.parametrize("published", [True, False])
def test_a_copy_from_before_the_non_private_mark_never_claims_again(
    tmp_path: Path, basis: Any, published: bool
) -> None:
    path = new_ledger(tmp_path / "ledger.db")
    with Ledger(path) as ledger:
        ledger.change_policy(Caps(epsilon_max=8.0, period=PERIOD_CAP))
        here = ledger.book.size
    shutil.copy(path, tmp_path / "copy.db")
    with Ledger(path) as ledger:
        ledger.protect_nobody()
        head = ledger.checkpoint(SIGNER) if published else None
        leaves = [leaf_of(b) for b in ledger.bodies(here, here + 1)] if published else []
    with Ledger(tmp_path / "copy.db") as copy:
        copy.restore(basis, like="2026", leaves=leaves, head=head)
        assert (copy.book.claim, copy.book.no_claim) == (None, IN_DOUBT)
        assert (copy.book.non_private, copy.book.unclaimed) == (None, here)
        export(copy, stream := io.BytesIO(), signer=SIGNER, witnesses=[])
    stream.seek(0)
    found = recompute(stream)
    said = found.sentence
    assert recomputed_json(found)["non_private"] == here  # for machines it counts as one
    assert IN_DOUBT in said
    assert f"{len(leaves)} entries are lost" in said


def test_the_doubt_begins_with_the_first_lost_entry_and_outlives_runs_and_payments() -> None:
    book = opened(period_epsilon=PERIOD_CAP)
    book.apply(following(book, Lost, day=LATER, leaf="ab" * 32))
    assert (book.claim, book.in_doubt) == (None, 1)
    book.apply(_restored(book, lost=1))
    book.apply(reserve(book, 1, day=LATER, period="2026-04"))
    book.apply(following(book, Lost, day=LATER, leaf="cd" * 32))
    book.apply(_restored(book, lost=1, basis="lifetime", periods=()))
    assert (book.claim, book.in_doubt) == (None, 1)


def test_a_mark_that_is_known_is_named_and_a_run_that_is_known_forbids_one() -> None:
    book = _book()
    book.apply(_restored(book))
    assert (book.claim, book.no_claim) == (8.0, "")
    marked = opened()
    marked.apply(following(marked, Lost, leaf="ab" * 32))
    marked.apply(_restored(marked, day=DAY, lost=1, basis="lifetime", periods=()))
    marked.apply(following(marked, entries.NonPrivate))
    assert (marked.no_claim, marked.unclaimed) == (NO_CLAIM, 3)


def test_a_ledger_that_moved_before_its_first_run_claims_on() -> None:
    book = opened()
    book.apply(_restored(book, lost=0, basis="moved", periods=()))
    assert book.claim == 8.0


def test_a_data_set_that_is_new_here_pays_for_what_is_lost_as_well() -> None:
    new, later = identity(7), {"day": LATER, "period": "2026-04"}
    book = opened(period_epsilon=PERIOD_CAP, dataset_epsilon=PERIOD_CAP)
    book.apply(reserve(book, 1, period="2026-03", day=LATER))
    book.apply(following(book, Lost, day=LATER, leaf="ab" * 32))
    paid = _restored(book, lost=1, periods=("2026-03",))
    book.apply(paid)
    assert paid.charge > 0
    assert book.charged(dataset=new) == paid.charge
    run = reserve(book, 2, datasets=(new,), **later)
    book.apply(run)  # the run that is known was on another data set: there is room for one like it
    assert book.charged(dataset=new) == paid.charge + run.charge == book.room(PERIOD_CAP)
    with pytest.raises(BudgetError, match="data set") as refused:
        book.apply(reserve(book, 3, datasets=(new,), **later))
    assert refused.value.reason == "dataset"


def test_an_audit_says_that_the_claim_rests_on_a_lifetime_cap_that_was_not_raised() -> None:
    for basis, periods in (("period", ("2026-01", "2026-02", "2026-03")), ("lifetime", ())):
        entry = _restored(_book(), basis=basis, periods=periods)
        assert "the lifetime cap was not raised" in restored_sentence([entry])
