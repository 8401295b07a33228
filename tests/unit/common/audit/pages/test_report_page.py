"""`presspool audit report`: every number on the page is the ledgers', and no text is markup."""

from __future__ import annotations

import html.parser
import json
import re
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments import second_reading
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import ADAPTER, OUTLETS, Desk, kept, made_event, make_desk, signer_of
from tests.fakes.made_ledgers import WITNESSES

from presspool.common.accounting import events
from presspool.common.audit.evidence import governance, sources
from presspool.common.audit.pages import phrases, report_page
from presspool.common.audit.pages.report_json import document
from presspool.common.base.errors import BudgetError
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import parse_result, read_result
from presspool.common.wire.approval import Approval


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "audit")


# --- The document is the book --------------------------------------------------------------------


def nats(units: int) -> float:
    return units * events.UNIT


def all_entries(ledger: Ledger) -> list[entries.Entry]:
    return [entries.parse_entry(body) for body in ledger.bodies(0, ledger.book.size)]


@pytest.mark.parametrize("kind", ["exports", "ledgers"])
def test_every_number_in_the_document_is_the_ledgers(desk: Desk, kind: str) -> None:
    """Against the book and the entries themselves, never against the code that made it."""
    evidence = sources.read([*getattr(desk, kind), desk.run])
    said = document(evidence, governance.Fields())
    assert [outlet["name"] for outlet in said["outlets"]] == list(OUTLETS)
    for found, path in zip(said["outlets"], desk.ledgers, strict=True):
        with Ledger(path) as ledger:
            book, log = ledger.book, all_entries(ledger)
            room = book.room(book.caps.epsilon_max)
            open_charge = sum(held.charge for held in book.dangling.values())
            budget = found["filter"]
            assert budget["epsilon"] == book.caps.epsilon_max == 9.0
            assert budget["capacity_nats"] == nats(room)
            assert budget["used_nats"] == nats(book.spent)
            assert budget["share"] == book.spent / room == found["points"][-1]["share"]
            assert budget["reserved_nats"] == nats(open_charge)
            assert budget["reserved_share"] == open_charge / room
            assert budget["settled_nats"] == nats(book.spent - open_charge)
            assert budget["dangling_nats"] == nats(open_charge)  # a later run overtook it
            assert budget["free_nats"] == nats(room - book.spent)
            assert found["claim"] == {
                "epsilon": book.highest.epsilon_max,
                "delta": book.opened.delta,
                "entry": log[-1].seq,
            }
            assert (found["entries"], found["order"]) == (book.size, book.opened.order)
            for period in found["periods"]:
                charged = book.charged(period=period["name"])
                assert period["used_nats"] == nats(charged)
                assert period["lifetime_share"] == charged / room
                assert period["cap"]["share"] == charged / book.room(6.0)
            assert {p["name"] for p in found["periods"]} == {"2026-Q1", "2026-Q2"}
            assert found["head"]["root"] == ledger.head().root.hex()
        reserved = [e for e in log if isinstance(e, entries.Reserve)]
        assert [run["entry"] for run in found["runs"]] == [e.seq for e in reserved]
        for run, entry in zip(found["runs"], reserved, strict=True):
            back = [
                e
                for e in log
                if isinstance(e, entries.GiveBack) and e.reservation == entry.reservation
            ]
            charge = (back[-1] if back else entry).charge
            assert run["charged_nats"] == nats(charge)
            assert run["share"] == charge / room
            assert run["steps_charged"] == (back[-1].kept if back else entry.event.steps)
            assert [(r["entry"], r["round"], r["steps"], r["digest"]) for r in run["releases"]] == [
                (e.seq, e.round, e.steps, e.digest)
                for e in log
                if isinstance(e, entries.ReleaseIntent) and e.reservation == entry.reservation
            ]
            stated = entry.stated
            assert run["stated"] == (None if stated is None else stated.model_dump() | {})
            (phase,) = run["phases"]
            step: Any = entry.event
            assert phase["sampling_rate"] == step.event.rate
            assert phase["noise_multiplier"] == step.event.event.noise_multiplier
        refused = [e for e in log if isinstance(e, entries.Refusal)]
        assert [(r["entry"], r["run"], r["reason"]) for r in found["refusals"]] == [
            (e.seq, e.run, e.reason) for e in refused
        ]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a document by its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found: dict[str, Any] = {}
    for key, part in inner:
        here = f"{path}.{key}"
        found |= flat(part, here) if isinstance(part, dict | list) and part else {here: part}
    return found


