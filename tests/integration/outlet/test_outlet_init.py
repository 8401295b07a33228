"""`outlet init` as a member's operator types it: by flags, by answers, and stopped."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import AS_TYPED, REPOSITORY, made_rows
from tests.fakes.instruments.typed import Answer, Command, typed
from tests.fakes.made_coordinator import Pool
from tests.fakes.made_outlets import policy_body
from tests.fakes.made_runs import toml

from presspool.client.agent import outlet_making
from presspool.client.agent.assembly import check_home
from presspool.client.agent.home import approvals_in, policy_in
from presspool.client.cli import outlet_init_cli
from presspool.client.identity.identity import Identity
from presspool.client.witnessing import trusted_peers, witness_client
from presspool.common.contract.contract import Contract
from presspool.common.ledger.store import Ledger
from presspool.common.wire.peers import PeerKeys

NAME = "north-post"
PEER = PeerKeys.made("south-echo", witness=b"w" * 32, log=b"l" * 32)
COLUMNS = ("--reader", "user_id", "--text", "title", "--label", "topic")


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has joined, and holds nothing else."""
    folder = tmp_path_factory.mktemp("pool")
    with Pool.started(folder) as pool:
        pool.join(pool.invite(NAME), folder / "home")
    return folder / "home"


@pytest.fixture
def home(member: Path, tmp_path: Path) -> Path:
    shutil.copytree(member, tmp_path / "home")
    rows = [f"{row['reader']},{row['text']},{row['label']}" for row in made_rows(NAME, 30)]
    (tmp_path / "home" / "readers.csv").write_text("\n".join(["user_id,title,topic", *rows]) + "\n")
    return tmp_path / "home"


