"""A researcher's first run and what an editor does with it, from their guides."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.journeys.guides import journey
from tests.journeys.people import People, first_records

ROLES = {"researcher": ["researcher"], "editor": ["editor"]}
HELD_OUT = 24  # records that are judged and asked


def give_examples(home: Path) -> None:
    """The examples as the guides name them, with fewer records."""
    folder = shutil.copytree(REPOSITORY / "examples", home / "examples")
    rows = first_records()
    with (folder / "readers.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    held_out = folder / "held_out.csv"
    held_out.write_text("".join(held_out.open().readlines()[: 1 + HELD_OUT]))


@pytest.mark.timeout(1800)
def test_a_researcher_makes_an_adapter_and_an_editor_works_with_it(tmp_path: Path) -> None:
    """The editor has the examples and the researcher's finished run, as `runs/first`."""
    with People(tmp_path, ROLES) as people:
        for name in ROLES:
            give_examples(people.home(name))
        people.follow(journey("researcher"))
        first = people.home("researcher") / "runs" / "first"
        assert {"report.html", "result.json", "adapter"} <= {path.name for path in first.iterdir()}
        shutil.copytree(first, people.home("editor") / "runs" / "first")
        people.follow(journey("editor"))
        said = (people.home("editor") / "labels.csv").read_text(encoding="utf-8").splitlines()
        assert len(said) == 1 + HELD_OUT
        typed = [line.split()[1] for line in people.typed]
        assert typed == ["contract", "simulate", "simulate", "contract", "plan", "predict"]