def test_a_second_reading_of_the_raw_entries_finds_every_number_again(desk: Desk) -> None:
    """Each leaf of the document, against a reader that shares no code with it."""
    said = document(sources.read([*desk.exports, desk.run]), governance.Fields())
    for found, path in zip(said["outlets"], desk.exports, strict=True):
        truth = second_reading.outlet(path.read_bytes(), name=path.name)
        cosigned = found["head"].pop("cosigned")
        assert [key.split("+")[0] for key in cosigned] == truth["head"].pop("cosigners")
        assert set(cosigned.values()) == {truth["head"]["entries"]}
        sentence = found.pop("sentence")
        assert [r.pop("words") for r in found["refusals"]] == [
            phrases.reason(r["reason"]) for r in truth["refusals"]
        ]
        ours, theirs = flat(found), flat(truth)
        assert ours.keys() == theirs.keys()
        assert len(ours) > 80
        for key, value in theirs.items():
            assert ours[key] == (
                pytest.approx(value, rel=1e-11) if isinstance(value, float) else value
            ), key
        budget, claim, n = truth["filter"], truth["claim"], len(truth["runs"])
        more = budget["more_runs"]
        fits = "no" if not more else "one" if more == 1 else f"{more:,}"
        assert sentence == (
            f"{truth['origin']}: {n} runs use {100 * budget['share']:.1f}% of the lifetime budget; "
            f"everything that this outlet ever released is ({claim['epsilon']:g}, "
            f"1e-5)-DP at reader level; {fits} further run{'s' * (more > 1)} like "
            f"the last one fit{'s' * (more < 2)}."
        )


