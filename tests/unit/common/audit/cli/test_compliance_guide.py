"""The compliance guide, typed from top to bottom on files as the demo leaves them."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import typed
from tests.fakes.made_evidence import OUTLETS, make_desk, signer_of

GUIDE = REPOSITORY / "docs" / "guides" / "compliance.md"
DEMO = ("brackwell-herald", OUTLETS[0])


def lines() -> list[str]:
    """What stands in the guide's sh blocks, in its order."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip()]


def as_the_demo_leaves_it(folder: Path) -> Path:
    """Exports, run and homes where the guide says; a head that a peer kept."""
    desk = make_desk(folder / "made")
    run = folder / "runs" / "demo" / "run"
    shutil.copytree(desk.run, run)
    (run / "ledgers").mkdir()
    for name, ledger, export in zip(OUTLETS, desk.ledgers, desk.exports, strict=True):
        home = run / "outlets" / name
        (home / "identity").mkdir(parents=True)
        shutil.copy2(ledger, home)
        key = home / "identity" / "log.key"
        key.touch(mode=0o600)
        key.write_text(signer_of(name)._private.private_bytes_raw().hex())
        shutil.copy2(export, run / "ledgers")
    shutil.copy2(desk.folder / f"{OUTLETS[0]}.checkpoint", folder / "kept")
    return desk.fields


def test_every_command_of_the_guide_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled_in = as_the_demo_leaves_it(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = 0
    for line in lines()[1:]:  # the demo itself has its own tests
        words = shlex.split(line.replace(*DEMO).replace("KEPT-BY-A-PEER", "kept"))
        match words:
            case ["cd", "-"]:
                monkeypatch.chdir(tmp_path)
            case ["cd", folder]:
                monkeypatch.chdir(folder)
            case ["mv", file, folder]:
                shutil.move(file, folder)
            case ["presspool", "audit", *rest]:
                rest = [
                    found
                    for word in rest
                    for found in (map(str, sorted(Path().glob(word))) if "*" in word else [word])
                ]
                rest = [signer_of(OUTLETS[0]).key.text if w == "KEY" else w for w in rest]
                if "pdf" in rest:
                    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
                found = typed(monkeypatch, capsys, "audit")(*rest)
                assert found.code == 0, (line, found.err)
                run += 1
                if rest[0] == "fields":
                    shutil.copy2(filled_in, rest[-1])
            case _:
                raise AssertionError(line)
    assert run >= 9
    made = {"outlet.export", "fields.toml", "report.html", "report.pdf", "all.html"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "runs" / "demo" / "run" / "adapter" / "privacy_card.json").exists()
