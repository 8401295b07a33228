"""Every number on a page is the ledgers' or the runs'; what is not there is said."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_dashboard import At, get, read_page, serving
from tests.fakes.made_evidence import (
    ADAPTER,
    FIELDS,
    OTHER_RUN,
    OUTLETS,
    Desk,
    change_result,
    make_desk,
    signer_of,
)
from tests.fakes.made_ledgers import JOB
from tests.fakes.made_results import measured

from presspool.common.accounting.filter import Caps
from presspool.common.audit.cards import card_making, model_card
from presspool.common.audit.evidence import governance, sources
from presspool.common.audit.evidence.evidence import Evidence
from presspool.common.audit.pages import report_page
from presspool.common.audit.pages.report_json import document
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result
from presspool.common.runs.results import RoundResult, WholeFile
from presspool.common.tasks.metric import Metric
from presspool.common.transparency import checkpoints, merkle, notes

ORIGINS = [f"presspool/{name}" for name in OUTLETS]
PARTS = [f"presspool~{name}" for name in OUTLETS]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("desk"))
    rounds = [
        dataclasses.replace(
            entry,
            metrics=measured(
                accuracy=0.25 + 0.125 * entry.round,
                macro_f1=0.2 + 0.1 * entry.round,
                loss=1.0,
            ),
            bytes_up=1234 * entry.round,
            bytes_down=4321 * entry.round,
            seconds=1.5 + entry.round,
        )
        for entry in read_result(made.run).rounds
    ]
    rounds[2] = dataclasses.replace(
        rounds[2],
        outlets=("north-post",),
        refused={"south-echo": "norm-cap"},
        whole=WholeFile(records=7600, sample=1000, metrics=measured(accuracy=0.4375)),
    )
    change_result(made, rounds=tuple(rounds))
    run = sources.read_run(made.run)
    ledgers = [sources.read_outlet(path) for path in made.exports]
    card = card_making.make(run, ledgers, governance.parse(FIELDS), covers=())
    (made.adapter / model_card.CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def at(desk: Desk) -> Iterator[At]:
    with serving([*desk.exports, desk.run]) as found:
        yield found


def pages(desk: Desk) -> list[str]:
    return [
        "/",
        "/runs",
        "/alerts",
        f"/runs/{desk.contract.digest[7:]}",
        f"/runs/{OTHER_RUN[7:]}",
        f"/adapters/{ADAPTER}",
        *(f"/outlets/{part}" for part in PARTS),
        *(f"/ledgers/{part}" for part in PARTS),
        *(f"/ledgers/{part}/{index}" for part in PARTS for index in (0, 1, 5)),
    ]


class Truth:
    """Looks a number's path up in the files, without the dashboard."""

    def __init__(self, desk: Desk) -> None:
        self._evidence: Evidence = sources.read([*desk.exports, desk.run])
        self._document = document(self._evidence, governance.Fields())
        self._card = json.loads((desk.adapter / model_card.CARD_FILE).read_text())
        self._logs = {}
        for origin, path in zip(ORIGINS, desk.ledgers, strict=True):
            with Ledger(path) as ledger:
                self._logs[origin] = [json.loads(b) for b in ledger.bodies(0, ledger.book.size)]

    def value(self, path: str) -> Any:
        root, _, rest = path.partition(".")
        match root:
            case "results":
                digest, _, rest = rest.partition(".")
                return self._result(digest, rest)
            case "worst_case":
                digest, _, rest = rest.partition(".")
                (case,) = [c for c in self._document["worst_cases"] if c["run"] == digest]
                return walk(case, rest)
            case "entries":
                origin, index, name = rest.rsplit(".", 2)
                return self._logs[origin][int(index)][name]
            case "proof":
                origin, index, name = rest.rsplit(".", 2)
                size = len(self._logs[origin])
                return size if name == "size" else None
            case "cards":
                return walk(self._card, rest.partition(".")[2])
            case "lineage":
                origin, _, run = rest.rpartition(".")
                (line,) = [
                    x for x in self._document["lineage"] if (x["outlet"], x["run"]) == (origin, run)
                ]
                return line["entry"]
        if path.startswith("entries#"):
            return len(self._logs[path.removeprefix("entries#")])
        return walk(self._document, path)

    def _result(self, digest: str, path: str) -> Any:
        found = self._evidence.run(digest)
        assert found is not None
        result = found.result
        known = {
            "epsilon": result.epsilon,
            "delta": result.delta,
            "rounds#": len(result.rounds) - 1,
            "bytes": result.bytes_up + result.bytes_down,
        }
        if path in known:
            return known[path]
        return walk(dataclasses.asdict(result), path)


