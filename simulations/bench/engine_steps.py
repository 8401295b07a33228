"""One training step of each contestant of `presspool bench engine`, in a process of its own.

A step is everything that training does: forward, backward, clipping, noise, SGD update. A process
holds one contestant; it obeys lines on standard input and answers with JSON lines, so that the
parent can let the contestants take turns and can read each one's memory on its own::

    -> step      one step:                  {"seconds": 0.51, "cpu_seconds": 1.0}
    -> reset     count the peak from here:  {"trainable": 76808}
    -> peak      the peak since the reset:  {"peak_bytes": 912000000}

Invariants:
- All contestants of a row train the same model on the same records, padded to the longest of them;
  those of ours that are private compute in public shapes, as outlets do.
- The peak is what model, activations and gradients need above a process that has only imported
  its libraries. Resident set on the CPU, torch's allocator on CUDA.

Example: ``python -m presspool.simulations.bench.engine_steps minilm-qv peft cpu 2``
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import add_rows
from presspool.common.contract.privacy_plan import LARGEST_RELEASE, PrivacyPlan
from presspool.common.models.frozen_product import quicken
from presspool.simulations.bench.engine_rows import ROWS
from presspool.simulations.bench.engine_tasks import BenchTask, make_task

RECORDS_PER_READER = 2

Step = Callable[[], None]


def _peft(task: BenchTask) -> Step:
    sgd = torch.optim.SGD(task.parameters, lr=0.01)

    def step() -> None:
        task.usual(*task.whole).mean().backward()  # type: ignore[no-untyped-call]
        sgd.step()
        sgd.zero_grad()

    return step


def _opacus_hooks(task: BenchTask) -> Step:
    GradSampleHooks(task.model, loss_reduction="mean", strict=False)
    optimizer = DPOptimizer(torch.optim.SGD(task.parameters, lr=0.01), **_opacus_noise(task))

    def step() -> None:
        task.usual(*task.whole).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _opacus_ghost(task: BenchTask) -> Step:
    hooks = GradSampleHooksFastGradientClipping(task.model, strict=False, max_grad_norm=1.0)
    sgd = torch.optim.SGD(task.parameters, lr=0.01)
    optimizer = DPOptimizerFastGradientClipping(sgd, **_opacus_noise(task))

    def step() -> None:
        losses = task.usual(*task.whole)
        DPTensorFastGradientClipping(hooks, optimizer, losses, "mean").backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _opacus_noise(task: BenchTask) -> dict[str, Any]:
    return {
        "noise_multiplier": 1.0,
        "max_grad_norm": 1.0,
        "expected_batch_size": task.records,
    }


def _ours_without_privacy(task: BenchTask) -> Step:
    """The fused function with the whole batch as one reader: a plain mean gradient."""
    quicken(task.model)
    engine, sgd = ReaderGradients(task.model), torch.optim.SGD(task.parameters, lr=0.01)
    everybody = torch.zeros(task.records, dtype=torch.int64)

    def step() -> None:
        engine.backward(task.forward(*task.whole), everybody, 1)
        for parameter in task.parameters:
            parameter.grad = parameter.grad_sample[0]  # type: ignore[attr-defined]
        sgd.step()
        sgd.zero_grad()

    return step


def _ours(task: BenchTask, records_per_reader: int) -> Step:
    """What an outlet runs: per-reader gradients, the plan's clipping, noise of the CSPRNG."""
    quicken(task.model)
    plan = PrivacyPlan(
        unit="reader",
        noise_multiplier=1.0,
        clip={"all": 1.0},
        sampling_rate=0.1,
        records_per_reader=records_per_reader,
        steps=LARGEST_RELEASE // sum(p.numel() for p in task.parameters),
        delta=1e-5,
    )
    readers = task.records // records_per_reader
    engine, sgd = ReaderGradients(task.model), torch.optim.SGD(task.parameters, lr=0.01)
    optimizer = ReaderOptimizer(
        sgd,
        plan=plan,
        groups={"all": task.parameters},
        population=10 * readers,
        random=SecureRandom(),
    )
    reader_of = np.arange(task.records) // records_per_reader

    def step() -> None:
        rows = [p.new_zeros((readers, *p.shape)) for p in task.parameters]
        for places, batch in task.batches:
            losses = task.forward(*batch) / records_per_reader
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            gradients = [g[: len(places)] for g in engine.gradients]
            add_rows(rows, gradients, reader_of[places])
        for parameter, row in zip(task.parameters, rows, strict=True):
            parameter.grad_sample = row  # type: ignore[attr-defined]
        optimizer.accumulate()
        optimizer.finish_step()

    return step


CONTESTANTS: dict[str, Callable[[BenchTask], Step]] = {
    "peft": _peft,
    "ours-nonprivate": _ours_without_privacy,
    "opacus-hooks": _opacus_hooks,
    "opacus-ghost": _opacus_ghost,
    "ours-record": lambda task: _ours(task, 1),
    "ours-reader": lambda task: _ours(task, RECORDS_PER_READER),
}


def resident_peak() -> int:
    """Most bytes that were ever resident, or were since `reset_peak`."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def reset_peak(device: str) -> None:
    """Count the peak from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _timed(step: Step, device: str) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def main(row: str, contestant: str, device: str, threads: str) -> None:
    """Serve the lines of standard input until it ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print; the answers stay clean
    warnings.filterwarnings("ignore")
    set_verbosity_error()
    disable_progress_bar()
    torch.set_num_threads(int(threads))
    reset_peak(device)
    imported = resident_peak()
    task = make_task(ROWS[row].on(device), device)
    step = CONTESTANTS[contestant](task)
    for line in sys.stdin:
        answer: dict[str, float]
        if line.strip() == "step":
            answer = _timed(step, device)
        elif line.strip() == "reset":
            reset_peak(device)
            answer = {"trainable": sum(p.numel() for p in task.parameters)}
        else:
            on_cuda = device == "cuda"
            peak = torch.cuda.max_memory_allocated() if on_cuda else resident_peak() - imported
            answer = {"peak_bytes": peak}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
