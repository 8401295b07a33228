"""`presspool bench gpu`: checks that hold and can fail, the share of the peak, a machine so bare.

What runs here runs on the CPU: no test has a graphics card.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import REPOSITORY
from torch import Tensor

from presspool.client.engine.step_gradients import record_losses
from presspool.simulations.bench.card import card_checks
from presspool.simulations.bench.card.card_bench import ROWS_OF, CardPage
from presspool.simulations.bench.card.card_checks import CardCheck
from presspool.simulations.bench.engine_bench import PINNED, machine
from presspool.simulations.bench.engine_flops import peak_of, shape_of
from presspool.simulations.bench.engine_results import EngineBench, EngineMeasurement, Timing
from presspool.simulations.bench.engine_rows import MORE_ON_CUDA, ROWS
from presspool.simulations.bench.engine_steps import CONTESTANTS

# Only what torch, transformers, PEFT, NumPy and pytest bring, and what is named, can be imported.
BARE = """
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def spelt(name):
    return re.sub(r"[-_.]+", "-", name).lower()

there, asked = set(), {"torch", "transformers", "peft", "numpy", "pytest"}
while asked:
    name = spelt(asked.pop())
    try:
        needs = [need for need in requires(name) or () if "extra ==" not in need]
    except PackageNotFoundError:
        continue
    there.add(name)
    asked |= {spelt(re.split(r"[^\\w.-]", need)[0]) for need in needs} - there
there |= {"presspool", *map(spelt, sys.argv[1].split())}

class Bare:
    tops, others = packages_distributions(), list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        of = {spelt(one) for one in self.tops.get(name, ())}
        if of and not of & there:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.others)
        return next((spec for spec in found if spec), None)

    def find_distributions(self, *asked):
        able = (finder for finder in self.others if hasattr(finder, "find_distributions"))
        return (one for finder in able for one in finder.find_distributions(*asked))

sys.meta_path[:] = [Bare()]
"""


def lacked() -> str:
    """What `make gpu-wheels` brings, and the two that are too large for it."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (names,) = re.findall(r"^GPU_LACKS := (.*)$", makefile, re.MULTILINE)
    return f"{names} pyarrow scipy"


def on_a_bare_machine(code: str, brought: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BARE + code, brought],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=280,
    )


CHECKED = """
from presspool.client.engine.step_gradients import record_losses
from presspool.simulations.bench.card import card_checks
for family in set(card_checks.FAMILIES) - {"classification"}:
    del card_checks.FAMILIES[family]
card_checks.main("cpu")
"""


@pytest.mark.soak
def test_all_checks_hold_on_a_bare_cpu() -> None:
    """In a process of its own: the memory is capped, and what others freed would be above it."""
    said = on_a_bare_machine(CHECKED, lacked(), **PINNED)
    found = [CardCheck(**json.loads(line)) for line in said.stdout.splitlines()]
    assert len(found) == 5 + 1, said.stderr
    assert [check for check in found[:-1] if check.outcome != "held"] == []
    assert (found[-1].name, found[-1].outcome) == ("4-bit base weights", "not here")
    assert "1024 to 512 tokens" in found[4].says


NO_CARD = """
sys.argv[1:] = ["bench", "gpu"]
import presspool.simulations.bench.card.card_bench
from presspool.cli import main
main()
"""


def test_without_a_card_it_says_so_and_exits_with_3() -> None:
    found = on_a_bare_machine(NO_CARD, lacked(), CUDA_VISIBLE_DEVICES="")
    assert found.returncode == 3, found.stderr
    assert found.stdout == ""
    (sentence,) = found.stderr.splitlines()
    assert sentence.startswith("No graphics card is at hand")


def test_a_machine_that_lacks_more_is_seen() -> None:
    brought = lacked().replace("opacus", "")
    found = on_a_bare_machine(NO_CARD, brought, CUDA_VISIBLE_DEVICES="")
    assert found.returncode not in (0, 3)
    assert "No module named 'opacus'" in found.stderr


def test_a_wrong_engine_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*args: Any) -> Tensor:
        return record_losses(*args) * 1.001

    monkeypatch.setattr(card_checks, "record_losses", losses)
    first = next(card_checks.checks("cpu"))
    assert first.outcome == "failed"
    assert "off by 1.0e-03" in first.says


def test_errors_are_relative_to_the_largest_reader() -> None:
    right = {"a": torch.tensor([[3.0, 4.0], [0.0, 0.1]])}
    got = {"a": torch.tensor([[3.0, 4.0], [0.0, 0.6]])}
    assert card_checks._compared(got, right, 0.11) == "off by 1.0e-01 at most, bound 1e-01"
    for wrong in (0.09, float("nan")):
        with pytest.raises(ArithmeticError):
            card_checks._compared(got if wrong > 0 else {"a": right["a"] * wrong}, right, 0.09)
    with pytest.raises(ArithmeticError):  # nothing to compare
        card_checks._compared(got, {"a": torch.zeros(2, 2)}, 0.5)