def test_what_a_refused_run_asked_for_and_what_was_free_are_its_entrys(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    with Ledger(desk.ledgers[0]) as ledger:
        with pytest.raises(BudgetError):
            ledger.reserve(
                run=desk.contract.digest,
                unit="reader",
                period="2026-Q3",
                head=None,
                datasets=[entries.new_id()],
                event=made_event(0.5, 0.8, 1000),
            )
        raw = json.loads(list(ledger.bodies(0, ledger.book.size))[-1])
    (found,) = document(sources.read([desk.ledgers[0]]), governance.Fields())["outlets"]
    said = found["refusals"][-1]
    assert (said["entry"], said["reason"]) == (raw["seq"], raw["reason"]) == (raw["seq"], "filter")
    assert (said["asked_nats"], said["free_nats"]) == (nats(raw["charge"]), nats(raw["free"]))
    assert said["asked_nats"] > said["free_nats"] > 0


def test_the_worst_case_is_the_sum_over_the_outlets_of_a_run(desk: Desk) -> None:
    result = read_result(desk.run)
    assert result.worst_case is not None
    whole = document(sources.read([*desk.exports, desk.run]), governance.Fields())
    case = next(w for w in whole["worst_cases"] if w["run"] == desk.contract.digest)
    assert (Decimal(case["epsilon"]), Decimal(case["delta"])) == result.worst_case
    assert [part["entry"] for part in case["parts"]] == [
        outlet["runs"][-1]["entry"] for outlet in whole["outlets"]
    ]
    assert Decimal(whole["lifetime_claims"]["epsilon"]) == 18
    # One ledger absent: its outlet is counted all the same, by the run's own result.
    partly = document(sources.read([desk.exports[0], desk.run]), governance.Fields())
    case = next(w for w in partly["worst_cases"] if w["run"] == desk.contract.digest)
    assert (Decimal(case["epsilon"]), case["complete"]) == (result.worst_case[0], True)
    assert [part["entry"] is None for part in case["parts"]] == [False, True]
    # No run folder: only what is at hand is added up, and that is said.
    alone = document(sources.read([desk.exports[0]]), governance.Fields())
    case = next(w for w in alone["worst_cases"] if w["run"] == desk.contract.digest)
    assert (case["complete"], len(case["parts"])) == (False, 1)
    assert "there may be more outlets" in report_page.render(alone)


def test_from_period_to_run_to_adapter(desk: Desk) -> None:
    said = document(sources.read([*desk.exports, desk.run]), governance.Fields())
    lines = [(line["period"], line["name"], line["adapter"]) for line in said["lineage"]]
    assert (
        lines
        == [
            ("2026-Q1", None, None),
            ("2026-Q2", "topics", f"sha256:{ADAPTER}"),
        ]
        * 2
    )


def test_a_lifetime_claim_never_sinks_with_a_lower_cap(tmp_path: Path) -> None:
    from presspool.common.accounting.filter import Caps

    desk = make_desk(tmp_path)
    with Ledger(desk.ledgers[0]) as ledger:
        ledger.change_policy(Caps(epsilon_max=7.0))
        highest = ledger.book.highest.epsilon_max
    (found,) = document(sources.read([desk.ledgers[0]]), governance.Fields())["outlets"]
    assert found["claim"]["epsilon"] == highest == 9.0
    assert found["filter"]["epsilon"] == 7.0


# --- The page is the document --------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """`data` elements, and the texts of cells that are outside of what may hold a digit."""

    FREE = ("data", "code", "time", "bdi", "title", "style", "h1", "h2", "h3", "a", "text")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: list[tuple[dict[str, str | None], str]] = []
        self.loose: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag in ("meta", "br", "path", "circle"):
            return
        found = dict(attributes)
        free = tag in self.FREE or (found.get("class") or "") in ("day", "version", "mono")
        self._open.append((tag, free))
        if tag == "data":
            self.numbers.append((found, ""))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "data":
            found, text = self.numbers[-1]
            self.numbers[-1] = (found, text + data)
        inside = {tag for tag, _ in self._open}
        if inside & {"td", "th", "dd"} and not any(free for _, free in self._open):
            self.loose.append(data)


def at(body: Any, path: str) -> Any:
    """What stands at a path of the document; `#` at its end is the length of a list."""
    for part in path.rstrip("#").split("."):
        if isinstance(body, dict) and part not in body:
            body = list(body.values())[int(part)]
        else:
            body = body[int(part) if isinstance(body, list) else part]
    return len(body) if path.endswith("#") else body


def shows(shown: str, value: Any) -> bool:
    """Whether a text shows this number: rounded to what is printed, a bound never downwards."""
    plain = shown.replace(",", "")
    if plain.endswith("%"):
        return abs(float(plain[:-1]) / 100 - float(value)) <= 0.00051
    number, exact = Decimal(plain), Decimal(str(value))
    return number == exact or (
        0 <= number - exact <= max(Decimal("0.01"), exact / 10)
        or abs(number - exact) <= Decimal("1e-6")
    )


def test_every_number_on_the_page_is_the_documents(desk: Desk) -> None:
    body = document(sources.read([*desk.exports, desk.run]), governance.read(desk.fields))
    found = Page(report_page.render(body))
    assert len(found.numbers) > 120
    for attributes, shown in found.numbers:
        path, value = attributes["data-of"], attributes["value"]
        assert path is not None
        truth = at(body, path)
        assert value == str(truth), path
        assert shows(shown, truth), (path, shown, truth)
        if "data-entry" in attributes and ".runs." in path and "releases" not in path:
            run = at(body, path[: path.index(".runs.") + 6] + path.split(".")[3])
            assert attributes["data-entry"] == str(run["entry"])
    loose = [text for text in found.loose if re.search(r"\d", text)]
    free = [row["text"] for table in body["fields"].values() for row in table]
    allowed = {row["what"] for table in body["fields"].values() for row in table} | set(free)
    assert [text for text in loose if text not in allowed] == []


def test_no_number_of_the_ledgers_is_left_off_the_page(desk: Desk) -> None:
    """What the document says of budgets and runs stands on the page, each under its own path."""
    body = document(sources.read([*desk.exports, desk.run]), governance.Fields())
    shown = {attributes["data-of"] for attributes, _ in Page(report_page.render(body)).numbers}
    for i, outlet in enumerate(body["outlets"]):
        for key in ("share", "settled_share", "reserved_share", "more_runs", "epsilon"):
            assert f"outlets.{i}.filter.{key}" in shown
        for j, _ in enumerate(outlet["periods"]):
            assert f"outlets.{i}.periods.{j}.cap.share" in shown
        for j, run in enumerate(outlet["runs"]):
            for key in ("entry", "share", "charged_nats", "steps_charged"):
                assert f"outlets.{i}.runs.{j}.{key}" in shown
            for k, _ in enumerate(run["releases"]):
                assert f"outlets.{i}.runs.{j}.releases.{k}.steps" in shown
        for j, _ in enumerate(outlet["refusals"]):
            assert f"outlets.{i}.refusals.{j}.entry" in shown
    assert {"worst_cases.0.epsilon", "lifetime_claims.epsilon"} <= shown


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ 7*7 }}"