def walk(value: Any, path: str) -> Any:
    """The value at a dotted path; keys may hold dots themselves."""
    if path.endswith("#"):
        return len(walk(value, path.removesuffix("#")))
    if isinstance(value, dict) and path in value:
        return value[path]
    part, dot, rest = path.partition(".")
    while isinstance(value, dict) and part not in value:
        more, dot, rest = rest.partition(".")
        part = f"{part}.{more}"
    inner = value[part] if isinstance(value, dict) else value[int(part)]
    return walk(inner, rest) if dot else inner


def same(said: str, right: Any) -> bool:
    if isinstance(right, str):
        return said == right
    if isinstance(right, int | float) and not isinstance(right, bool):
        return Decimal(said) == Decimal(repr(right))
    return said == json.dumps(right, ensure_ascii=False)


def test_every_number_on_every_page_is_the_files_own(at: At, desk: Desk) -> None:
    truth, seen = Truth(desk), 0
    for path in pages(desk):
        page = read_page(get(at, path).body)
        assert page.bare == [], path
        for of, value, _ in page.numbers:
            if of.endswith(".hashes#"):
                continue  # the proof's own length: its test verifies the proof
            assert same(value, truth.value(of)), (path, of, value)
            seen += 1
    assert seen > 250


def test_a_number_is_shown_as_what_it_is(at: At, desk: Desk) -> None:
    with Ledger(desk.ledgers[0]) as ledger:
        share = ledger.book.spent / ledger.book.room(9.0)
    page = read_page(get(at, f"/outlets/{PARTS[0]}").body)
    shown = {of: text for of, _, text in page.numbers}
    assert shown["outlets.0.filter.share"] == f"{100 * share:.1f}%"
    assert shown["outlets.0.filter.epsilon"] == "9"
    run = read_page(get(at, f"/runs/{desk.contract.digest[7:]}").body)
    shown = {of: text for of, _, text in run.numbers}
    assert shown[f"results.{desk.contract.digest}.rounds.2.metrics.accuracy"] == "50.0%"
    of_all = f"results.{desk.contract.digest}.rounds.-1.whole.metrics.accuracy"
    assert shown[of_all] == "43.8%"
    assert shown[f"results.{desk.contract.digest}.rounds.2.seconds"] == "3.5 s"


def test_a_run_of_another_task_is_shown_by_its_own_metrics(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    perplexity = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)
    rounds = read_result(desk.run).rounds
    words = tuple(
        dataclasses.replace(entry, metrics={"perplexity": 54.5 - entry.round}) for entry in rounds
    )
    change_result(desk, measures=(perplexity,), rounds=words)
    with serving([*desk.exports, desk.run]) as found:
        for path in ("/", "/runs", f"/runs/{desk.contract.digest[7:]}"):
            page = get(found, path).body
            shown = {of: text for of, _, text in read_page(page).numbers}
            assert shown[f"results.{desk.contract.digest}.rounds.-1.metrics.perplexity"] == "52.500"
            assert "Perplexity" in page
            assert "Accuracy" not in page
        assert "Perplexity fell from 54.500 before training to 52.500 on" in page


def test_links_lead_somewhere(at: At, desk: Desk) -> None:
    seen = set()
    for path in pages(desk):
        for link in read_page(get(at, path).body).links:
            where = link.partition("#")[0] or path
            if where.startswith("?"):
                where = path + where
            if where not in seen:
                seen.add(where)
                assert get(at, where).status == 200, (path, link)
    assert len(seen) > 30