@pytest.fixture
def init(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setattr(outlet_making, "peers_offered", lambda _: [PEER])
    run = typed(monkeypatch, capsys, "outlet", "init", width=200)

    def typing(*more: object) -> Answer:
        return run("--home", home, "--data", home / "readers.csv", *COLUMNS, *more)

    return typing


@pytest.fixture
def run_toml(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(
        toml(contract_body | {"privacy": contract_body["privacy"] | {"noise_multiplier": 1.5}})
    )
    return path


def files(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and "private" not in path.parts
    }


def test_one_command_makes_all_that_the_agent_asks_for(init: Command, home: Path) -> None:
    found = init("--epsilon-max", 6, "--epsilon-per-run", 1.5)
    assert found.code == 0, found.err
    assert "go on with: presspool outlet run" in found.out
    identity = Identity.read(home)
    check_home(home, identity)
    settings = tomllib.loads((home / "outlet.toml").read_text())
    assert settings["name"] == identity.name == NAME  # the pool's word; nobody typed it
    assert (settings["data"], settings["columns"]["label"]) == ("readers.csv", "topic")
    policy = policy_in(home)
    assert (policy.max_epsilon_per_run, policy.manual_approval) == (1.5, True)
    with Ledger(home / "ledger.db") as ledger:
        opened = ledger.book.opened
    assert (opened.origin, opened.epsilon_max) == (f"presspool/{NAME}", 6)
    assert stat.S_IMODE((home / "snapshot.parquet").stat().st_mode) == 0o600


def test_peers_and_a_run_are_approved_with_it(
    init: Command, home: Path, run_toml: Path, contract_body: dict[str, Any]
) -> None:
    """A policy that was written before is kept, and is the one that the run is held against."""
    from presspool.client.agent.home import contract_in

    contract: Contract = contract_in(run_toml)
    (home / "policy.toml").write_text(toml(policy_body(contract, manual_approval=True)))
    before = (home / "policy.toml").read_bytes()
    said = init(
        "--run",
        run_toml,
        "--by",
        "A. Editor",
        "--order",
        4,
        "--epsilon-max",
        60,
        "--peer",
        f"south-echo={PEER.fingerprint}",
        "--json",
    )
    assert said.code == 0, said.err
    made = json.loads(said.out)
    assert (made["approved"], made["peers"]) == (contract.digest, ["south-echo"])
    assert made["kept"] == ["policy.toml"]
    assert 0 < made["share"] < 1
    assert approvals_in(home).approved(contract.digest)
    assert trusted_peers.approved(home) == (PEER,)
    assert (home / "policy.toml").read_bytes() == before


def test_typed_again_it_keeps_what_is_there(init: Command, home: Path) -> None:
    assert init().code == 0
    before = files(home)
    again = init()
    assert again.code == 0, again.err
    assert "kept as it was: outlet.toml, policy.toml, ledger.db" in again.out
    after = files(home)
    assert {k: v for k, v in after.items() if k != "snapshot.parquet"} == {
        k: v for k, v in before.items() if k != "snapshot.parquet"
    }


def test_settings_that_were_written_by_hand_stay_if_they_say_the_same(
    init: Command, home: Path
) -> None:
    """As the guide shows them, without the name and with a line of the operator's own."""
    own = """# ours
data = "readers.csv"
policy = "policy.toml"
ledger = "ledger.db"
work_mib = 100
columns = { reader = "user_id", text = "title", label = "topic" }
"""
    (home / "outlet.toml").write_text(own)
    other = init("--text", "topic", "--label", "title")
    assert other.code == 2
    assert "outlet.toml columns: there are other settings already" in other.err
    assert not (home / "ledger.db").exists()
    said = init()
    assert said.code == 0, said.err
    assert "kept as it was: outlet.toml" in said.out
    assert (home / "outlet.toml").read_text() == own
    check_home(home, Identity.read(home))


@pytest.mark.parametrize("where", ["import_into", "_policy_text", "make"])
def test_stopped_anywhere_the_same_command_goes_on(
    init: Command, home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outlet_making, where, stopped)
        assert init().code == 2
    assert init().code == 0
    check_home(home, Identity.read(home))


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--label", "section"], 2, "section"),
        (["--label", "title"], 2, "column mapping"),
        (["--epsilon-max", "1"], 2, "--epsilon-max"),
        (["--epsilon-per-run", "0"], 2, "--epsilon-per-run"),
        (["--order", "5"], 2, "--order"),
        (["--task", "chess"], 2, "--task"),
        (["--peer", "south-echo"], 2, "NAME=VALUE"),
        (["--peer", "south-echo=AAAA-AAAA-AAAA-AAAA"], 2, "not the fingerprint"),
        (["--peer", f"west-wind={PEER.fingerprint}"], 2, "offers no keys of this name"),
        (["--run", "RUN"], 1, "policy.toml base_models"),
        (["--data", "nowhere.csv"], 2, "nowhere.csv"),
        (["--data", "DAMAGED"], 2, "line 3"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(
    init: Command, home: Path, run_toml: Path, more: Sequence[str], code: int, words: str
) -> None:
    damaged = home.parent / "damaged.csv"
    damaged.write_text("user_id,title,topic\nann,a goal,sport\n,the vote,world\n")
    stands_for = {"RUN": str(run_toml), "DAMAGED": str(damaged)}
    before = files(home)
    found = init(*(stands_for.get(word, word) for word in more))
    assert (found.code, words in found.err) == (code, True), found.err
    assert files(home) == before


def test_who_has_not_joined_is_sent_to_join(init: Command, home: Path) -> None:
    shutil.rmtree(home / "identity")
    before = files(home)
    found = init()
    assert (found.code, "presspool outlet join TOKEN" in found.err) == (2, True)
    assert files(home) == before


@pytest.mark.parametrize(
    "more", [["--epsilon-max", "7"], ["--reader", "title", "--text", "user_id"]]
)
def test_another_ledger_or_other_settings_are_never_replaced(
    init: Command, home: Path, more: Sequence[str]
) -> None:
    assert init().code == 0
    before = files(home)
    found = init(*more)
    assert (found.code, "already" in found.err) == (2, True)
    assert files(home) == before


# --- On a terminal -------------------------------------------------------------------------------


def test_settings_that_are_no_text_are_told_and_left(init: Command, home: Path) -> None:
    (home / "outlet.toml").write_bytes(b"\xff\xfe")
    before = files(home)
    said = init()
    assert said.code == 2
    assert "outlet.toml: not readable as TOML" in said.err
    assert files(home) == before


def answered(home: Path, keys: Sequence[str]) -> tuple[int, str]:
    """Types `outlet init` on a terminal, and these answers; its exit code and what it asked."""
    ours, theirs = pty.openpty()
    command = [*AS_TYPED, "outlet", "init"]
    with subprocess.Popen(
        command,
        cwd=home,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "200"},
        start_new_session=True,
    ) as process:
        os.write(ours, "".join(keys).encode())
        said = process.communicate(timeout=240)[0].decode()
    os.close(ours)
    os.close(theirs)
    return process.returncode, said


ANSWERS = ["no.csv\n", "readers.csv\n", "user_id\n", "headline\n", "title\n", "topic\n", "-1\n"]
"""The file at the second go, three columns, one of them at the second go, and no such ε."""


def test_on_a_terminal_it_asks_and_shows_what_it_will_make(home: Path) -> None:
    """The coordinator cannot be reached, so that peers are for later."""
    code, said = answered(home, [*ANSWERS, "6\n", "1.5\n", "\n", "perhaps\n", "y\n"])
    assert code == 0, said
    for asked in (
        "the file of your readers' records",
        "expected a file that is there",
        "the column of a record's text (user_id, title, topic)",
        "expected one above 0",
        "the most ε that one run may cost [3]",
        f"your own fingerprint, for your peers: {Identity.read(home).peer.fingerprint}",
        "peers are for later: presspool outlet peers",
        f"{NAME} of press-pool: ledger of ε = 6, at most 1.5 a run",
        "expected y or n",
    ):
        assert asked in said, said
    check_home(home, Identity.read(home))


def test_a_peer_s_fingerprint_is_compared_as_it_is_typed(
    init: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_init_cli, "at_a_terminal", lambda: True)
    monkeypatch.setattr(witness_client, "peers_offered", lambda _: [PEER])
    keys = ["", "", "", "AAAA-AAAA-AAAA-AAAA", PEER.fingerprint, "yes"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in keys)))
    found = init()
    assert found.code == 0, found.err
    assert found.err.count("what south-echo's operator read to you") == 2
    assert "not the fingerprint of the keys that the coordinator offers" in found.err
    assert PEER.fingerprint not in found.err  # it cannot be copied instead of compared
    assert trusted_peers.approved(home) == (PEER,)


def test_a_plan_that_is_not_agreed_to_is_not_made(
    init: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_init_cli, "at_a_terminal", lambda: True)
    monkeypatch.setattr(witness_client, "peers_offered", lambda _: [])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n\nn\n"))
    before = files(home)
    found = init()
    assert (found.code, "stopped; nothing was written" in found.err) == (2, True)
    assert files(home) == before


def test_who_answers_no_more_has_written_nothing(home: Path) -> None:
    before = files(home)
    code, said = answered(home, [*ANSWERS[:3], "\x04"])
    assert (code, "stopped; nothing was written" in said) == (2, True), said
    assert files(home) == before
