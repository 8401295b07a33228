"""`presspool audit …` as typed: what holds, what does not, and what was typed wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_ledgers import JOB, ORIGIN, RUN, SIGNER, WITNESSES, identity
from tests.fakes.made_logs import LOG, History

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.audit.evidence import audit_console
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.recompute import library_pld
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.forks import fork_proof

STATED = library_pld(JOB, delta=1e-5)


class Made(NamedTuple):
    """A ledger of two jobs, its export, and its head as a peer kept it."""

    ledger: Path
    export: Path
    head: Path


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command on 80 columns, as the shell does."""
    return typed(monkeypatch, capsys, "audit", width=80)


def make(folder: Path, *, stated: float = STATED) -> Made:
    made = Made(folder / "ledger.db", folder / "outlet.export", folder / "peer.checkpoint")
    with Ledger.create(
        made.ledger, signer=SIGNER, unit="reader", order=4, delta=1e-5, caps=Caps(epsilon_max=8.0)
    ) as ledger:
        for _ in range(2):
            ledger.reserve(
                run=RUN,
                unit="reader",
                period="2026",
                datasets=[identity(1)],
                event=JOB,
                head=None,
                stated=entries.Stated(delta=1e-5, epsilon=stated, version="0.6.0"),
            )
        note = ledger.checkpoint(SIGNER)
        signed = notes.Note(text=note.text).signed(WITNESSES[0].sign(note.text, time=5))
        ledger.cosign(signed, witnesses=[WITNESSES[0].key])
        made.head.write_bytes(note.encode())
        with made.export.open("wb") as stream:
            export(ledger, stream, signer=None, witnesses=[WITNESSES[0].key])
    return made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path)


def pem(path: Path, signer: notes.Signer | None = SIGNER) -> Path:
    key = signer._private if signer else Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_an_export_that_holds(audit: Command, made: Made) -> None:
    found = audit("verify", made.export, "--key", SIGNER.key.text, "--head", made.head)
    assert (found.code, found.err) == (0, "")
    assert f"{ORIGIN}: 3 entries and 1 signed head hold." in found.out
    assert f"Cosigned up to entry 2 by {WITNESSES[0].key.text}." in found.out
    assert "2 reservations are open" in found.out
    assert "Not compared" not in found.out


def test_what_was_not_compared_is_said(audit: Command, made: Made) -> None:
    found = audit("verify", made.export)
    assert found.code == 0
    assert "Not compared: the ledger's key" in found.out
    assert "Not compared: heads that others kept" in found.out


def test_an_export_that_holds_as_json(audit: Command, made: Made) -> None:
    found = audit("verify", made.export, "--json")
    document = json.loads(found.out)
    assert document["holds"] is True
    assert (document["origin"], document["entries"], document["checkpoints"]) == (ORIGIN, 3, 1)
    assert document["cosigned"] == {WITNESSES[0].key.text: 3}
    assert (document["key_known"], document["heads_known"]) == (False, 0)
    head = Checkpoint.parse(notes.parse_note(made.head.read_bytes()).text)
    assert document["root"] == head.root.hex()


def test_the_first_bad_entry_is_named(audit: Command, made: Made) -> None:
    lines = made.export.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"rate":0.02', b'"rate":0.01')
    made.export.write_bytes(b"".join(lines))
    found = audit("verify", made.export)
    assert (found.code, found.out) == (1, "")
    assert "after 1 entries: the entry is not what its leaf hash says" in found.err
    document = json.loads(audit("verify", made.export, "--json").out)
    assert (document["holds"], document["first_bad_entry"]) == (False, 1)


def test_another_key_and_another_head_are_bad_evidence(audit: Command, made: Made) -> None:
    stranger = notes.Signer.generate(ORIGIN, kind=notes.NOTE)
    assert audit("verify", made.export, "--key", stranger.key.text).code == 1
    other = Checkpoint(origin=ORIGIN, size=2, root=bytes(32)).text
    made.head.write_bytes(notes.Note(text=other).signed(SIGNER.sign(other)).encode())
    found = audit("verify", made.export, "--head", made.head)
    assert found.code == 1
    assert "a head that somebody else kept" in found.err


@pytest.mark.parametrize("command", ["verify", "recompute"])
def test_what_cannot_be_read_is_the_users_mistake(
    audit: Command, made: Made, tmp_path: Path, command: str
) -> None:
    for arguments, words in (
        (["missing"], "No such file"),
        ([tmp_path], "Is a directory"),
        ([made.export, "--head", "missing"], "No such file"),
        ([made.export, "--head", made.export], "not a checkpoint"),
        ([made.export, "--key", "nonsense"], "--key: not a verifier key"),
        ([made.export, "--key", WITNESSES[0].key.text], "not a witness's"),
        ([], "Missing argument"),
    ):
        found = audit(command, *arguments)
        assert found.code == 2, arguments
        assert words in found.err
        assert found.out == ""


