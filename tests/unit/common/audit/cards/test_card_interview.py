"""`audit card --interview`: a card's blank fields, asked for one by one as an officer answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Answer, typed
from tests.fakes.made_evidence import FIELDS, Desk, make_desk

from presspool.common.audit.evidence import governance

Interviewed = Callable[..., Answer]
CARD = FIELDS["card"]
ASKED = [
    (table, key)
    for table in ("card", "data_protection", "dpia", "article30")
    for key in FIELDS[table]
    if (table, key) != ("article30", "purposes")  # of the record of processing alone
]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


@pytest.fixture
def answering(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Interviewed:
    """Types the command, and then these lines."""
    run = typed(monkeypatch, capsys, "audit", width=200)

    def interviewed(*answers: str, fields: Path) -> Answer:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in answers)))
        exports = [word for path in desk.exports for word in ("--ledger", path)]
        return run("card", desk.run, *exports, "--fields", fields, "--interview")

    return interviewed


def lines(name: str, table: Mapping[str, object]) -> str:
    """A table of a TOML file as people write it."""
    rows = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items()]
    return f"[{name}]\n{''.join(rows)}"


def said(table: str, key: str) -> str:
    value = FIELDS[table][key]
    return value if isinstance(value, str) else "; ".join(value)


def test_every_blank_field_is_asked_for_and_the_card_is_made(
    answering: Interviewed, desk: Desk
) -> None:
    path = desk.folder / "new.toml"
    found = answering(*(said(*one) for one in ASKED), fields=path)
    assert found.code == 0, found.err
    wanted = governance.parse(FIELDS).model_dump()
    wanted["article30"]["purposes"] = ""
    assert governance.read(path).model_dump() == wanted
    assert "1 of 51: Name of the released model" in found.err
    card = json.loads((desk.adapter / "privacy_card.json").read_text())
    assert card["registry"]["basic"]["data_curators"] == [
        {"data_curator_name": "North Post Ltd", "data_curator_type": "Industry"},
        {"data_curator_name": "South Echo Ltd", "data_curator_type": "Nonprofit"},
    ]
    lawfulness = card["data_protection"]["lawfulness"]
    assert lawfulness["tcf_purposes"] == [
        "1 Store and/or access information on a device",
        "10 Develop and improve services",
    ]


def test_the_record_of_processing_is_asked_for_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "fields.toml"
    path.write_text(governance.template())
    asked = {key for table, key, _ in governance.needed(governance.read(path), record=True)}
    assert asked >= set(governance.Article30.model_fields)


def test_what_a_card_would_refuse_is_refused_as_it_is_typed(
    answering: Interviewed, desk: Desk
) -> None:
    """Each wrong answer is told, and the same question comes again."""
    wrong = {
        "name": "",
        "publication_date": "next week",
        "records_since": "2026-02-30",
        "records_until": "2025-12-31",
        "data_source": "static",
        "license": "the usual one",
        "language": "English",
        "data_curators": "North Post Ltd",
        "tcf_purposes": "1; 12",
        "dpo_advice_date": "in spring",
        "regurgitation": "Not applicable.",
        "base_model_flop": "many",
    }
    answers = [
        line
        for table, key in ASKED
        for line in ([wrong[key]] if key in wrong else []) + [said(table, key)]
    ]
    path = desk.folder / "new.toml"
    found = answering(*answers, fields=path)
    assert found.code == 0, found.err
    assert governance.read(path).card == governance.parse({"card": CARD}).card
    for expected in (
        "something in every field",
        "a day, as 2026-06-30",
        "2026-01-01 or later",
        "Static or Dynamic",
        "an SPDX identifier",
        "an ISO 639 code",
        "Daily Bugle (Industry)",
        "numbers 1 to 11",
        'a day, as 2026-06-30, or "not applicable, because …"',
        'an answer, or "not applicable, because …"',
        'a number, or "not applicable, because …"',
    ):
        assert expected in found.err


def test_who_stops_keeps_the_answers_and_goes_on_there(answering: Interviewed, desk: Desk) -> None:
    path = desk.folder / "new.toml"
    answers = [said(*one) for one in ASKED]
    stopped = answering(*answers[:3], fields=path)
    assert stopped.code == 2
    assert f"stopped; what you answered is in {path}" in stopped.err
    assert not (desk.adapter / "privacy_card.json").exists()
    kept = governance.read(path).card
    assert [getattr(kept, key) for key in list(CARD)[:4]] == [
        "Topics",
        ("North Post Ltd (Industry)", "South Echo Ltd (Nonprofit)"),
        "Sorts titles.",
        "",
    ]
    rest = answering(*answers[3:], fields=path)
    assert rest.code == 0, rest.err
    assert re.search(r"\b1 of 48: What it is meant for", rest.err)


def test_comments_and_other_fields_of_the_file_stay(answering: Interviewed, desk: Desk) -> None:
    path = desk.folder / "new.toml"
    own = {key: value for key, value in CARD.items() if key != "notes"}
    path.write_text(
        f"# ours\n{lines('article30', FIELDS['article30'])}"
        f'{lines("card", own)}notes = ""  # ask legal\n'
        f"{lines('data_protection', FIELDS['data_protection'])}"
        f"{lines('dpia', FIELDS['dpia'])}# filed\n"
    )
    before = path.read_text()
    found = answering('say "none"', fields=path)
    assert found.code == 0, found.err
    assert path.read_text() == before.replace('notes = ""', r'notes = "say \"none\""')


def test_a_field_that_cannot_be_filled_in_is_left_to_its_owner(
    answering: Interviewed, desk: Desk
) -> None:
    path = desk.folder / "new.toml"
    own = {key: value for key, value in CARD.items() if key != "notes"}
    path.write_text(f'{lines("card", own)}notes = """\n"""\n')
    before = path.read_bytes()
    found = answering("none", fields=path)
    assert (found.code, path.read_bytes()) == (2, before)
    assert 'a line notes = ""' in found.err