def test_each_entry_has_a_proof_that_verifies_offline(at: At, desk: Desk) -> None:
    with Ledger(desk.ledgers[0]) as ledger:
        bodies = list(ledger.bodies(0, ledger.book.size))
        key = notes.parse_key(ledger.book.key)
    for index, body in enumerate(bodies):
        answer = get(at, f"/ledgers/{PARTS[0]}/{index}/proof")
        proof = checkpoints.parse_proof(answer.body.encode())
        assert proof.index == index
        proof.verify(merkle.leaf_hash(body), log=key)
        shown = get(at, f"/ledgers/{PARTS[0]}/{index}").body
        assert merkle.leaf_hash(body).hex() in shown
        assert all(value.hex() in shown for value in proof.hashes)


def test_the_way_from_leaf_to_root_ends_at_the_root(at: At, desk: Desk) -> None:
    with Ledger(desk.ledgers[0]) as ledger:
        root = ledger.head().root.hex()
        size = ledger.book.size
    for index in range(size):
        makes = re.findall(
            r"makes <code>([0-9a-f]{64})", get(at, f"/ledgers/{PARTS[0]}/{index}").body
        )
        assert makes[-1] == root


def test_who_took_part_and_who_was_refused(at: At, desk: Desk) -> None:
    body = get(at, f"/runs/{desk.contract.digest[7:]}").body
    table = body[body.index('id="part"') :]
    rows = re.findall(r"<tr><th scope=\"row\"><bdi>([a-z-]+)</bdi></th>(.*?)</tr>", table)
    cells = {name: re.sub("<[^>]+>", " ", row).split() for name, row in rows[:2]}
    assert cells == {"north-post": ["in", "in"], "south-echo": ["in", "norm-cap"]}


def test_a_card_of_another_adapter_is_refused(desk: Desk) -> None:
    card = desk.adapter / model_card.CARD_FILE
    before = card.read_bytes()
    try:
        card.write_bytes(before.replace(ADAPTER.encode(), b"0" * 64))
        with serving([*desk.exports, desk.run]) as at:
            page = get(at, f"/adapters/{ADAPTER}").body
    finally:
        card.write_bytes(before)
    assert "another adapter’s" in page
    assert "no blank field" not in page


def test_a_card_with_a_blank_is_refused_by_name(desk: Desk) -> None:
    card = desk.adapter / model_card.CARD_FILE
    before = card.read_bytes()
    body = json.loads(before)
    body["governance"]["approver"] = ""
    try:
        card.write_text(json.dumps(body), encoding="utf-8")
        with serving([*desk.exports, desk.run]) as at:
            page = get(at, f"/adapters/{ADAPTER}").body
    finally:
        card.write_bytes(before)
    assert "governance.approver: blank" in page


def test_a_card_is_shown_whole_and_in_words(at: At) -> None:
    page = get(at, f"/adapters/{ADAPTER}").body
    assert "North Post Ltd, Industry; South Echo Ltd, Nonprofit" in page
    for said in ("Consent, Article 6(1)(a)", "DPIA 2026-04", "Accounts are for adults."):
        assert said in page  # of the part for data-protection officers
    assert "{" not in page[page.index('id="card"') :]


def test_nothing_given_is_said_and_not_an_error() -> None:
    with serving([]) as at:
        page = get(at, "/")
        assert page.status == 200
        assert "No ledger was given" in page.body
        assert "Nothing to look at" in get(at, "/alerts").body
        assert "No run is here yet" in get(at, "/runs").body


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/outlets/presspool~nobody",
        "/ledgers/presspool~nobody",
        "/runs/" + "0" * 64,
        "/adapters/" + "0" * 64,
        "/runs/short",
        f"/ledgers/{PARTS[0]}?page=99",
        f"/ledgers/{PARTS[0]}?page=0",
        f"/ledgers/{PARTS[0]}?page=x",
        f"/ledgers/{PARTS[0]}/99",
        f"/ledgers/{PARTS[0]}/-1",
        f"/ledgers/{PARTS[0]}/99/proof",
        "/assets/../style.css",
        "/assets/report.html",
        "/outlets/UPPER",
        "/docs",
        "/openapi.json",
    ],
)
def test_what_is_not_there_is_not_found(at: At, path: str) -> None:
    answer = get(at, path)
    assert answer.status == 404
    assert "Not found" in answer.body
    assert "Traceback" not in answer.body


