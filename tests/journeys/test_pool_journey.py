"""A coordinator and two outlets' operators, from the guides: twelve commands to the first round."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from tests.fakes.instruments.loopback import free_port
from tests.journeys.guides import journey
from tests.journeys.people import People, first_records

OUTLETS = {"daily-bugle": "oldermoor-courier", "evening-star": "brackwell-herald"}
MOST_COMMANDS = 12
LAST_TYPED = 9  # the step after which the first round comes by itself


def give_data(folder: Path, made_for: str) -> None:
    """An outlet's own export, with columns of its own names, from the example's rows."""
    rows = [row for row in first_records() if row["outlet"] == made_for]
    with (folder / "readers.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["user_id", "title", "topic"])
        writer.writerows([row["reader"], row["text"], row["label"]] for row in rows)


def make_impatient(folder: Path) -> None:
    """The one thing that the guides do not say: answers leave at once, so that nobody waits."""
    policy = folder / "policy.toml"
    text, count = re.subn("(?m)^answer_seconds = .*$", "answer_seconds = 0", policy.read_text())
    assert count == 1
    policy.write_text(text)


def test_the_guides_reach_the_first_trained_round_by_twelve_commands() -> None:
    typed = [
        command
        for step in journey("pool")
        if step.number <= LAST_TYPED
        for command in step.commands * (len(OUTLETS) if step.who == "outlets" else 1)
    ]
    assert len(typed) == MOST_COMMANDS
    assert all(command.startswith("presspool ") for command in typed)


@pytest.mark.timeout(1800)
def test_a_coordinator_and_two_outlets_get_there_from_the_guides_alone(tmp_path: Path) -> None:
    steps = journey("pool")
    address = f"localhost:{free_port()}"
    roles = {"coordinator": ["coordinator"], "outlets": list(OUTLETS)}
    with People(tmp_path, roles, {"pool.example.org:7443": address}) as people:
        for name, made_for in OUTLETS.items():
            give_data(people.home(name), made_for)
        for step in steps:
            people.follow([step])
            if any("outlet init" in command for command in step.commands):
                for name in OUTLETS:
                    make_impatient(people.home(name))
            if step.number == LAST_TYPED:
                assert len(people.typed) <= MOST_COMMANDS, people.typed
    assert step.until == "2 of 2 rounds"  # the first may be over before anybody looks
