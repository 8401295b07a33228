"""README, guides and `--help` stay true: their commands run, their links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import typed
from tests.journeys.guides import blocks

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "docs" / "ledger.md",
    REPOSITORY / "docs" / "tour.md",
    *sorted((REPOSITORY / "docs" / "guides").glob("*.md")),
]


def test_readme_names_the_two_commands_that_ci_runs() -> None:
    commands = blocks(REPOSITORY / "README.md")
    ci = (REPOSITORY / ".ci" / "run").read_text()
    for command in ("make demo", "make test"):
        assert command in commands
        assert command in ci
    assert "make check" in ci


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} → {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_the_page_is_known_with_its_options(page: Path) -> None:
    commands = [c for c in blocks(page) if "presspool " in c]
    for command in commands:
        words = shlex.split(command.partition("presspool ")[2])
        names = [w for w in words if re.fullmatch(r"[a-z-]+", w) and not w.startswith("-")]
        found = help_of(*names[:3])
        for option in [w for w in words if w.startswith("--")]:
            assert option in found, f"{option} of {command!r}"


@cache
def help_of(*names: str) -> str:
    """Help of the deepest command that the words name; pages name the same ones again and again."""
    from typer.testing import CliRunner

    from presspool.cli import app

    for depth in (3, 2, 1):
        result = CliRunner().invoke(app, [*names[:depth], "--help"], terminal_width=200)
        if result.exit_code == 0 and "Usage" in result.output:
            return result.output
    raise AssertionError(f"no command {names}")


# A whole run of the default recipe: some 100 s of a processor, of which six tests share two.
@pytest.mark.timeout(900)
def test_the_readme_s_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`contract check`, `check-data` and `simulate` exactly as the README gives them."""
    presspool = typed(monkeypatch, capsys)
    monkeypatch.chdir(REPOSITORY)
    for command in blocks(REPOSITORY / "README.md"):
        words = shlex.split(command.partition("presspool ")[2])
        if words[:1] == ["simulate"]:
            words[words.index("runs/first")] = str(tmp_path / "first")
        elif words[:2] not in (["contract", "check"], ["outlet", "check-data"]):
            continue
        said = presspool(*words)
        assert said.code == 0, said.err
    assert (tmp_path / "first" / "report.html").exists()
    assert "DP at reader level" in (tmp_path / "first" / "result.json").read_text()


def test_every_command_has_an_example_in_its_help() -> None:
    from typer.main import get_command

    from presspool.cli import app

    def leaves(command: object, path: str) -> list[tuple[str, str]]:
        children = getattr(command, "commands", None)
        if children is None:
            return [(path, getattr(command, "help", "") or "")]
        return [leaf for n, c in children.items() for leaf in leaves(c, f"{path} {n}")]

    found = leaves(get_command(app), "presspool")
    assert len(found) >= 6
    for path, text in found:
        assert f"Example: {path}" in text, path


def test_help_says_what_arguments_and_defaults_are() -> None:
    found = help_of("coordinator", "invite")
    assert "The outlets, as contracts call them.  [required]" in found
    assert "[default: 24h]" in found
    assert "\\[" not in found


def test_a_mistyped_command_is_answered_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = typed(monkeypatch, capsys, "outlet")("aprove")
    assert said.err.count("Did you mean 'approve'?") == 1


def test_help_and_version_do_not_import_torch() -> None:
    code = (
        "import sys; from presspool.cli import app; from typer.testing import CliRunner;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0;"
        "print('torch' in sys.modules, 'flwr' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
