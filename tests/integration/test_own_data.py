"""Own data with columns of foreign names: a federation and each outlet alone, in three commands."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import Command, typed

READERS = 12  # of each outlet


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=100)


def export(folder: Path) -> None:
    """What a publisher's database gives: the examples' texts, under its own columns' names."""
    folder.mkdir()
    with (REPOSITORY / "examples" / "readers.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["reader"][-5:]) < READERS]
    with (REPOSITORY / "examples" / "held_out.csv").open(newline="") as file:
        held_out = list(csv.DictReader(file))[:45]
    papers = list(dict.fromkeys(row["outlet"] for row in rows))
    with (folder / "clicks 2026.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["click", "Newspaper", "subscriberId", "Titel", "Ressort"])
        for number, row in enumerate(rows):
            paper = row["outlet"].replace("-", " ").title()
            lines.writerow([number, paper, row["reader"], row["text"], row["label"]])
    with (folder / "test.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["Titel", "Ressort", "Newspaper"])
        for number, row in enumerate(held_out):
            lines.writerow([row["text"], row["label"], papers[number % 3]])


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_three_commands_from_own_data_to_whether_it_pays_to_join(
    presspool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    for command in (
        "new run --data export --epsilon 3",
        "simulate run.toml --local-only --workers 1",
        "compare runs/export --local",
    ):
        said = presspool(*command.split())
        assert said.code == 0, said.err
    for outlet in ("brackwell-herald", "fennport-gazette", "oldermoor-courier", "mean"):
        (line,) = re.findall(rf"^ *{outlet} .*", said.out, re.MULTILINE)
        assert re.search(r"\[[+-]\d\.\d{3}, [+-]\d\.\d{3}\] +(yes|no|not clear)", line), line
    found = json.loads(presspool("compare", "runs/export", "--local", "--json").out)["runs"][0]
    assert found["epsilon"] == pytest.approx(3.0, abs=0.1)
    assert [(row["readers"], row["rows"], row["own"]) for row in found["outlets"]] == [
        (READERS, 15, True)
    ] * 3
    assert not list((tmp_path / "runs" / "export" / "local").rglob("readers*"))
