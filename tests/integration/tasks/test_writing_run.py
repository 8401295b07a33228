"""Federations that write, from their run file to the report: customer service, and a BART."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.bases.paired_bases import TARGETS, write_paired_base
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_runs import toml

from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file

EXAMPLE = REPOSITORY / "examples" / "service.toml"


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=100)


def simulated(presspool: Command, folder: Path, body: dict[str, Any], number: int) -> Path:
    run, out = folder / "run.toml", folder / f"out-{number}"
    run.write_text(toml(body))
    said = presspool("simulate", run, "--out", out, "--deterministic", 1)
    assert said.code == 0, said.err
    return out


def plain(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Without noise, on one worker."""
    privacy = body["privacy"] | {"noise_multiplier": 0.0, "sampling_rate": 1.0}
    return body | {"privacy": privacy, "server": {"name": "adam", "learning_rate": 0.1}} | changes


def test_customer_service_is_learnt_and_compared(
    presspool: Command, contract_body: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    task = read_run_file(EXAMPLE).contract.body()["task"] | {"answer_length": 4}
    rows = (EXAMPLE.parent / "service.jsonl").read_text().splitlines()
    names = ["oldermoor-courier", "brackwell-herald"]
    few = {f"{name}-{number:05}" for name in names for number in range(16)}
    some = [row for row in rows if json.loads(row)["reader"] in few]
    (tmp_path / "service.jsonl").write_text("\n".join(some))
    public = (EXAMPLE.parent / "service_held_out.jsonl").read_text().splitlines()[:12]
    (tmp_path / "public.jsonl").write_text("\n".join(public))
    body = plain(
        contract_body,
        model={"id": str(tiny_llama)},
        task=task,
        adapter={"rank": 2, "targets": ["o_proj", "down_proj"]},
        outlets=dict.fromkeys(names, 16),
        simulation={"data": "service.jsonl", "partition": "column:outlet", "workers": 1},
        evaluation={"data": "public.jsonl"},
    )
    outs = [simulated(presspool, tmp_path, body, number) for number in range(2)]
    first, again = (read_result(out) for out in outs)
    assert first.adapter_sha256 == again.adapter_sha256
    assert first.writing == again.writing
    assert first.final.metrics["nats"] < first.rounds[0].metrics["nats"]  # type: ignore[operator]
    assert first.writing is not None
    assert first.writing.rouge.records == len(public)
    assert first.writing.adapter.rouge_l == first.final.metrics["rouge_l"]
    assert first.writing.base.rouge_l == first.rounds[0].metrics["rouge_l"]
    assert first.writing.unwanted is not None
    asked = sum("idiot" in row or "liar" in row or "stupid" in row for row in public)
    assert first.writing.unwanted.asked >= asked > 0
    assert "Base model and adapter" in (outs[0] / "report.html").read_text()


def test_a_bart_from_its_configuration_learns_headlines(
    presspool: Command, contract_body: dict[str, Any], tmp_path: Path
) -> None:
    base = write_paired_base(tmp_path / "bart", "bart")
    rows = [
        {"outlet": name, "reader": f"r{i}", "article": f"Rain fell on day {i}.", "summary": "Rain"}
        for name in ("north", "south")
        for i in range(8)
    ]
    (tmp_path / "news.jsonl").write_text("\n".join(map(json.dumps, rows)))
    public = [{n: rows[i][n] for n in ("article", "summary")} for i in range(4)]
    (tmp_path / "public.jsonl").write_text("\n".join(map(json.dumps, public)))
    body = plain(
        contract_body,
        model={"id": str(base)},
        task={
            "kind": "generation",
            "format": "summary",
            "max_length": 48,
            "answer_length": 4,
            "beams": 2,
        },
        adapter={"rank": 4, "method": "fedit", "targets": TARGETS["bart"]},
        outlets={"north": 8, "south": 8},
        simulation={"data": "news.jsonl", "partition": "column:outlet", "workers": 1},
        evaluation={"data": "public.jsonl"},
    )
    out = simulated(presspool, tmp_path, body, 0)
    result = read_result(out)
    assert result.final.metrics["nats"] < result.rounds[0].metrics["nats"]  # type: ignore[operator]
    assert result.writing is not None
    assert result.writing.lead is not None
    assert 0 < result.writing.lead.rouge_1 < 1
    said = presspool("predict", out, tmp_path / "public.jsonl", "--column", "article")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == len(public)