def test_names_are_never_markup(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    evil = '"><script>alert(1)</script>'
    rounds = read_result(desk.run).rounds
    change_result(
        desk,
        rounds=(*rounds[:2], dataclasses.replace(rounds[2], refused={"south-echo": evil})),
        statement=evil,
    )
    with serving([*desk.exports, desk.run]) as at:
        for path in ("/", "/alerts", f"/runs/{desk.contract.digest[7:]}", f"/adapters/{ADAPTER}"):
            assert "<script>alert" not in get(at, path).body


def test_new_entries_and_rounds_appear_by_themselves(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    change_result(desk, status="running", rounds=read_result(desk.run).rounds[:2])
    with serving([*desk.ledgers, desk.run]) as at:
        page = f"/runs/{desk.contract.digest[7:]}"
        before = numbers(at, "/")
        assert 'data-live="5"' in get(at, page).body
        with Ledger(desk.ledgers[0]) as ledger:
            ledger.refuse(run=OTHER_RUN, reason="policy-noise")
            size = ledger.book.size
        fresh = RoundResult(
            round=2,
            metrics=measured(),
            bytes_up=5,
            bytes_down=5,
            seconds=1.0,
            epsilon=desk.contract.plan.epsilon(),
            outlets=("north-post",),
            refused={},
        )
        change_result(desk, rounds=(*read_result(desk.run).rounds, fresh))
        wait_for_look()
        after = numbers(at, "/")
        assert after["outlets.0.entries"] == str(size) == str(int(before["outlets.0.entries"]) + 1)
        assert numbers(at, page)[f"results.{desk.contract.digest}.rounds#"] == "2"
        change_result(desk, status="complete")
        wait_for_look()
        assert "data-live" not in get(at, page).body


def wait_for_look() -> None:
    """A look is shared by requests within a second."""
    import time

    from presspool.common.audit.dashboard.asgi_app import FRESH_SECONDS

    time.sleep(FRESH_SECONDS)


def numbers(at: At, path: str) -> dict[str, str]:
    return {of: value for of, value, _ in read_page(get(at, path).body).numbers}


def test_entries_of_every_kind_are_said_in_words() -> None:
    from presspool.common.audit.dashboard.ledger_views import _words
    from presspool.common.ledger.entry_base import LedgerEntry

    kinds = {
        kind.model_fields["kind"].default
        for kind in LedgerEntry.__subclasses__() + entries._Capped.__subclasses__()
        if "kind" in kind.model_fields
    }
    silent = {"key-rotated"}
    said = {
        "charge": 1,
        "round": 1,
        "steps": 2,
        "period": "2026",
        "kept": 3,
        "reason": "filter",
        "unit": "reader",
        "order": 4,
        "epsilon_max": 8.0,
        "delta": 1e-5,
        "lost": 4,
        "basis": "period",
        "source": "duckdb",
        "window": ["2026-01-01", "2026-07-01"],
        "consent": None,
        "most_records": 3,
    }
    assert {kind for kind in kinds if not _words({**said, "kind": kind})} == silent


def test_a_run_says_where_its_statement_is_not_true(desk: Desk, tmp_path: Path) -> None:
    trial, file = tmp_path / "ledger.db", tmp_path / "trial.export"
    signer = signer_of("trial-post")
    with Ledger.create(
        trial, signer=signer, unit="reader", order=6, delta=1e-5, caps=Caps(epsilon_max=8.0)
    ) as ledger:
        ledger.protect_nobody()
        ledger.reserve(
            run=desk.contract.digest,
            unit="reader",
            period="2026",
            datasets=[entries.new_id()],
            event=JOB,
            head=None,
        )
        with file.open("wb") as stream:
            export(ledger, stream, signer=signer, witnesses=[])
    says, run = "This does not hold at", f"/runs/{desk.contract.digest[7:]}"
    with serving([*desk.exports, file, desk.run]) as found:
        for page in (run, f"/adapters/{ADAPTER}"):
            assert says in get(found, page).body
            assert "nothing claimed at" in get(found, page).body
        assert "private at reader level" not in get(found, run).body
    with serving([*desk.exports, desk.run]) as found:
        assert says not in get(found, run).body
    evidence = sources.read([*desk.exports, file, desk.run])
    body = document(evidence, governance.Fields())
    assert body["runs"][0]["unclaimed"] == [signer.key.name]
    assert says in report_page.render(body)
