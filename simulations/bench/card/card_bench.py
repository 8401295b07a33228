"""`presspool bench gpu`: is the engine right on this graphics card, and how fast?

First the checks of `card_checks`, then the engine's benchmark on rows of five sizes. The page and
its JSON are written again after each part, so that whatever ends the command leaves the rest.

Example: ``bench_card(device="cpu", repeats=1, threads=2, out=Path("build/gpu"))``
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from presspool.common.base.errors import InputError
from presspool.simulations.bench.card.card_checks import CardCheck
from presspool.simulations.bench.engine_bench import PINNED, machine, measure
from presspool.simulations.bench.engine_report import section
from presspool.simulations.bench.engine_results import EngineBench

ROWS_OF = {
    "cuda": ("minilm-qv", "bert-all", "gpt2-qv", "smollm2-qv", "llama-qv"),
    "cpu": ("minilm-qv",),
}
"""On a CPU only the smallest, to try the command itself."""


@dataclass(kw_only=True)
class CardPage:
    """What is known so far.

    Attributes:
        bench: the machine, and the rows that were measured.
        checks: those that are done.
        missing: row to why it was not measured.
    """

    bench: EngineBench
    checks: list[CardCheck] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a check failed or a row is missing."""
        return bool(self.missing) or any(check.outcome == "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        checks = [asdict(check) for check in self.checks]
        return {"checks": checks, "missing": self.missing, **self.bench.to_json()}

    def text(self) -> str:
        """The page as Markdown."""
        lines = [
            "# PressPool on this graphics card",
            "",
            "| check | outcome | |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {c.name} | {c.outcome} | {c.says} |" for c in self.checks]
        lines += [f"\nNot measured: {row}: {why}" for row, why in self.missing.items()]
        return "\n".join([*lines, "", section(self.bench), ""])

    def write(self, out: Path) -> None:
        """Write `gpu.md` and `gpu.json` into a folder, which is made if needed."""
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.md").write_text(self.text(), encoding="utf-8")
        (out / "gpu.json").write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def bench_card(
    *,
    device: str,
    repeats: int,
    threads: int,
    out: Path,
    said: Callable[[str], None] = lambda _: None,
) -> CardPage:
    """Check, measure, and write the page.

    Args:
        device: "cuda", or "cpu" to try the command itself.
        repeats: turns that each contestant gets.
        threads: of each process.
        out: folder for `gpu.md` and `gpu.json`.
        said: told a line for each check and row as soon as it is done.

    Raises:
        InputError: no such device.
    """
    if device not in ROWS_OF:
        raise InputError("device", where="--device", expected="cuda or cpu", got=device)
    bench = EngineBench(machine=machine(device, threads, repeats), measured={})
    page = CardPage(bench=bench)
    for check in _checks(device, threads):
        page.checks.append(check)
        page.write(out)
        said(f"{check.name}: {check.outcome}: {check.says}")
    for row in ROWS_OF[device]:
        said(_row(page, row, device=device, repeats=repeats, threads=threads))
        page.write(out)
    return page


def _checks(device: str, threads: int) -> Iterator[CardCheck]:
    """Those of the checks' process, and its end, where it came too early."""
    command = [sys.executable, "-m", "presspool.simulations.bench.card.card_checks", device]
    settings = os.environ | PINNED | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, env=settings, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield CardCheck(**json.loads(line))
    if process.returncode:
        says = f"their process ended with {process.returncode}; its error is above"
        yield CardCheck(name="all checks done", outcome="failed", says=says)


def _row(page: CardPage, row: str, *, device: str, repeats: int, threads: int) -> str:
    """Measure one row; a line on it."""
    try:
        found = measure(row, repeats, device=device, threads=threads, advance=lambda: None)
    except RuntimeError as error:
        page.missing[row] = str(error)
        return f"{row}: not measured: {error}"
    page.bench.measured[row] = found
    ours, share = found["ours-reader"], page.bench.share_of_peak(row, found["ours-reader"])
    return (
        f"{row}: {ours.median_seconds:.4f} s a step, "
        f"{sum(page.bench.row(row).lengths) / ours.median_seconds:.0f} tokens/s, "
        f"share of peak {'unknown' if share is None else f'{share:.1%}'}, "
        f"{ours.ratio(found['peft'])[0]:.3f} of PEFT"
    )
