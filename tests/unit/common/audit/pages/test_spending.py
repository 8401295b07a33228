"""What a data-protection officer reads first: what was spent, and why it is a share."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import pytest
from tests.fakes.made_evidence import Desk, make_desk, signer_of

from presspool.common.accounting.filter import Caps
from presspool.common.audit.evidence import governance, sources
from presspool.common.audit.pages import report_page, spending
from presspool.common.audit.pages.report_json import Document, document
from presspool.common.audit.pages.spending import room_of
from presspool.common.ledger.store import Ledger


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


def report(*paths: Path) -> Document:
    return document(sources.read(paths), governance.Fields())


def words(page: str) -> str:
    """A page's text without its style and markup."""
    body = re.sub(r"(?s)<(style|svg).*?</\1>", "", page)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", body)))


def test_a_report_s_first_sentence_says_what_was_spent(desk: Desk) -> None:
    said = report(*desk.exports, desk.run)
    page = words(report_page.render(said))
    first = page.partition("What was spent of the readers’ privacy ")[2]
    assert first.startswith(said["sentence"])
    assert said["sentence"] == (
        "So far presspool/north-post has spent 36.1%, and presspool/south-echo 19.8%, of what each "
        "may ever spend of a reader’s privacy."
    )


def test_sums_over_outlets_stand_apart_under_their_own_heading(desk: Desk) -> None:
    page = words(report_page.render(report(*desk.exports, desk.run)))
    before, _, after = page.partition("Over the lifetimes of the 2 ledgers here, ")
    assert after.startswith("a reader of all of them is covered by at most ε = 18.00")
    assert "18.00" not in before
    assert before.rindex("A reader of several outlets") > before.index("presspool/south-echo")


def test_one_outlet_s_share_stands_beside_its_limit(desk: Desk) -> None:
    assert report(desk.exports[0])["sentence"].replace("\N{NO-BREAK SPACE}", " ") == (
        "So far presspool/north-post has spent 36.1% of what it may ever spend of a reader’s "
        "privacy (ε = 9, δ = 1e-5), by 2 runs."
    )


def test_of_many_outlets_the_least_and_the_most_are_said(desk: Desk) -> None:
    outlets = report(*desk.exports)["outlets"] * 2
    assert "between 19.8% and 36.1% is spent of what each of 4" in spending.spent_sentence(outlets)


def test_a_ledger_that_protects_nobody_is_never_a_share(desk: Desk, tmp_path: Path) -> None:
    made = Ledger.create(
        tmp_path / "ledger.db",
        signer=signer_of("north-post"),
        unit="reader",
        order=6,
        delta=1e-5,
        caps=Caps(epsilon_max=8.0),
    )
    with made as ledger:
        ledger.protect_nobody()
    said = report(tmp_path / "ledger.db", desk.exports[1])
    assert said["sentence"].endswith("Nothing bounds what presspool/north-post spent: non-private.")
    assert "north-post has spent" not in said["sentence"]
    assert room_of(said["outlets"][0]) is None
    assert "Nothing bounds what a reader of all these outlets pays" in words(
        report_page.render(said)
    )


def test_the_bar_divides_the_limit_as_the_filter_does(desk: Desk) -> None:
    """Against the formula of Canonne, Kamath & Steinke 2020, proposition 12, written out."""
    (outlet,) = report(desk.exports[0])["outlets"]
    found = room_of(outlet)
    assert found is not None
    fixed, used, free = (share for _, _, share in found.parts)
    assert fixed + used + free == pytest.approx(1, abs=1e-9)
    cost_of_delta = math.log(5 / 6) - (math.log(1e-5) + math.log(6)) / 5
    assert 9 * fixed == pytest.approx(cost_of_delta, abs=1e-6)
    assert used / (used + free) == pytest.approx(outlet["filter"]["share"], abs=1e-9)
    for figure in ("ε = 9, 1.76 is what δ costs", "7.24 nats", "a run of ε = 1.52 takes 0.25 nats"):
        assert figure in found.sentence
    assert "never the ε of runs" in found.sentence


def test_a_report_says_what_a_missing_cosignature_means(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    from presspool.common.audit.evidence import audit_console
    from presspool.common.ledger.export import export

    with Ledger(desk.ledgers[0]) as ledger, (tmp_path / "bare.export").open("wb") as stream:
        export(ledger, stream, signer=None, witnesses=[])
    bare = tmp_path / "bare.export"
    page = words(report_page.render(report(bare)))
    assert "That alone is no sign of a fault" in page
    assert "ask a peer for the head that it kept" in page
    head = audit_console.kept_head(desk.folder / "north-post.checkpoint")
    brought = sources.Brought(heads=(head,))
    read = document(sources.read([bare], brought=brought), governance.Fields())
    compared = words(report_page.render(read))
    assert "A head that somebody else kept agrees with it, which tells as much." in compared
    assert "ask a peer" not in compared
