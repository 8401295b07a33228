"""B.14: no string of a contract, a ledger's export or an error commands the operator's terminal.

Every string of the contract's schema is walked, so that a new field is covered the day it is there.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text
from tests.conftest import REPOSITORY
from tests.fakes.made_outlets import new_ledger, policy_body
from tests.fakes.made_runs import toml

from presspool.cli import app
from presspool.common.base import console
from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract

Body = dict[str, Any]
Place = tuple[str | int, ...]
Typed = Callable[..., str]

# Clears the screen, sets its title, C1's introducer, reorders, hides, overwrites, forges a line.
HOSTILE = "a\x1b[2J\x1b]0;t\x07\x9b1m\u202eb\u2066\u200b\u00ad\u2028[red]\x08\rc\nFORGED line"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """What `presspool …` shows, on both streams."""

    def run(*words: object) -> str:
        capsys.readouterr()
        with suppress(SystemExit):
            console.guarded(lambda: app([*map(str, words)], standalone_mode=False))
        said = capsys.readouterr()
        return said.out + said.err

    return run


@pytest.fixture
def home(contract: Contract, tmp_path: Path) -> Path:
    """An outlet with a policy that says no to nothing here, and a ledger."""
    (tmp_path / "outlet.toml").write_text(
        'name = "north-post"\ndata = "x.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
    )
    (tmp_path / "policy.toml").write_text(toml(policy_body(contract, manual_approval=True)))
    new_ledger(tmp_path / "ledger.db")
    return tmp_path


def is_harmless(text: str) -> bool:
    """Whether a terminal shows these characters and obeys none."""
    kinds = {unicodedata.category(c) for c in text if c != "\n"}
    forged = any(line.startswith("FORGED") for line in text.splitlines())
    return not forged and kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


def strings_of(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where a contract's body holds strings."""
    if isinstance(value, str):
        yield place
    inner: Any = value.items() if isinstance(value, Mapping) else ()
    for key, part in enumerate(value) if isinstance(value, list) else inner:
        yield from strings_of(part, (*place, key))


def spoilt(body: Body, place: Place, text: str = HOSTILE) -> Body:
    """The body with another text at one place."""
    made = copy.deepcopy(body)
    at: Any = made
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = text
    return made


def is_taken(body: Body) -> bool:
    try:
        parse_contract(body)
    except ContractError:
        return False
    return True


def named(body: Body) -> Iterator[Body]:
    """The body with one hostile key or name more."""
    yield body | {HOSTILE: 1}
    yield body | {"outlets": body["outlets"] | {HOSTILE: 10}}
    yield body | {"task": body["task"] | {HOSTILE: 1}}


def test_a_hostile_contract_is_shown_and_obeyed_by_nothing(
    contract: Contract, home: Path, typed: Typed
) -> None:
    body = contract.body()
    places = list(strings_of(body))
    assert {place[0] for place in places} >= {"name", "model", "task", "adapter", "optimizer"}
    taken = [place for place in places if is_taken(spoilt(body, place))]
    assert ("model", "id") in taken
    for place in taken:
        body = spoilt(body, place, f"{HOSTILE} {place}")
    data = parse_contract(body).canonical()
    (file := home / "contract.json").write_bytes(data)
    shown = typed("outlet", "policy", "check", file, "--home", home)
    assert "[red]" in shown
    assert "REFUSED" in shown
    for words in (
        ("outlet", "policy", "check", file, "--json"),
        ("outlet", "approve", file),
        ("outlet", "approve", file, "--by", HOSTILE, "--json"),
        ("outlet", "approve", "sha256:" + hashlib.sha256(data).hexdigest()),
        ("outlet", "runs"),
        ("outlet", "runs", "--json"),
        ("outlet", "budget"),
    ):
        shown += typed(*words, "--home", home)
    assert is_harmless(shown), ascii(shown)


def test_what_is_refused_in_a_contract_is_quoted_harmlessly(
    contract: Contract, home: Path, typed: Typed
) -> None:
    body, file, run = contract.body(), home / "contract.json", home / "run.toml"
    bodies = [spoilt(body, place) for place in strings_of(body)] + list(named(body))
    for made in bodies:
        file.write_text(json.dumps(made), encoding="utf-8")
        run.write_text(toml(made), encoding="utf-8")
        shown = typed("outlet", "policy", "check", file, "--home", home)
        new = typed("contract", "check", run)
        assert "error:" in new, made
        assert is_harmless(shown + new), ascii(shown + new)


def test_a_hostile_export_is_quoted_harmlessly(tmp_path: Path, typed: Typed) -> None:
    good = (REPOSITORY / "tests/golden/files/given/north-post.export").read_text(encoding="utf-8")
    file = tmp_path / "bad.export"
    lines = good.splitlines()
    for number in range(0, len(lines), 3):
        quoted = json.dumps(HOSTILE)[1:-1]
        for text in (HOSTILE, lines[number].replace(":", f":{HOSTILE}", 1), f"— {quoted}"):
            changed = [*lines[:number], text, *lines[number + 1 :]]
            file.write_text("\n".join(changed) + "\n", encoding="utf-8", newline="")
            for command in ("verify", "recompute"):
                shown = typed("audit", command, file)
                assert is_harmless(shown), ascii(shown)
    missing = tmp_path / HOSTILE.replace("\0", "")
    assert is_harmless(typed("audit", "verify", missing))


def test_text_on_a_terminal_and_in_tables_is_spelt_out() -> None:
    stream = io.StringIO()
    screen = console.Screen(file=stream, force_terminal=True, color_system=None, width=200)
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE))
    for shown in (HOSTILE, Text(HOSTILE), table):
        screen.print(shown, markup=False)
    assert "\\u001b[2J" in stream.getvalue()
    assert "\x1b" not in stream.getvalue().replace("\n", "")
    assert {"Cc", "Cf", "Zl"}.isdisjoint(
        {unicodedata.category(c) for c in stream.getvalue() if c != "\n"}
    )


def test_log_lines_and_errors_cannot_be_forged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["presspool"])
    console.start_logging(quiet=False)
    try:
        raise ContractError(HOSTILE, where=HOSTILE, got=HOSTILE, expected=HOSTILE)
    except ContractError as error:
        log = logging.getLogger("presspool")
        log.warning("a peer said %s: %s", HOSTILE, error, exc_info=True)
    said = capsys.readouterr().err
    assert "a peer said" in said
    assert is_harmless(said), ascii(said)
