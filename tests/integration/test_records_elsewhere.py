"""A simulation whose records a URL names: trained where they can be read, and refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import checkpointed, simulated_here, write_run

from presspool.common.runs.run_file import read_run_file
from presspool.simulations.simulate import SimulateOptions, simulate


@pytest.fixture
def presspool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return typed(monkeypatch, capsys)


@pytest.fixture
def run_toml(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    return write_run(tmp_path, contract_body)


def by_url(run_toml: Path, url: str = "") -> Path:
    url = url or f"file://{run_toml.parent}/data/{{outlet}}.parquet"
    found = run_toml.with_name("elsewhere.toml")
    found.write_text(run_toml.read_text().replace('"data" = "data"', f'"data" = "{url}"'))
    return found


def test_the_same_bytes_as_from_a_folder_and_on_when_it_was_stopped(run_toml: Path) -> None:
    expected = simulated_here(run_toml, run_toml.parent / "here", deterministic=7)
    options = SimulateOptions(out=run_toml.parent / "there", workers=0, deterministic=7)

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(read_run_file(by_url(run_toml)), options, on_reply=stopped)
    again = SimulateOptions(out=options.out, workers=0, deterministic=7, resume=True)
    simulate(read_run_file(by_url(run_toml)), again)
    assert checkpointed(options.out) == expected


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("s3://press/outlets", "{outlet}"),
        ("s3://me:secret@press/{outlet}.csv", "without user and password"),
        ("nowhere://press/{outlet}.csv", "cannot be read"),
        ("file:///missing/{outlet}.csv", "no such file"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stays(
    presspool: Command, run_toml: Path, url: str, word: str
) -> None:
    out = run_toml.parent / "out"
    said = presspool("simulate", by_url(run_toml, url), "--out", out)
    assert said.code == 2
    assert word in said.err
    assert not out.exists()
