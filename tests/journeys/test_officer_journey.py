"""A data-protection officer's guide, typed from top to bottom on files as the demo leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.fakes.made_evidence import FIELDS, OUTLETS, make_desk, signer_of
from tests.journeys.guides import journey
from tests.journeys.people import People


def as_the_demo_leaves_it(folder: Path, made: Path) -> None:
    """Exports, run and homes where the guide says; a head that a peer kept."""
    desk = make_desk(made)
    run = folder / "runs" / "demo" / "run"
    shutil.copytree(desk.run, run)
    (run / "ledgers").mkdir()
    for name, ledger, export in zip(OUTLETS, desk.ledgers, desk.exports, strict=True):
        home = run / "outlets" / name
        (home / "identity").mkdir(parents=True)
        shutil.copy2(ledger, home)
        key = home / "identity" / "log.key"
        key.touch(mode=0o600)
        key.write_text(signer_of(name)._private.private_bytes_raw().hex())
        shutil.copy2(export, run / "ledgers")
    shutil.copy2(desk.folder / f"{OUTLETS[0]}.checkpoint", folder / "kept")


def test_from_an_export_to_a_report_and_a_signed_card(tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    stands_for = {
        "brackwell-herald": OUTLETS[0],
        "--key KEY": f"--key {signer_of(OUTLETS[0]).key.text}",
        "KEPT-BY-A-PEER": "kept",
    }
    asked = [
        text
        for table in ("card", "data_protection", "dpia", "article30")
        for key, text in FIELDS[table].items()
        if key != "purposes"
    ]
    told = ["; ".join(text) if isinstance(text, list) else text for text in asked]
    answers = {"--interview": "".join(f"{line}\n" for line in told)}
    with People(tmp_path, {"officer": ["officer"]}, stands_for, answers) as people:
        home = people.home("officer")
        as_the_demo_leaves_it(home, tmp_path / "made")
        people.follow(journey("officer"))
        assert len(people.typed) >= 9
    made = {"outlet.export", "fields.toml", "report.html", "report.pdf", "all.html"}
    assert made <= {path.name for path in home.iterdir()}
    card = home / "runs" / "demo" / "run" / "adapter" / "privacy_card.json"
    assert json.loads(card.read_text())["governance"]["approver"] == FIELDS["card"]["approver"]
