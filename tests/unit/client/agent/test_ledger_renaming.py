"""The name in `outlet.toml` and the membership: one of them is wrong before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.fakes.made_coordinator import Pool
from tests.fakes.made_ledgers import JOB, RUN
from typer.testing import CliRunner

from presspool.cli import app
from presspool.client.agent import home as homes
from presspool.client.agent.assembly import check_home
from presspool.client.agent.doctor import FAULT, examine
from presspool.client.agent.ledger_renaming import RENAME
from presspool.client.agent.spool import Spool
from presspool.client.identity.identity import Identity
from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import FolderError, InputError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger

NAME, OTHERS = "evening-star", "daily-bugle"
LINES = 'data = "readers.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
Type = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An outlet's folder with the guide's example in it, as it stands there."""
    found = tmp_path / "outlet"
    found.mkdir()
    (found / "readers.csv").write_text("reader,text,label\nr1,some words,a\n")
    (found / "outlet.toml").write_text(f'name = "{OTHERS}"\n{LINES}')
    return found


@pytest.fixture
def outlet(home: Path) -> Type:
    """What its operator types in that folder."""

    def typed(*words: str) -> Result:
        return CliRunner().invoke(app, ["outlet", *words, "--home", str(home)])

    return typed


@pytest.fixture
def member(tmp_path: Path, home: Path) -> Identity:
    """The same folder, joined under a name of its own."""
    with Pool.started(tmp_path) as pool:
        return pool.join(pool.invite(NAME), home)


def opened(home: Path) -> entries.Opened:
    with Ledger(home / "ledger.db") as ledger:
        return ledger.book.opened


@pytest.mark.parametrize(
    "words", [("budget", "init"), ("import",), ("policy",), ("budget",), ("runs",)]
)
def test_another_name_than_the_pools_is_refused_before_a_ledger_exists(
    outlet: Type, member: Identity, words: tuple[str, ...]
) -> None:
    said = outlet(*words).exception
    assert isinstance(said, InputError)
    assert str(said.expected).startswith(NAME)
    assert (said.got, said.where) == (OTHERS, f"{member.home / 'outlet.toml'} name")
    assert not (member.home / "ledger.db").exists()


def test_the_doctor_says_it_and_a_file_without_the_name_has_the_pools(
    outlet: Type, member: Identity
) -> None:
    found = {finding.check: finding for finding in examine(member.home, run=None)}
    assert (found["ledger"].state, OTHERS in found["ledger"].found) == (FAULT, True)
    (member.home / "outlet.toml").write_text(LINES)
    assert read_settings(member.home / "outlet.toml").name == NAME
    assert outlet("budget", "init").exit_code == 0
    assert opened(member.home).origin == f"presspool/{NAME}"


def test_a_name_that_no_peer_could_witness_is_refused(outlet: Type, member: Identity) -> None:
    (member.home / "outlet.toml").write_text(LINES)
    said = outlet("budget", "init", "--origin", "example.org/star").exception
    assert isinstance(said, InputError)
    assert said.expected == f"presspool/{NAME}"


@pytest.fixture
def poisoned(outlet: Type, home: Path, tmp_path: Path) -> Identity:
    """A ledger made with the example's name in place, before the outlet joined as another."""
    words = ("budget", "init", "--new-key", "--epsilon-max", "3", "--order", "16")
    assert outlet(*words).exit_code == 0
    with Pool.started(tmp_path) as pool:
        identity = pool.join(pool.invite(NAME), home)
    (home / "outlet.toml").write_text(LINES)
    return identity


def test_a_ledger_under_a_wrong_name_is_found_and_made_anew(
    outlet: Type, poisoned: Identity
) -> None:
    """Doctor, `budget init` and the agent name the repair; it keeps what was chosen for life."""
    home = poisoned.home
    found = {finding.check: finding for finding in examine(home, run=None)}
    assert (found["ledger"].state, RENAME in found["ledger"].advice) == (FAULT, True)
    assert RENAME in str(outlet("budget", "init").exception)
    with pytest.raises(LedgerError, match=RENAME):
        check_home(home, poisoned)
    done = outlet("budget", "rename", "--json")
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["from"], said["to"]) == (f"presspool/{OTHERS}", f"presspool/{NAME}")
    now = opened(home)
    assert (now.origin, now.key) == (f"presspool/{NAME}", poisoned.log.key.text)
    assert (now.epsilon_max, now.order, now.unit) == (3, 16, "reader")
    with Ledger(Path(said["kept"])) as old:
        assert old.book.opened.origin == f"presspool/{OTHERS}"
    assert isinstance(outlet("budget", "rename").exception, InputError)  # it is right already


def test_a_ledger_that_has_paid_keeps_its_name(outlet: Type, poisoned: Identity) -> None:
    path = poisoned.home / "ledger.db"
    with Ledger(path) as ledger:
        ledger.reserve(
            run=RUN,
            unit="reader",
            period="2026",
            datasets=[entries.new_id()],
            event=JOB.first(1),
            head=None,
        )
    before = path.read_bytes()
    said = outlet("budget", "rename").exception
    assert isinstance(said, LedgerError)
    assert "forget what was spent" in str(said)
    assert path.read_bytes() == before
    assert RENAME not in str(outlet("budget", "init").exception)


def test_no_ledger_is_replaced_under_a_working_agent(outlet: Type, poisoned: Identity) -> None:
    with Spool.open(poisoned.home / homes.WORK):
        assert isinstance(outlet("budget", "rename").exception, FolderError)
    assert opened(poisoned.home).origin == f"presspool/{OTHERS}"