def test_a_file_of_something_else_is_the_users_mistake(
    audit: Command, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(b"\0" * 9)
    (tmp_path / "run.toml").write_text('name = "spring"\n')
    for other in (made.head, made.ledger, tmp_path / "weights", tmp_path / "run.toml"):
        for command in ("verify", "recompute"):
            found = audit(command, other)
            assert found.code == 2, other
            assert "not a ledger's export" in found.err
    lines = made.export.read_bytes().split(b"\n", 1)
    made.export.write_bytes(lines[0].replace(b'"entries":3', b'"entries":-3') + b"\n" + lines[1])
    assert audit("verify", made.export).code == 1  # an export, and a false one


def test_every_epsilon_again(audit: Command, made: Made) -> None:
    found = audit("recompute", made.export)
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(
        f"{ORIGIN}: 2 runs use 6.9% of the filter of order 4; the claim is "
        "(8, 1e-5)-DP at reader level; 27 more runs like the last one fit."
    )
    row = next(line for line in found.out.splitlines() if line.split()[:2] == ["1", "aaaaaaaa"])
    cells = row.split()
    assert cells[2:6] == ["200", "0.169225", "0.169225", "0.169225"]
    assert cells[7:] == [f"{STATED:.4f}"] * 2
    assert "DIFFERS" not in found.out


def test_every_epsilon_again_as_json(audit: Command, made: Made) -> None:
    document = json.loads(audit("recompute", made.export, "--json").out)
    assert document["holds"] is True
    assert document["claim"] == {"epsilon": 8.0, "delta": 1e-5}
    assert [run["entry"] for run in document["runs"]] == [1, 2]
    for run in document["runs"]:
        assert run["epsilon_pld"] == pytest.approx(STATED, abs=1e-9)
        assert run["renyi_nats"] == pytest.approx(run["renyi_nats_dp_accounting"], abs=1e-9)


def test_a_difference_is_a_failure(audit: Command, tmp_path: Path) -> None:
    made = make(tmp_path, stated=STATED - 1e-5)
    found = audit("recompute", made.export)
    assert found.code == 1
    assert "DIFFERS: entry 1: stated ε, PLD" in found.out
    assert "2 differences" in found.err
    document = json.loads(audit("recompute", made.export, "--json").out)
    assert document["holds"] is False
    assert len(document["failures"]) == 2


def test_an_infinite_epsilon_is_a_word_in_json(audit: Command, tmp_path: Path) -> None:
    made = make(tmp_path)
    reckless = events.SelfComposed(event=events.Gaussian(noise_multiplier=0.05), count=3)
    with Ledger(made.ledger) as ledger:
        ledger.change_policy(Caps(epsilon_max=5000.0))
        ledger.reserve(
            run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=reckless, head=None
        )
    assert (
        audit(
            "export",
            made.ledger,
            "--out",
            tmp_path / "new",
            "--signing-key",
            pem(tmp_path / "key.pem"),
        ).code
        == 0
    )
    document = json.loads(audit("recompute", tmp_path / "new", "--json").out)
    assert document["runs"][2]["epsilon_pld"] == "inf"
    assert document["runs"][2]["stated"] is None
    assert audit("recompute", tmp_path / "new").code == 0


def test_a_ledger_without_runs_has_a_sentence_and_no_table(audit: Command, tmp_path: Path) -> None:
    with Ledger.create(
        tmp_path / "l.db",
        signer=SIGNER,
        unit="reader",
        order=4,
        delta=1e-5,
        caps=Caps(epsilon_max=8.0),
    ) as ledger:
        (tmp_path / "kept").write_bytes(ledger.checkpoint(SIGNER).encode())
    assert audit("export", tmp_path / "l.db", "--out", tmp_path / "e").code == 0
    found = audit("recompute", tmp_path / "e")
    assert found.out.startswith(f"{ORIGIN}: 0 runs use 0.0%")
    assert "charged" not in found.out
    alone = audit("verify", tmp_path / "e").out
    assert "No witness's cosignature is in this file. That alone is no sign of a fault" in alone
    assert "ask a peer for the head that it kept, and compare it (--head)" in alone
    held = audit("verify", tmp_path / "e", "--head", tmp_path / "kept").out
    assert "A head that somebody else kept agrees with it, which tells as much." in held


def test_an_export_is_what_the_ledger_holds(audit: Command, made: Made, tmp_path: Path) -> None:
    new = tmp_path / "new.export"
    found = audit("export", made.ledger, "--out", new, "--witness", WITNESSES[0].key.text)
    assert (found.code, found.err) == (0, "")
    assert new.read_bytes() == made.export.read_bytes()
    assert "left out" not in found.out


def test_entries_without_a_signed_head_need_the_key(
    audit: Command, made: Made, tmp_path: Path
) -> None:
    with Ledger(made.ledger) as ledger:
        ledger.change_policy(Caps(epsilon_max=9.0))
    found = audit("export", made.ledger, "--out", tmp_path / "short")
    assert found.code == 0
    assert "1 later entries are not signed yet" in found.out
    assert audit("verify", tmp_path / "short").out.startswith(f"{ORIGIN}: 3 entries")
    key = pem(tmp_path / "key.pem")
    whole = audit("export", made.ledger, "--out", tmp_path / "w", "--signing-key", key, "--json")
    document = json.loads(whole.out)
    assert (document["entries"], document["left_out"]) == (4, 0)
    assert audit("verify", tmp_path / "w").out.startswith(f"{ORIGIN}: 4 entries and 2 signed heads")


def test_a_ledger_that_never_signed_needs_the_key(audit: Command, tmp_path: Path) -> None:
    Ledger.create(
        tmp_path / "l.db",
        signer=SIGNER,
        unit="reader",
        order=4,
        delta=1e-5,
        caps=Caps(epsilon_max=8.0),
    ).close()
    found = audit("export", tmp_path / "l.db", "--out", tmp_path / "e")
    assert found.code == 1
    assert "nothing in this ledger is signed yet" in found.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.db"]


def test_exports_asked_for_wrongly_write_nothing(
    audit: Command, made: Made, tmp_path: Path
) -> None:
    new, before = tmp_path / "new", made.ledger.read_bytes()
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        SIGNER._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for ledger, out, more, words in (
        ("missing", new, [], "no ledger"),
        (tmp_path, new, [], "no ledger"),
        (made.ledger, made.ledger, [], "the file exists"),
        (made.ledger, tmp_path / "no" / "folder", [], "cannot write"),
        (made.ledger, new, ["--witness", "nonsense"], "--witness: not a verifier key"),
        (made.ledger, new, ["--signing-key", "missing"], "No such file"),
        (made.ledger, new, ["--signing-key", made.head], "expected an Ed25519"),
        (made.ledger, new, ["--signing-key", encrypted], "not encrypted"),
        (made.ledger, new, ["--signing-key", pem(tmp_path / "k", None)], "not the key that signs"),
    ):
        found = audit("export", ledger, "--out", out, *more)
        assert found.code == 2, words
        assert words in found.err
    assert not new.exists()
    assert made.ledger.read_bytes() == before


def test_a_proven_fork(audit: Command, tmp_path: Path) -> None:
    one, other = (History([b"a", end]).head() for end in (b"b", b"c"))
    path = tmp_path / "pool.fork"
    path.write_bytes(fork_proof(one, other, log=LOG.key))
    found = audit("fork", path, "--key", LOG.key.text)
    assert (found.code, found.err) == (0, "")
    assert "example.org/pool signed two different histories of 2 entries" in found.out
    document = json.loads(audit("fork", path, "--key", LOG.key.text, "--json").out)
    assert document["holds"] is True
    for note in (one, other):
        assert Checkpoint.parse(note.text).root.hex() in document["sentence"]
    found = audit("fork", path, "--key", SIGNER.key.text, "--json")
    assert (found.code, json.loads(found.out)["holds"]) == (1, False)
    assert audit("fork", path, "--key", "nonsense").code == 2
    assert audit("fork", path).code == 2
    assert audit("fork", tmp_path / "missing", "--key", LOG.key.text).code == 2


def test_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(audit_console, "SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr(audit_console.log, "info", lambda text, *parts: said.append(text % parts))
    with audit_console.percents("verifying") as moved:
        for done in (0, 1, 50, 50, 199, 200):
            moved(done, 200)
    assert said == ["verifying: 25 %", "verifying: 99 %", "verifying: 100 %"]


def test_an_audit_needs_no_torch_flower_or_transformers(made: Made) -> None:
    program = """
import sys
from presspool import cli
sys.argv = ["presspool", "audit", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "flwr", "transformers", "peft", "opacus"} & sys.modules.keys()
light = {"pydantic", "cryptography", "dp_accounting", "numpy"} & sys.modules.keys()
print(sorted(heavy), sorted(light) if "--help" in sys.argv else "")
"""
    for arguments in (
        ["--help"],
        ["verify", made.export],
        ["recompute", made.export],
        ["report", made.export, "--format", "json", "--output", made.export.parent / "r.json"],
    ):
        result = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=REPOSITORY / "src",
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        shown = "[] []" if arguments == ["--help"] else "[] "
        assert result.stdout.endswith(shown + "\n")
