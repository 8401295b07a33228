"""A pool as its operators make it, by the commands they type, over a real port; and attacks."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.conftest import AS_TYPED, REPOSITORY
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.typed import Answer, Command, typed
from tests.fakes.made_coordinator import PROBE, STREAM, Pool

from presspool.client.cli import join_cli
from presspool.client.identity.identity import Identity, identity_folder
from presspool.client.identity.joining import Joining
from presspool.common.base.errors import InputError
from presspool.common.pki.tls import channel
from presspool.common.proto import enrolment_pb2 as messages
from presspool.common.wire.enrolment import ENROLMENT_REFUSALS, prove
from presspool.common.wire.token import Token

NAME = "daily-bugle"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command as the shell does."""
    return typed(monkeypatch, capsys, width=200)


@pytest.fixture
def home(presspool: Command, tmp_path: Path) -> Path:
    """A coordinator's folder, as `init` makes it."""
    made = tmp_path / "coordinator"
    address = f"localhost:{free_port()}"
    answer = presspool(
        "coordinator", "init", "--name", "press-pool", "--address", address, "--home", made
    )
    assert answer.code == 0, answer.err
    return made


@pytest.fixture
def pool(home: Path) -> Iterator[Pool]:
    with Pool.listening(home) as listening:
        yield listening


class Joiner:
    """`presspool outlet join` in a process of its own, as an operator leaves it waiting."""

    def __init__(self, token: Path, home: Path) -> None:
        self.process = subprocess.Popen(
            [*AS_TYPED, "outlet", "join", token, "--home", home, "--json"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        )

    def fingerprint(self) -> str:
        """What it shows its operator."""
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            if match := re.fullmatch(r"fingerprint of its keys: ([A-Z2-7-]{19})\n", line):
                return match[1]
            said.append(line)
        raise AssertionError(f"it showed no fingerprint, but: {''.join(said)}")

    def end(self) -> Answer:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=240)
        return Answer(self.process.returncode, out, err)


@contextmanager
def _joining(token: Path, home: Path) -> Iterator[Joiner]:
    joiner = Joiner(token, home)
    try:
        yield joiner
    finally:
        if joiner.process.poll() is None:
            joiner.process.kill()
        joiner.process.communicate()


def test_an_outlet_joins_in_two_commands_and_its_operators_one_confirmation(
    presspool: Command, pool: Pool, home: Path, tmp_path: Path
) -> None:
    token = tmp_path / "daily-bugle.token"
    made = presspool("coordinator", "invite", NAME, "--ttl", "24h", "--home", home, "--out", token)
    assert (made.code, made.out) == (0, "")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    with _joining(token, tmp_path / "outlet") as joiner:
        fingerprint = joiner.fingerprint()
        (waiting,) = json.loads(presspool("coordinator", "members", "--home", home, "--json").out)
        assert (waiting["outlet"], waiting["state"]) == (NAME, "waiting")
        admitted = presspool("coordinator", "admit", NAME, fingerprint, "--home", home, "--json")
        assert admitted.code == 0
        ended = joiner.end()
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["outlet"] == NAME
    identity = Identity.read(tmp_path / "outlet")
    assert identity.facts.serial == json.loads(admitted.out)["serial"]
    assert pool.probe(identity.credential) == NAME
    again = presspool("outlet", "join", token, "--home", tmp_path / "outlet")
    assert again.code == 0
    assert f"{NAME} has joined press-pool" in again.out


