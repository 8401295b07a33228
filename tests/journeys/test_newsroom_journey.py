"""A researcher's first run and what an editor does with it, from their guides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.journeys.guides import journey
from tests.journeys.people import People

ROLES = {"researcher": ["researcher"], "editor": ["editor"]}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_researcher_makes_an_adapter_and_an_editor_works_with_it(tmp_path: Path) -> None:
    """The editor has the examples and the researcher's finished run, as `runs/first`."""
    with People(tmp_path, ROLES) as people:
        for name in ROLES:
            shutil.copytree(REPOSITORY / "examples", people.home(name) / "examples")
        people.follow(journey("researcher"))
        first = people.home("researcher") / "runs" / "first"
        assert {"report.html", "result.json", "adapter"} <= {path.name for path in first.iterdir()}
        shutil.copytree(first, people.home("editor") / "runs" / "first")
        people.follow(journey("editor"))
        said = (people.home("editor") / "labels.csv").read_text(encoding="utf-8").splitlines()
        assert len(said) == len(
            people.home("editor").joinpath("examples/held_out.csv").open().readlines()
        )
        typed = [line.split()[1] for line in people.typed]
        assert typed == ["contract", "simulate", "simulate", "contract", "predict"]