def test_hostile_texts_are_shown_as_texts(desk: Desk, tmp_path: Path) -> None:
    hostile = governance.parse(
        {
            "article30": dict.fromkeys(governance.Article30.model_fields, HOSTILE),
            "dpia": dict.fromkeys(governance.Dpia.model_fields, HOSTILE),
        }
    )
    home = tmp_path / HOSTILE.replace("/", "")
    (home / "approvals").mkdir(parents=True)
    ledger = home / 'ledger "><b>.db'
    ledger.write_bytes(desk.ledgers[0].read_bytes())
    said = Approval(run=desk.contract.digest, by=HOSTILE, day="2026-01-05")
    name = f"{desk.contract.digest.removeprefix('sha256:')}.approved"
    (home / "approvals" / name).write_bytes(said.encode())
    text = report_page.render(document(sources.read([ledger, desk.run]), hostile))
    found = Page(text)
    assert {"script", "img", "b"} & set(found.tags) <= {"b"}
    assert found.tags.count("b") == report_page.render(
        document(sources.read([desk.ledgers[0], desk.run]), governance.Fields())
    ).count("<b>")
    assert text.count("&lt;script&gt;alert(1)") >= 17
    assert "{{ 7*7 }}" in text
    (approved,) = [
        r["approval"]
        for o in document(sources.read([ledger]), hostile)["outlets"]
        for r in o["runs"]
        if r["approval"]
    ]
    assert approved == {"by": HOSTILE, "day": "2026-01-05"}


def test_the_page_runs_nothing_and_fetches_nothing(desk: Desk) -> None:
    text = report_page.render(
        document(sources.read([*desk.exports, desk.run]), governance.Fields())
    )
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(found.tags)
    for tag, name, value in found.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action")
        assert name != "href" or (value or "").startswith("#")
    (policy,) = [
        v
        for t, n, v in found.attributes
        if (t, n) == ("meta", "content") and v and "default-src" in v
    ]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "url(" not in text
    assert "@import" not in text


def test_links_and_labels_point_at_something(desk: Desk) -> None:
    found = Page(report_page.render(document(sources.read([*desk.exports]), governance.Fields())))
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in found.attributes:
        if name == "aria-labelledby" or (name == "href" and value):
            assert (value or "").lstrip("#") in ids


def test_a_blank_field_is_shown_as_not_stated(desk: Desk) -> None:
    text = report_page.render(document(sources.read([desk.exports[0]]), governance.Fields()))
    tables = (governance.Article30, governance.Dpia)
    assert text.count(phrases.NOT_STATED) == sum(len(table.model_fields) for table in tables)
    fields = governance.read(desk.fields)
    filled = report_page.render(document(sources.read([desk.exports[0]]), fields))
    blank = [row for table in (fields.article30, fields.dpia) for row in table.rows() if not row[2]]
    assert 0 < len(blank) < text.count(phrases.NOT_STATED)
    assert filled.count(phrases.NOT_STATED) == len(blank)
    assert "North Post Ltd" in filled


def test_what_was_not_compared_is_said(desk: Desk) -> None:
    plain = report_page.render(document(sources.read([desk.exports[0]]), governance.Fields()))
    assert "key not compared" in plain
    assert "a whole rewritten or shortened ledger would look the same" in plain
    head = desk.folder / f"{OUTLETS[0]}.checkpoint"
    from presspool.common.audit.evidence import audit_console

    brought = sources.Brought(
        keys=(signer_of(OUTLETS[0]).key,), heads=(audit_console.kept_head(head),)
    )
    held = report_page.render(
        document(sources.read([desk.exports[0]], brought=brought), governance.Fields())
    )
    assert "not compared" not in held
    own = report_page.render(document(sources.read([desk.ledgers[0]]), governance.Fields()))
    assert "not a signed export" in own


