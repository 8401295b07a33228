"""A long ledger: pages are cut and paged, proofs hold at both ends, and nothing is read twice."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.fakes.made_dashboard import get, read_page, serving
from tests.fakes.made_ledgers import ORIGIN, RUN, SIGNER
from tests.fakes.made_long_ledgers import make_long

from presspool.common.audit.dashboard.asgi_app import FRESH_SECONDS
from presspool.common.audit.dashboard.ledger_views import ENTRIES
from presspool.common.audit.dashboard.views import NEWEST, key
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import checkpoints, merkle

PART = key(ORIGIN)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "ledger.db"
    make_long(path, 2_000)
    return path


def test_the_made_ledger_is_a_ledger(ledger: Path) -> None:
    with Ledger(ledger) as found:
        assert found.book.size == 2_000


def test_all_pages_together_are_the_whole_ledger(ledger: Path) -> None:
    seen: list[int] = []
    with serving([ledger]) as at:
        page: int | None = 1
        while page is not None:
            body = get(at, f"/ledgers/{PART}?page={page}").body
            rows = [int(v) for of, v, _ in read_page(body).numbers if of.endswith(".seq")]
            assert len(rows) <= ENTRIES
            seen += rows
            older = re.search(r'href="\?page=([0-9]+)" rel="next"', body)
            page = int(older[1]) if older else None
    assert seen == list(range(1_999, -1, -1))


def test_proofs_hold_at_both_ends_and_say_where_nothing_is_signed(ledger: Path) -> None:
    with serving([ledger]) as at, Ledger(ledger) as found:
        for index in (0, 1, 1_024, 1_990):
            proof = checkpoints.parse_proof(get(at, f"/ledgers/{PART}/{index}/proof").body.encode())
            (body,) = found.bodies(index, index + 1)
            proof.verify(merkle.leaf_hash(body), log=SIGNER.key)
        for index in (1_991, 1_999):  # after the newest signed head, of 1,991 entries
            assert (
                "no head that covers it is signed yet" in get(at, f"/ledgers/{PART}/{index}").body
            )
            assert get(at, f"/ledgers/{PART}/{index}/proof").status == 404


def test_an_outlets_page_shows_the_newest_and_counts_all(ledger: Path) -> None:
    with serving([ledger]) as at:
        page = read_page(get(at, f"/outlets/{PART}").body)
    rows = [of for of, _, _ in page.numbers if re.fullmatch(r"outlets\.0\.runs\.\d+\.entry", of)]
    assert len(rows) == NEWEST
    runs = {of: value for of, value, _ in page.numbers}["outlets.0.runs#"]
    assert int(runs) == 112


def test_an_entry_is_parsed_once(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following costs what is new: no look after the first touches what it has seen."""
    from presspool.common.audit.dashboard import followed_ledgers

    parsed: list[int] = []

    class Counted:
        @staticmethod
        def parse_entry(body: bytes) -> entries.Entry:
            found = entries.parse_entry(body)
            parsed.append(found.seq)
            return found

    monkeypatch.setattr(followed_ledgers, "entries", Counted)
    with serving([ledger]) as at:
        assert get(at, "/").status == 200
        first = len(parsed)
        with Ledger(ledger) as found:
            for _ in range(3):
                found.refuse(run=RUN, reason="policy-noise")
                time.sleep(FRESH_SECONDS)
                assert get(at, f"/outlets/{PART}").status == 200
            size = found.book.size
    assert first == size - 3
    assert parsed == list(range(size))


@pytest.mark.soak
def test_a_page_takes_at_most_a_second_at_a_hundred_thousand_entries(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    make_long(path, 100_000)
    run = f"{2_000:064x}"
    pages = [
        "/",
        "/alerts",
        "/metrics",
        f"/outlets/{PART}",
        f"/ledgers/{PART}",
        f"/ledgers/{PART}?page=2000",
        f"/ledgers/{PART}/50000",
        f"/runs/{run}",
    ]
    took: dict[str, float] = {}
    with serving([path]) as at, Ledger(path) as ledger:
        get(at, "/")
        for page in pages:
            ledger.refuse(run=RUN, reason="policy-noise")  # so that each page has news to read
            time.sleep(FRESH_SECONDS)
            began = time.perf_counter()
            assert get(at, page).status == 200
            took[page] = time.perf_counter() - began
    print("\n".join(f"{seconds:.2f} s  {page}" for page, seconds in took.items()))
    assert max(took.values()) <= 1.0
