"""The engine's benchmark: honest contestants and ratios, a page that keeps its author's text."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.bases.language_bases import LLAMA
from transformers import LlamaConfig, LlamaForCausalLM

from presspool.common.base.errors import InputError
from presspool.simulations.bench import engine_rows
from presspool.simulations.bench.engine_bench import bench_engine, units_of_work
from presspool.simulations.bench.engine_report import draw, section
from presspool.simulations.bench.engine_results import EngineBench, EngineMeasurement, Timing
from presspool.simulations.bench.engine_rows import ROWS, Row
from presspool.simulations.bench.engine_steps import CONTESTANTS
from presspool.simulations.bench.engine_tasks import make_task

SMALL = replace(ROWS["minilm-qv"], records=4, tokens=6)
WRITES = replace(ROWS["smollm2-qv"], model="small-llama", records=4, tokens=6, given=(6, 3, 5, 6))


@pytest.fixture(autouse=True)
def _small_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LlamaConfig(**LLAMA, vocab_size=97, tie_word_embeddings=True)
    monkeypatch.setitem(engine_rows.ENCODERS, "small-llama", lambda: LlamaForCausalLM(config))


def changes(contestant: str, row: Row = SMALL) -> list[torch.Tensor]:
    """What one step of a contestant changes; no factor is zero, so that all have gradients."""
    task = make_task(row, "cpu")
    torch.manual_seed(1)
    for parameter in task.parameters:
        torch.nn.init.normal_(parameter, std=0.1)
    before = [p.detach().clone() for p in task.parameters]
    CONTESTANTS[contestant](task)()
    return [p.detach() - old for p, old in zip(task.parameters, before, strict=True)]


@pytest.mark.parametrize("row", [SMALL, WRITES], ids=["classifier", "language model"])
@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_every_contestant_trains_every_parameter(contestant: str, row: Row) -> None:
    assert all(change.any() for change in changes(contestant, row))


@pytest.mark.parametrize("row", [SMALL, WRITES], ids=["classifier", "language model"])
def test_the_contestants_without_privacy_do_the_same_step(row: Row) -> None:
    for peft, ours in zip(changes("peft", row), changes("ours-nonprivate", row), strict=True):
        torch.testing.assert_close(ours, peft, atol=1e-6, rtol=1e-4)


CHILD = """
from dataclasses import replace
from presspool.simulations.bench.engine_rows import ROWS
from presspool.simulations.bench.engine_steps import main
ROWS["small"] = replace(ROWS["minilm-qv"], records=4, tokens=6)
main("small", "ours-reader", "cpu", "1")
"""


def test_a_contestant_answers_lines_with_json() -> None:
    """In a process of its own: what others freed before would count against its peak."""
    said = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="step\nreset\nstep\npeak\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    first, reset, second, peak = map(json.loads, said.stdout.splitlines())
    assert first.keys() == second.keys() == {"seconds", "cpu_seconds"}
    assert reset["trainable"] == sum(p.numel() for p in make_task(SMALL, "cpu").parameters)
    assert peak["peak_bytes"] >= 0


def measured(seconds: list[float], peak: int = 100) -> EngineMeasurement:
    timings = [Timing(seconds=s, cpu_seconds=2 * s) for s in seconds]
    return EngineMeasurement(timings=timings, peak_bytes=peak, trainable=1)


def made_bench(**of: EngineMeasurement) -> EngineBench:
    found = {name: of.get(name.replace("-", "_"), measured([1.0] * 3)) for name in CONTESTANTS}
    machine = {"processor": "a processor", "graphics processor": "not used"}
    return EngineBench(machine=machine, measured={"minilm-qv": found})


def test_ratios_are_taken_turn_by_turn() -> None:
    peft = measured([1.0, 10.0, 2.0])  # the machine was busy in the second turn, for everybody
    ours = measured([0.9, 9.0, 1.8])
    assert ours.ratio(peft) == pytest.approx((0.9, 0.0))
    assert ours.cpu_ratio(peft) == pytest.approx(0.9)
    assert peft.median_seconds == 2.0
    assert peft.spread_seconds == pytest.approx(4.5)


def test_claims_say_what_was_met_and_what_was_not() -> None:
    bench = made_bench(
        ours_reader=measured([1.02] * 3, peak=1000), opacus_hooks=measured([1.1] * 3)
    )
    met = {claim.text.partition(": ")[2]: claim.met for claim in bench.claims()}
    assert met == {
        "reader-level ÷ non-private PEFT": False,
        "reader-level ÷ our own non-private": True,
        "reader-level ÷ record-level": True,
        "reader-level ÷ Opacus hooks": True,
        "peak memory ÷ (1.05 × PEFT + readers × trained × 4 bytes)": False,
    }
    memory = bench.claims()[-1]
    assert memory.value == pytest.approx(1000 / (1.05 * 100 + 16 * 4))


def test_files_hold_what_was_measured(tmp_path: Path) -> None:
    bench = made_bench(ours_reader=measured([0.5, 0.5, 0.5]))
    row: dict[str, Any] = bench.to_json()["rows"]["minilm-qv"]["ours-reader"]
    assert row["ratio"] == 0.5
    assert row["samples_per_second"] == 64.0
    json.dumps(bench.to_json(), allow_nan=False)
    draw(bench, tmp_path / "engine.svg")
    assert "<svg" in (tmp_path / "engine.svg").read_text()


def test_the_section_says_what_was_measured_and_what_was_missed() -> None:
    text = section(made_bench(ours_reader=measured([0.123] * 3)))
    assert "0.123 ± 0.000" in text
    assert "MiniLM" in text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rows": ["minilm"]}, "--row"),
        ({"rows": ["qwen-all"]}, "--row"),
        ({"repeats": 0}, "--repeats"),
        ({"device": "tpu"}, "--device"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], where: str
) -> None:
    usage: dict[str, Any] = {"rows": None, "repeats": 1, "device": "cpu"} | change
    with pytest.raises(InputError, match=where):
        bench_engine(out=tmp_path / "out", threads=1, **usage)
    assert not (tmp_path / "out").exists()


def test_the_work_is_known_beforehand() -> None:
    rows = [row for row in ROWS.values() if not row.cuda_only]
    assert units_of_work(None, 10, "cpu") == len(rows) * (len(CONTESTANTS) + 10)
