"""`presspool bench engine`: what reader-level privacy costs a training step on this machine.

Every contestant of a row is a process of its own; they take turns step by step, forwards and
backwards and each first in its turn (A B C, C B A, B C A, A C B, ...), so that whatever else the
machine does falls on all of them alike. The ratio of a contestant is the median over turns of its
time by that of non-private PEFT in the same turn. On a CPU peak memory is measured in further
processes, whose allocator returns memory at once (`PINNED`), because that costs time.

Invariants:
- The results hold the machine's parts, never its paths or its owner.
- A contestant's process ends with its block, also after an error.

Example: ``bench_engine(rows=None, repeats=20, out=Path("runs/bench"), device="cpu", threads=2)``
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from presspool.common.base.errors import InputError
from presspool.simulations.bench.engine_report import draw, section
from presspool.simulations.bench.engine_results import EngineBench, EngineMeasurement, Timing
from presspool.simulations.bench.engine_rows import ROWS
from presspool.simulations.bench.engine_steps import CONTESTANTS
from presspool.simulations.doc_sections import write_section
from presspool.simulations.plots import require_plots

__all__ = ["PINNED", "bench_engine", "machine", "measure", "section", "units_of_work"]

_WARM_UP, _MEMORY_STEPS = 2, 2
PINNED = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
}


def bench_engine(
    *,
    rows: Sequence[str] | None,
    repeats: int,
    out: Path,
    device: str,
    threads: int,
    docs: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> EngineBench:
    """Measure, and write `engine.json`, `engine.svg` and, if asked for, a section of the docs.

    Args:
        rows: names out of `ROWS`; None for all that the device is for.
        repeats: turns a contestant gets, beside the warm-up.
        out: folder for the files; made if needed.
        device: "cpu" or "cuda".
        threads: threads of each contestant's process.
        docs: the Markdown file whose marked section is replaced: that of all rows, or of those
            that were chosen.
        advance: called after each contestant's measurement of memory and each turn.

    Raises:
        InputError: an unknown row, no turns, no such device; no Matplotlib.
    """
    chosen = _checked(rows, repeats, device)
    require_plots()
    measured = {
        row: measure(row, repeats, device=device, threads=threads, advance=advance)
        for row in chosen
    }
    bench = EngineBench(machine=machine(device, threads, repeats), measured=measured)
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.json").write_text(json.dumps(bench.to_json(), indent=1) + "\n")
    draw(bench, out / "engine.svg")
    if docs is not None:
        # A run of some rows is no part of another's, and has a section of its own.
        write_section(docs, "-".join(("engine", device, *(rows or ()))), section(bench))
    return bench


def units_of_work(rows: Sequence[str] | None, repeats: int, device: str) -> int:
    """How often `bench_engine` will call `advance`."""
    return len(_checked(rows, repeats, device)) * (len(CONTESTANTS) + repeats)


def _checked(rows: Sequence[str] | None, repeats: int, device: str) -> list[str]:
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        got = f"{device!r}, which this installation of torch cannot use"
        raise InputError("device", where="--device", expected="cpu, or cuda on a GPU", got=got)
    if repeats < 1:
        raise InputError("turns", where="--repeats", expected="at least 1", got=repeats)
    on_device = [name for name, row in ROWS.items() if device == "cuda" or not row.cuda_only]
    unknown = sorted(set(rows or ()) - set(on_device))
    if unknown:
        raise InputError(
            f"rows for {device}",
            where="--row",
            expected=", ".join(on_device),
            got=", ".join(unknown),
        )
    return [name for name in on_device if not rows or name in rows]


def measure(
    row: str, repeats: int, *, device: str, threads: int, advance: Callable[[], None]
) -> dict[str, EngineMeasurement]:
    """Measure all contestants on one row; arguments as for `bench_engine`.

    Raises:
        RuntimeError: a contestant's process ended.
    """
    memory = {}
    for name in CONTESTANTS if device == "cpu" else ():
        with _contestant(row, name, device, threads, PINNED) as ask:
            memory[name] = _memory(ask)
        advance()
    with ExitStack() as stack:
        asks = {
            name: stack.enter_context(_contestant(row, name, device, threads, {}))
            for name in CONTESTANTS
        }
        timings = _take_turns(asks, repeats, advance)
        # A card's allocator counts exactly as it is, so there are no further processes.
        for name, ask in asks.items() if device == "cuda" else ():
            memory[name] = _memory(ask)
            advance()
    return {
        name: EngineMeasurement(
            timings=timings[name],
            peak_bytes=int(memory[name]["peak_bytes"]),
            trainable=int(memory[name]["trainable"]),
        )
        for name in CONTESTANTS
    }


Ask = Callable[[str], dict[str, float]]


@contextmanager
def _contestant(
    row: str, name: str, device: str, threads: int, environment: dict[str, str]
) -> Iterator[Ask]:
    """A running process and the function that asks it; ends the process with the block."""
    module = "presspool.simulations.bench.engine_steps"
    command = [sys.executable, "-m", module, row, name, device, str(threads)]
    settings = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"} | environment
    with subprocess.Popen(  # noqa: S603 - our own interpreter, module and names of the tables
        command, env=settings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(what: str) -> dict[str, float]:
            print(what, file=stdin, flush=True)
            answer = stdout.readline()
            if not answer:
                raise RuntimeError(f"{name} on {row} ended; its error is above")
            return json.loads(answer)  # type: ignore[no-any-return]

        yield ask


def _memory(ask: Ask) -> dict[str, float]:
    for _ in range(_WARM_UP):
        ask("step")
    found = ask("reset")
    for _ in range(_MEMORY_STEPS):
        ask("step")
    return found | ask("peak")


def _take_turns(
    asks: dict[str, Ask], repeats: int, advance: Callable[[], None]
) -> dict[str, list[Timing]]:
    timings: dict[str, list[Timing]] = {name: [] for name in CONTESTANTS}
    for turn in range(-_WARM_UP, repeats):
        for name in _order(list(asks), turn):
            timing = Timing(**asks[name]("step"))
            if turn >= 0:
                timings[name].append(timing)
        if turn >= 0:
            advance()
    return timings


def _order(names: list[str], turn: int) -> list[str]:
    """Everybody once, another one first each turn, in alternating directions."""
    first = turn // 2 % len(names)
    rotated = names[first:] + names[:first]
    return rotated if turn % 2 == 0 else rotated[::-1]


def machine(device: str, threads: int, repeats: int) -> dict[str, str]:
    """What is measured on, for people."""
    return {
        "processor": _processor(),
        "graphics processor": torch.cuda.get_device_name() if device == "cuda" else "not used",
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "precision": "bf16 autocast over a bf16 base" if device == "cuda" else "float32",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": ", ".join(
            f"{name} {torch.__version__ if name == 'torch' else version(name)}"
            for name in ("torch", "peft", "opacus", "transformers")
        ),
        "CUDA": torch.version.cuda or "not in this torch",
        "turns": str(repeats),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _processor() -> str:
    """The processor's model name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
