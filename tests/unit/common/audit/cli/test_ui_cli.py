"""`presspool audit ui` as typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


@pytest.fixture
def ui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "audit", "ui")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_serves_and_ends(desk: Desk, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "presspool.cli",
            "audit",
            "ui",
            *desk.exports,
            desk.run,
            "--port",
            "0",
            "--json",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(3))
        with urllib.request.urlopen(json.loads(said)["address"]) as answer:
            assert b"presspool/north-post" in answer.read()
        process.send_signal(stop)
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()


def test_evidence_that_does_not_hold_is_exit_code_1(ui: Command, desk: Desk) -> None:
    text = desk.exports[0].read_bytes()
    desk.exports[0].write_bytes(text.replace(b'"policy-noise"', b'"policy-steps"'))
    code, _, said = ui(desk.exports[0], "--port", 0)
    assert code == 1
    assert "north-post.export" in said


@pytest.mark.parametrize("arguments", [("/no/such/file",), (), ("--port", "70000", "x")])
def test_what_makes_no_sense_is_exit_code_2(ui: Command, arguments: tuple[str, ...]) -> None:
    assert ui(*arguments)[0] == 2


def test_a_key_of_no_ledger_here_is_refused(ui: Command, desk: Desk) -> None:
    from tests.fakes.made_ledgers import SIGNER

    code, _, said = ui(desk.exports[0], "--port", 0, "--key", SIGNER.key.text)
    assert code == 2
    assert "another ledger" in said


@pytest.mark.parametrize("package", ["fastapi", "prometheus_client", "starlette", "uvicorn"])
def test_a_missing_package_is_named_with_what_to_install(
    ui: Command, desk: Desk, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, said = ui(desk.exports[0], "--port", 0)
    assert code == 2
    assert "presspool[serve]" in said


def test_no_torch_is_loaded() -> None:
    """A compliance team's machine needs none."""
    program = (
        "import sys; import presspool.common.audit.dashboard.asgi_app; "
        "import presspool.common.audit.dashboard.serving; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'flwr')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
