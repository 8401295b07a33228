"""Clocks that are wrong by an hour: joining, working and renewal go on; worse ones are named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from tests.conftest import AS_TYPED, REPOSITORY
from tests.fakes.instruments.faketime import clock

from presspool.client.identity.identity import Identity

WAIT = 240.0
HOUR = "3600s"
YEAR_2000 = "@2000-01-01 00:00:00"  # what a computer without a battery takes for now


@contextmanager
def process(command: list[str], *arguments: object, offset: str) -> Iterator[subprocess.Popen[str]]:
    """A process with its own clock, ended when the block is left."""
    started = subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=REPOSITORY,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}", **clock(offset)},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def child(role: str, home: Path, offset: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return process(
        [sys.executable, "-m", "tests.fakes.children.clock_children"], role, home, offset=offset
    )


def line_of(stream: subprocess.Popen[str], pattern: str, *, err: bool = False) -> re.Match[str]:
    """The first line that a process says in this form."""
    said, source = [], stream.stderr if err else stream.stdout
    assert source is not None
    for line in source:
        if found := re.search(pattern, line):
            return found
        said.append(line)
    rest = stream.stderr.read() if stream.stderr and not err else ""
    raise AssertionError(f"it ended and did not say {pattern}: {''.join(said)}{rest}")


CASES = [(who, sign + HOUR) for who in ("outlet", "coordinator") for sign in "+-"]
SAMPLE = (("outlet", "-" + HOUR),)


@pytest.mark.parametrize(
    ("who", "offset"),
    [pytest.param(*at, marks=() if at in SAMPLE else pytest.mark.soak) for at in CASES],
)
def test_an_hour_off_an_outlet_joins_renews_and_works(
    who: str, offset: str, tmp_path: Path
) -> None:
    here, there = (offset, "") if who == "outlet" else ("", offset)
    home = tmp_path / "outlet"
    with child("coordinator", tmp_path / "coordinator", there) as coordinator:
        token = line_of(coordinator, "presspool-invitation-.*")[0]
        assert coordinator.stdin is not None
        with process(AS_TYPED, "outlet", "join", token, "--home", home, offset=here) as joining:
            shown = line_of(joining, "fingerprint of its keys: (.*)", err=True)
            coordinator.stdin.write(f"{shown[1]}\n")
            coordinator.stdin.flush()
            _, said = joining.communicate(timeout=WAIT)
            assert joining.returncode == 0, said
        first = Identity.read(home).facts.serial
        with child("outlet", home, here):
            certificates, answers = line_of(coordinator, "([0-9]+) ([0-9]+)").groups()
        assert answers == "1"
        assert certificates == "2"
        assert Identity.read(home).facts.serial != first, "it was not renewed"


def test_a_clock_that_is_years_off_is_named(tmp_path: Path) -> None:
    with child("coordinator", tmp_path / "coordinator", "") as coordinator:
        token = line_of(coordinator, "presspool-invitation-.*")[0]
        code = (
            "from presspool.client.cli import join_cli; from presspool.cli import main; "
            "join_cli._PATIENCE = 0; main()"
        )
        command = [sys.executable, "-c", code]
        with process(
            command, "outlet", "join", token, "--home", tmp_path / "outlet", offset=YEAR_2000
        ) as joining:
            _, said = joining.communicate(timeout=WAIT)
        assert joining.returncode == 1
        assert "this computer's clock is right" in said
        assert "Traceback" not in said
