"""`presspool bench export`: torch and both graphs answer in turns; the page says what is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.conftest import made_rows
from tests.fakes.instruments.typed import typed
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.contract.contract import Contract


def test_all_contestants_take_turns(
    tmp_path: Path,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter, texts, page = tmp_path / "adapter", tmp_path / "test.csv", tmp_path / "page.md"
    made_adapter(adapter, contract)
    with texts.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, ["text", "label"], extrasaction="ignore")
        rows.writeheader()
        rows.writerows(records := made_rows("held-out", 110))
    run = typed(monkeypatch, capsys, "bench", "export")
    told = run(adapter, "--texts", texts, "--turns", 2, "--page", page, "--json")
    assert told.code == 0, told.err
    said = json.loads(told.out)
    assert said["seconds"].keys() == said["ratios"].keys() == {"torch", "onnx", "int8"}
    assert all(len(own) == 2 for own in said["seconds"].values())
    assert said["ratios"]["torch"] == [1, 1]
    assert all(one["texts"] == len(records) for one in said["found"].values())
    assert 0 < said["sizes"]["int8"] < said["sizes"]["onnx"]
    lines = page.read_text().splitlines()
    assert sum(line.startswith(("| `onnx` |", "| `int8` |")) for line in lines) == 2