def test_every_reason_has_words() -> None:
    assert all(phrases.reason(code) for code in entries.REASONS)


# --- As typed ------------------------------------------------------------------------------------


def test_a_report_as_html_and_as_json(audit: Command, desk: Desk, tmp_path: Path) -> None:
    made = tmp_path / "report.html"
    files = [*desk.exports, desk.run, "--fields", desk.fields]
    found = audit("report", *files, "--output", made)
    assert (found.code, found.out) == (0, "")
    body = json.loads(audit("report", *files, "--format", "json").out)
    assert made.read_text() == report_page.render(body)
    assert audit("report", *files).out == made.read_text()
    assert body["format"] == "presspool-report/1"


def test_the_commands_on_the_page_are_ones_that_hold(audit: Command, desk: Desk) -> None:
    text = audit("report", *desk.exports).out
    shown = [html.unescape(line) for line in re.findall(r"presspool audit [^<\n]*", text)]
    assert len(shown) == 2 * len(OUTLETS)
    kept_heads = {name: desk.folder / f"{name}.checkpoint" for name in OUTLETS}
    for line in shown:
        command = shlex.split(line)[2:]
        outlet = command[1].removesuffix(".export")
        command[1] = str(desk.folder / command[1])
        typed = [str(kept_heads[outlet]) if w == "KEPT.checkpoint" else w for w in command]
        assert audit(*typed).code == 0, line


def test_a_home_brings_who_approved(audit: Command, desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "approvals").mkdir(parents=True)
    (home / "ledger.db").write_bytes(desk.ledgers[0].read_bytes())
    (home / "outlet.toml").write_text('name = "north-post"\ndata = "none.parquet"\n')
    said = Approval(run=desk.contract.digest, by="A. Editor", day="2026-01-05")
    name = f"{desk.contract.digest.removeprefix('sha256:')}.approved"
    (home / "approvals" / name).write_bytes(said.encode())
    (home / "approvals" / f"{'b' * 64}.approved").write_bytes(b"")
    body = json.loads(audit("report", home, "--format", "json").out)
    approvals = {run["run"]: run["approval"] for run in body["outlets"][0]["runs"]}
    assert approvals[desk.contract.digest] == {"by": "A. Editor", "day": "2026-01-05"}
    assert approvals["sha256:" + "b" * 64] == {"by": "", "day": ""}
    assert "nobody named" in audit("report", home).out


def test_bad_input_is_the_users_mistake_and_writes_nothing(
    audit: Command, desk: Desk, tmp_path: Path
) -> None:
    there, odd = tmp_path / "there.html", tmp_path / "odd.toml"
    there.write_text("mine")
    odd.write_text("[article30]\ncontrolar = 'x'\n")
    broken = tmp_path / "broken.toml"
    broken.write_text("[article30\n")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[dpia]\nreference = 3\n")
    one, new = desk.exports[0], tmp_path / "new.html"
    with kept(tmp_path), kept(desk.folder):
        for arguments, said in (
            ([], "Missing argument"),
            ([tmp_path / "missing"], "No such file"),
            ([tmp_path], "neither a run folder nor an outlet's home"),
            ([one, one], "one ledger twice"),
            ([one, desk.ledgers[0]], "one ledger twice"),
            ([desk.run, desk.run], "one run twice"),
            ([one, "--output", there], "the file exists"),
            ([one, "--output", tmp_path / "no" / "file"], "cannot write"),
            ([one, "--format", "docx"], "Invalid value"),
            ([one, "--format", "pdf"], "a PDF needs a file"),
            ([one, "--fields", tmp_path / "none.toml"], "cannot read the fields"),
            ([one, "--fields", broken], "broken.toml, line 1, column 11: not readable as TOML"),
            ([one, "--fields", wrong], "reference"),
            ([one, "--fields", odd], "did you mean 'controller'?"),
            ([one, "--key", "nonsense"], "not a verifier key"),
            ([one, "--key", WITNESSES[0].key.text], "not a witness's"),
            ([one, "--key", signer_of("elsewhere").key.text], "of another ledger"),
            ([one, "--head", desk.folder / "south-echo.checkpoint"], "of another ledger"),
            ([desk.ledgers[0], "--key", signer_of(OUTLETS[0]).key.text], "an export to compare"),
            ([one, "--head", one], "not a checkpoint"),
        ):
            output = [] if "--output" in arguments or "pdf" in arguments else ["--output", new]
            found = audit("report", *arguments, *output)
            assert found.code == 2, arguments
            assert said in re.sub(r"\s+", " ", found.err), (arguments, found.err)
            assert found.out == ""