# --- The share of the peak -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("minilm", (6 * (4 * 384**2 + 2 * 384 * 1536), 6, 384)),
        ("bert", (12 * (4 * 768**2 + 2 * 768 * 3072), 12, 768)),
        ("gpt2", (12 * (4 * 768**2 + 2 * 768 * 3072), 12, 768)),
        ("smollm2", (30 * 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 49_152 * 576, 30, 576)),
        ("llama", (28 * 2048 * (2 * 2048 + 2 * 512 + 3 * 6656) + 49_152 * 2048, 28, 2048)),
    ],
)
def test_shapes_are_those_of_the_models(model: str, shape: tuple[int, int, int]) -> None:
    """By hand from the configurations; nothing of the large ones is made."""
    assert shape_of(model) == shape


def page_of(card: str, seconds: float = 0.01) -> CardPage:
    one = EngineMeasurement(
        timings=[Timing(seconds=seconds, cpu_seconds=seconds)] * 3, peak_bytes=10, trainable=1000
    )
    on = machine("cpu", 2, 3) | {"graphics processor": card}
    bench = EngineBench(machine=on, measured={"minilm-qv": dict.fromkeys(CONTESTANTS, one)})
    return CardPage(bench=bench)


def test_the_share_of_the_peak_is_the_one_by_hand() -> None:
    """256 records of 128 tokens: (4·10,616,832 + 6·1,000)·32,768 + 12·6·384·256·128² a step."""
    by_hand = 1_391_766_011_904 + 115_964_116_992
    found = page_of("NVIDIA H200").to_json()["rows"]["minilm-qv"]["ours-reader"]
    assert found["share_of_peak"] == pytest.approx(by_hand / (0.01 * 989e12))
    assert found["tokens_per_second"] == pytest.approx(32_768 / 0.01)
    unknown = page_of("NVIDIA GeForce 1").to_json()["rows"]["minilm-qv"]["ours-reader"]
    assert unknown["share_of_peak"] is None


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
    ],
)
def test_peaks_go_by_the_cards_whole_name(card: str, peak: float | None) -> None:
    assert peak_of(card) == peak


def test_a_card_gets_more_records_of_the_same_lengths() -> None:
    row = ROWS["minilm-qv-mixed"]
    assert row.on("cpu") == row
    assert row.on("cuda").lengths == MORE_ON_CUDA * row.lengths
    assert row.on("cuda").records == len(row.on("cuda").lengths)
    assert set(ROWS_OF["cuda"]) <= set(ROWS)


# --- Page and wheels -----------------------------------------------------------------------------


def test_the_page_has_card_versions_checks_and_what_is_missing(tmp_path: Path) -> None:
    page = page_of("NVIDIA H200")
    page.checks.append(CardCheck(name="a check", outcome="held", says="off by 0"))
    before = page.failed
    page.missing["bert-all"] = "peft on bert-all ended"
    assert (before, page.failed) == (False, True)
    page.write(tmp_path / "new")
    text = (tmp_path / "new" / "gpu.md").read_text(encoding="utf-8")
    for part in (
        "- graphics processor: NVIDIA H200",
        f"torch {torch.__version__}",
        "- CUDA: ",
        "| a check | held | off by 0 |",
        "Not measured: bert-all: peft on bert-all ended",
        "share of the card's peak",
        "| 15.2% |",
        "256 × 128 tokens",
    ):
        assert part in text
    assert json.loads((tmp_path / "new" / "gpu.json").read_text())["missing"] == page.missing
    failed = replace(page.checks[0], outcome="failed")
    assert CardPage(bench=page.bench, checks=[failed]).failed


@pytest.mark.parametrize(("mebibytes", "fits"), [(50, True), (51, False)])
def test_wheels_have_a_limit(tmp_path: Path, mebibytes: int, fits: bool) -> None:
    with (tmp_path / "one.whl").open("wb") as file:
        file.truncate(mebibytes * 2**20 - 2**15)  # the folder itself has some bytes
    found = subprocess.run(
        ["make", "gpu-size", f"GPU_WHEELS={tmp_path}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (found.returncode == 0) == fits
    assert f"{mebibytes} MiB, at most 50" in found.stdout


@pytest.mark.soak
def test_the_whole_command_runs_on_a_cpu(tmp_path: Path) -> None:
    command = ["bench", "gpu", "--device", "cpu", "--repeats", "1", "--out", str(tmp_path)]
    found = subprocess.run(
        [sys.executable, "-m", "presspool.cli", *command], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "minilm-qv: " in found.stdout.splitlines()[-1]
    assert "### MiniLM q,v, 32 × 128 tokens" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