def test_a_join_stopped_by_its_operator_goes_on_with_the_same_command(
    presspool: Command, pool: Pool, home: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(presspool("coordinator", "invite", NAME, "--home", home).out)
    with _joining(token, tmp_path / "outlet") as joiner:
        first = joiner.fingerprint()
        joiner.process.send_signal(signal.SIGINT)
        stopped = joiner.end()
    assert stopped.code == 2
    assert "the same command goes on" in stopped.err
    assert "Traceback" not in stopped.err
    presspool("coordinator", "admit", NAME, first, "--home", home)
    with _joining(token, tmp_path / "outlet") as joiner:
        assert joiner.fingerprint() == first
        assert joiner.end().code == 0


def test_a_coordinator_that_stops_meanwhile_is_waited_for(
    presspool: Command, home: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(presspool("coordinator", "invite", NAME, "--home", home).out)
    with Pool.listening(home):
        joiner = Joiner(token, tmp_path / "outlet")
        fingerprint = joiner.fingerprint()
    try:
        assert joiner.process.stderr is not None
        assert any("trying again" in line for line in joiner.process.stderr)
        presspool("coordinator", "admit", NAME, fingerprint, "--home", home)
        with Pool.listening(home):
            assert joiner.end().code == 0
    finally:
        if joiner.process.poll() is None:
            joiner.process.kill()


def test_a_coordinator_that_is_just_starting_is_waited_for(
    presspool: Command, home: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(presspool("coordinator", "invite", NAME, "--home", home).out)
    with _joining(token, tmp_path / "outlet") as joiner:
        assert joiner.process.stderr is not None
        line = joiner.process.stderr.readline()
        assert "cannot talk to the coordinator: nobody answers there" in line
        assert "trying again" in line
        with Pool.listening(home):
            fingerprint = joiner.fingerprint()
            presspool("coordinator", "admit", NAME, fingerprint, "--home", home)
            assert joiner.end().code == 0


def test_a_coordinator_that_never_answers_is_one_clear_message(
    presspool: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_cli, "_PATIENCE", 3.0)
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time)
    clock.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
    monkeypatch.setattr(join_cli, "time", clock)
    token = tmp_path / "token"
    token.write_text(presspool("coordinator", "invite", NAME, "--home", home).out)
    answer = presspool("outlet", "join", token, "--home", tmp_path / "outlet")
    assert answer.code == 1
    assert answer.err.count("trying again") == 1
    assert sum(line.startswith("error: ") for line in answer.err.splitlines()) == 1
    assert "type the same command" in answer.err
    assert "Traceback" not in answer.err


def test_private_keys_are_in_no_message_and_in_no_file_of_the_coordinator(
    pool: Pool, home: Path, tmp_path: Path
) -> None:
    token = pool.invite(NAME)
    identity = pool.join(token, tmp_path / "outlet")
    pool.database.close()  # which writes what SQLite still kept beside its file
    key = serialization.load_pem_private_key(identity.keys.tls, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    scalar = key.private_numbers().private_value.to_bytes(32)
    secrets = {"tls": scalar, "update": identity.update.secret, "log": identity.keys.log.secret}
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    sent = b"".join(pool.received)
    assert identity.update.public in sent  # the recorder does see what is sent
    assert identity.update.public in kept
    for secret in secrets.values():
        for form in (secret, secret.hex().encode(), secret[::-1]):
            assert form not in sent
            assert form not in kept
    own = {
        path.name
        for path in identity_folder(tmp_path / "outlet").iterdir()
        if stat.S_IMODE(path.stat().st_mode) == 0o600
    }
    assert own >= {"tls.key", "update.key", "log.key"}
    for path in (home / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _join_refused(token: Token, home: Path) -> str:
    with Joining.begin(token, home) as joining, pytest.raises(InputError) as caught:
        joining.ask()
    return str(caught.value.got)


def test_a_token_used_twice_expired_or_withdrawn_is_refused(pool: Pool, tmp_path: Path) -> None:
    used = pool.invite(NAME)
    pool.join(used, tmp_path / "outlet")
    assert _join_refused(used, tmp_path / "thief") == "token-used"
    old = pool.invite("tribune", ttl=60)
    pool.clock.ahead = 61
    assert _join_refused(old, tmp_path / "tribune") == "token-expired"
    pool.clock.ahead = 0
    replaced = pool.invite("tribune")
    pool.invite("tribune")
    assert _join_refused(replaced, tmp_path / "tribune") == "token-withdrawn"


def test_a_stolen_token_with_own_keys_gets_no_certificate(
    presspool: Command, pool: Pool, home: Path, tmp_path: Path
) -> None:
    token = pool.invite(NAME)
    with Joining.begin(token, tmp_path / "thief") as thief:
        thief.ask()
        assert _join_refused(token, tmp_path / "outlet") == "token-used"
        with Joining.begin(token, tmp_path / "outlet") as outlet:
            answer = presspool("coordinator", "admit", NAME, outlet.fingerprint, "--home", home)
        assert answer.code == 2
        assert thief.fingerprint not in answer.err + answer.out
        assert thief.collect() is None
        presspool("coordinator", "invite", NAME, "--home", home)  # what the message advises
        with pytest.raises(InputError, match="token-withdrawn"):
            thief.collect()


def test_an_invitation_reaches_enrolment_only_and_an_outlet_all_but_that(
    pool: Pool, tmp_path: Path
) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    token = pool.invite("tribune")
    root = pool.folder.root.certificate
    assert _refusal(lambda: pool.probe(token.credential)) == "not-a-member"
    with channel(token.address, token.credential, root=root) as link:
        renew = link.unary_unary("/presspool.v1.Membership/Renew")
        assert _refusal(lambda: renew(b"", timeout=60)) == "not-a-member"
    with channel(token.address, identity.credential, root=root) as link:
        collect = link.unary_unary("/presspool.v1.Enrolment/Collect")
        assert _refusal(lambda: collect(b"", timeout=60)) == "not-an-invitation"
        proofs = prove(
            token.invitation,
            b"",
            update=identity.update,
            log=identity.keys.log,
            witness=identity.keys.witness,
        )
        join = link.unary_unary("/presspool.v1.Enrolment/Join")
        body = messages.JoinRequest(**proofs.__dict__).SerializeToString()
        assert _refusal(lambda: join(body, timeout=60)) == "not-an-invitation"


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    word = str(caught.value.details())
    assert word in ENROLMENT_REFUSALS
    return word


def test_a_revoked_outlet_is_cut_off_on_a_connection_that_stays_open(
    presspool: Command, pool: Pool, home: Path, tmp_path: Path
) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    with channel(identity.address, identity.credential, root=identity.root) as link:
        call = link.unary_unary(PROBE)
        assert call(b"", timeout=60) == NAME.encode()
        answer = presspool(
            "coordinator", "revoke", NAME, "--reason", "laptop stolen", "--home", home
        )
        assert answer.code == 0
        assert _refusal(lambda: call(b"", timeout=60)) == "revoked"


def test_a_revoked_outlet_is_cut_off_in_the_middle_of_a_stream(pool: Pool, tmp_path: Path) -> None:
    identity = pool.join(pool.invite(NAME), tmp_path / "outlet")
    go_on = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield from (b"one", b"two")
        go_on.wait(240)
        yield from (b"three" for _ in range(100))

    with channel(identity.address, identity.credential, root=identity.root) as link:
        answer = link.stream_unary(STREAM).future(chunks(), timeout=60)
        pool.members.revoke(NAME, "laptop stolen")
        go_on.set()
        assert _refusal(answer.result) == "revoked"


def test_a_stranger_learns_nothing_from_what_goes_wrong_inside(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = pool.invite(NAME)

    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the database")

    monkeypatch.setattr(pool.members, "request", broken)
    with (
        channel(token.address, token.credential, root=token.root) as link,
        pytest.raises(grpc.RpcError) as caught,
    ):
        link.unary_unary("/presspool.v1.Enrolment/Join")(b"", timeout=60)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--name", "Press Pool", "--address", "localhost:1"), "name"),
        (("--name", "pool", "--address", "localhost"), "HOST:PORT"),
        (("--name", "pool", "--address", "localhost:1", "--database", "no url"), "database"),
        (
            (
                "--name",
                "pool",
                "--address",
                "localhost:1",
                "--database",
                "postgresql+psycopg://nobody:hunter2@127.0.0.1:1/none",
            ),
            "database",
        ),
    ],
)
def test_init_that_fails_is_one_message_and_leaves_nothing(
    presspool: Command, tmp_path: Path, options: tuple[str, ...], what: str
) -> None:
    answer = presspool("coordinator", "init", *options, "--home", tmp_path / "home")
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err
    assert "hunter2" not in answer.err
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_init_never_overwrites_a_home(presspool: Command, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    answer = presspool(
        "coordinator", "init", "--name", "other", "--address", "localhost:1", "--home", home
    )
    assert answer.code == 2
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_init_takes_a_new_database_and_no_other_pools(
    presspool: Command, database_url: str, tmp_path: Path
) -> None:
    answer = presspool(
        "coordinator",
        "init",
        "--name",
        "pool",
        "--address",
        "localhost:1",
        "--home",
        tmp_path / "home",
        "--json",
        "--database",
        database_url,
    )
    assert answer.code == 0, answer.err
    made = json.loads(
        presspool("coordinator", "invite", NAME, "--home", tmp_path / "home", "--json").out
    )
    assert Token.parse(made["token"]).log_key == json.loads(answer.out)["log_key"]
    listed = presspool("coordinator", "members", "--home", tmp_path / "home")
    assert re.search(rf"{NAME}\s+invited", listed.out)
    assert stat.S_IMODE((tmp_path / "home" / "coordinator.toml").stat().st_mode) == 0o600
    second = presspool(
        "coordinator",
        "init",
        "--name",
        "pool",
        "--address",
        "localhost:1",
        "--home",
        tmp_path / "second",
        "--database",
        database_url,
    )
    assert (second.code, "another pool" in second.err) == (2, True)
    assert not (tmp_path / "second").exists()


def test_several_outlets_are_invited_at_once_each_by_a_token_of_its_own(
    presspool: Command, home: Path, tmp_path: Path
) -> None:
    names = [NAME, "evening-star"]
    folder = tmp_path / "tokens"
    folder.mkdir()
    made = presspool("coordinator", "invite", *names, NAME, "--home", home, "--out", folder)
    assert (made.code, made.out) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.token" for name in names]
    for name in names:
        token = folder / f"{name}.token"
        assert Token.parse(token.read_text()).outlet == name
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
    again = presspool("coordinator", "invite", *names, "--home", home, "--out", folder)
    assert (again.code, "cannot be a new file" in again.err) == (2, True)
    listed = json.loads(presspool("coordinator", "invite", *names, "--home", home, "--json").out)
    assert [Token.parse(line["token"]).outlet for line in listed] == names


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("invite", "Daily Bugle"), "NAME"),
        (("invite", NAME, "evening-star"), "--out: where to"),
        (("invite", NAME, "Evening Star", "--out", "."), "NAME"),
        (("invite", NAME, "--ttl", "tomorrow"), "--ttl"),
        (("invite", NAME, "--ttl", "31d"), "--ttl"),
        (("invite", NAME, "--ttl", "0m"), "--ttl"),
        (("invite", NAME, "--out", "/nowhere/at/all"), "/nowhere/at/all: cannot be a new file"),
        (("admit", NAME, "AAAA"), "waits"),
        (("revoke", NAME, "--reason", "why"), "nobody"),
        (("revoke", NAME, "--reason", " "), "--reason"),
        (("revoke", NAME, "--reason", "a\nb"), "--reason"),
    ],
)
def test_what_makes_no_sense_is_one_message_and_exit_code_2(
    presspool: Command, home: Path, arguments: tuple[str, ...], what: str
) -> None:
    answer = presspool("coordinator", *arguments, "--home", home)
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err
    assert json.loads(presspool("coordinator", "members", "--home", home, "--json").out) == []


def test_commands_without_a_home_or_a_token_say_so(presspool: Command, tmp_path: Path) -> None:
    for arguments in (
        ("outlet", "join", "presspool-invitation-1.cut", "--home", tmp_path),
        ("coordinator", "members", "--home", tmp_path),
        ("coordinator", "invite", NAME, "--home", tmp_path / "none"),
        ("outlet", "join", "no-token", "--home", tmp_path / "outlet"),
    ):
        answer = presspool(*arguments)
        assert answer.code == 2
        assert "to do" in answer.err or "expected" in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "coordinator init",
        "coordinator invite",
        "coordinator admit",
        "coordinator revoke",
        "coordinator members",
        "coordinator drop",
        "outlet join",
    ],
)
def test_every_command_has_help_with_an_example(presspool: Command, command: str) -> None:
    answer = presspool(*command.split(), "--help")
    assert answer.code == 0
    assert f"Example: presspool {command}" in " ".join(answer.out.split())