def test_evidence_that_does_not_hold_gives_no_report(
    audit: Command, desk: Desk, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.export"
    bad.write_bytes(desk.exports[0].read_bytes().replace(b'"count":60', b'"count":59', 1))
    found = audit("report", bad, "--output", tmp_path / "new.html")
    assert found.code == 1
    assert "leaf hash" in found.err
    assert "bad.export" in found.err  # of several, which one
    assert not (tmp_path / "new.html").exists()


def test_a_run_folder_of_two_runs_is_refused(audit: Command, tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    path = desk.run / "result.json"
    body = json.loads(path.read_text())
    body["contract_digest"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(body))
    parse_result(path.read_bytes())  # valid by itself
    found = audit("report", desk.run)
    assert (found.code, "two runs in one folder" in found.err) == (2, True)


def test_the_fields_file_has_every_key_and_is_read_back(audit: Command, tmp_path: Path) -> None:
    made = tmp_path / "fields.toml"
    assert audit("fields", "--output", made).code == 0
    assert governance.read(made) == governance.Fields()
    for table in (governance.Article30, governance.Dpia, governance.CardFields):
        for key in table.model_fields:
            assert f"\n{key} = " in made.read_text()
    assert audit("fields", "--output", made).code == 2


# --- PDF -----------------------------------------------------------------------------------------


def test_without_weasyprint_the_advice_names_the_extra(
    audit: Command, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)  # as Python says "not installed"
    new = tmp_path / "report.pdf"
    found = audit("report", desk.exports[0], "--format", "pdf", "--output", new)
    assert found.code == 2
    assert "pip install 'presspool[pdf]'" in found.err
    assert not new.exists()


def test_the_pdf_is_the_page(audit: Command, desk: Desk, tmp_path: Path) -> None:
    pytest.importorskip(
        "weasyprint",
        reason="no WeasyPrint, or no Pango: extra `pdf`",
        exc_type=(ImportError, OSError),  # type: ignore[arg-type]
    )
    new = tmp_path / "report.pdf"
    found = audit("report", *desk.exports, desk.run, "--format", "pdf", "--output", new)
    assert found.code == 0, found.err
    assert new.read_bytes().startswith(b"%PDF-")
    assert new.stat().st_size > 10_000


def test_each_number_of_the_page_is_printed_and_each_sheet_says_of_what_head(desk: Desk) -> None:
    weasyprint = pytest.importorskip(
        "weasyprint",
        reason="no WeasyPrint, or no Pango: extra `pdf`",
        exc_type=(ImportError, OSError),  # type: ignore[arg-type]
    )
    body = document(sources.read([*desk.exports, desk.run]), governance.Fields())
    text = report_page.render(body)
    sheets = [
        [box.text for box in sheet._page_box.descendants() if hasattr(box, "text")]
        for sheet in weasyprint.HTML(string=text).render().pages
    ]
    printed = " ".join(part for sheet in sheets for part in sheet)
    for _, shown in Page(text).numbers:
        assert shown in printed, shown
    for number, sheet in enumerate(sheets, 1):
        assert f"Page {number} of {len(sheets)}" in sheet
    for outlet in body["outlets"]:
        head = outlet["head"]
        foot = f"head of {head['entries']} entries, root {head['root'][:12]}…"
        own = [sheet for sheet in sheets if f"{outlet['origin']} · {foot}" in " ".join(sheet)]
        assert own
        assert any(outlet["sentence"].split()[0] in sheet for sheet in map(" ".join, own))
