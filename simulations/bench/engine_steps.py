"""One training step of each contestant of `presspool bench engine`, in a process of its own.

A step is everything that training does: forward, backward, clipping, noise, SGD update. A process
holds one contestant; it obeys lines on standard input and answers with JSON lines, so that the
parent can let the contestants take turns and can read each one's memory on its own::

    -> step      one step:                  {"seconds": 0.51, "cpu_seconds": 1.0}
    -> reset     count the peak from here:  {"trainable": 76808}
    -> peak      the peak since the reset:  {"peak_bytes": 912000000}

Invariants:
- All contestants of a row train the same model on the same records, padded to the longest of them;
  those of ours that are private compute in public shapes, as outlets do. Dropout is at 0 (Opacus
  needs training mode, in which dropout would draw); head and LoRA train, the base is frozen.
- The peak is what model, activations and gradients need above a process that has only imported
  its libraries. Resident set on the CPU, torch's allocator on CUDA.

Example: ``python -m presspool.simulations.bench.engine_steps minilm-qv peft cpu 2``
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import add_rows
from presspool.common.contract.privacy_plan import LARGEST_RELEASE, PrivacyPlan
from presspool.common.models import batch_shapes
from presspool.common.models.batch_shapes import BatchShapes
from presspool.common.models.models import HeadedModel
from presspool.common.tasks.classification import Classification, ClassificationTable
from presspool.simulations.bench.engine_rows import ENCODERS, ROWS, Row

LABELS, RANK, RECORDS_PER_READER = 8, 8, 2

Step = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class BenchTask:
    """A model and a batch that a contestant trains on.

    Attributes:
        model: the PEFT model, in training mode.
        forward: from ids, mask and labels to (records,) float32 losses.
        whole: ids, mask and labels of all records, padded to the longest, as one usually does.
        batches: of each batch in public shapes, as an outlet does it: its records, and the same.
        parameters: what trains.
        records: records a step.
    """

    model: Any
    forward: Callable[[Tensor, Tensor, Tensor], Tensor]
    whole: tuple[Tensor, Tensor, Tensor]
    batches: list[tuple[list[int], tuple[Tensor, Tensor, Tensor]]]
    parameters: list[nn.Parameter]
    records: int

    def losses(self) -> Tensor:
        """Runs one forward pass; (records,) float32 losses."""
        return self.forward(*self.whole)


def make_task(row: Row, device: str) -> BenchTask:
    """The row's model and batch on a device; on CUDA the base in bf16, under bf16 autocast."""
    torch.manual_seed(0)
    lora = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        modules_to_save=["head"],
        exclude_modules=["head"],
        target_modules=row.targets if isinstance(row.targets, str) else list(row.targets),
    )
    task = Classification(ClassificationTable(labels=tuple(map(str, range(LABELS)))))
    model = get_peft_model(HeadedModel(ENCODERS[row.model](), task), lora)
    on_cuda = device == "cuda"
    model.to(device).train()
    for parameter in model.parameters():
        if on_cuda and not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    longest, lengths = max(row.lengths), torch.tensor(row.lengths, device=device)
    ids = torch.randint(0, model.config.vocab_size, (row.records, longest), device=device)
    mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
    whole = ids * mask, mask, torch.arange(row.records, device=device) % LABELS

    def forward(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=on_cuda):
            logits = model(input_ids=ids, attention_mask=mask)
        return nn.functional.cross_entropy(logits.float(), labels, reduction="none")

    return BenchTask(
        model=model,
        forward=forward,
        whole=whole,
        batches=list(_batches(whole, shapes_for(row, device))),
        parameters=[p for p in model.parameters() if p.requires_grad],
        records=row.records,
    )


def shapes_for(row: Row, device: str) -> BatchShapes:
    """What an outlet computes a row in."""
    return BatchShapes(
        max_length=row.tokens,
        tokens=batch_shapes.TOKENS[device],
        most_rows=batch_shapes.ROWS[device],
    )


def _batches(
    whole: tuple[Tensor, Tensor, Tensor], shapes: BatchShapes
) -> Iterator[tuple[list[int], tuple[Tensor, Tensor, Tensor]]]:
    """What `FrozenTrunk` makes of the same records."""
    ids, mask, labels = whole
    lengths: list[int] = mask.sum(1).tolist()
    for places in shapes.batches(lengths):
        longest = max(lengths[place] for place in places)
        width = shapes.width(longest)
        batch = ids.new_zeros((2, shapes.rows(width), width))
        batch[1, :, : width if longest == width else 1] = 1
        for row, place in enumerate(places):
            batch[:, row] = 0
            batch[0, row, : lengths[place]] = ids[place, : lengths[place]]
            batch[1, row, : lengths[place]] = 1
        said = labels.new_zeros(batch.shape[1])
        said[: len(places)] = labels[places]
        yield places, (batch[0], batch[1], said)


def _peft(task: BenchTask) -> Step:
    sgd = torch.optim.SGD(task.parameters, lr=0.01)

    def step() -> None:
        task.losses().mean().backward()  # type: ignore[no-untyped-call]
        sgd.step()
        sgd.zero_grad()

    return step


def _opacus_hooks(task: BenchTask) -> Step:
    GradSampleHooks(task.model, loss_reduction="mean", strict=False)
    optimizer = DPOptimizer(torch.optim.SGD(task.parameters, lr=0.01), **_opacus_noise(task))

    def step() -> None:
        task.losses().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _opacus_ghost(task: BenchTask) -> Step:
    hooks = GradSampleHooksFastGradientClipping(task.model, strict=False, max_grad_norm=1.0)
    sgd = torch.optim.SGD(task.parameters, lr=0.01)
    optimizer = DPOptimizerFastGradientClipping(sgd, **_opacus_noise(task))

    def step() -> None:
        DPTensorFastGradientClipping(hooks, optimizer, task.losses(), "mean").backward()
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
    engine, sgd = ReaderGradients(task.model), torch.optim.SGD(task.parameters, lr=0.01)
    everybody = torch.zeros(task.records, dtype=torch.int64)

    def step() -> None:
        engine.backward(task.losses(), everybody, 1)
        for parameter in task.parameters:
            parameter.grad = parameter.grad_sample[0]  # type: ignore[attr-defined]
        sgd.step()
        sgd.zero_grad()

    return step


def _ours(task: BenchTask, records_per_reader: int) -> Step:
    """What an outlet runs: per-reader gradients, the plan's clipping, noise of the CSPRNG."""
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


def _resident_peak() -> int:
    """Most bytes that were ever resident, or were since `_reset_peak`."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _reset_peak(device: str) -> None:
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
    _reset_peak(device)
    imported = _resident_peak()
    task = make_task(ROWS[row], device)
    step = CONTESTANTS[contestant](task)
    for line in sys.stdin:
        answer: dict[str, float]
        if line.strip() == "step":
            answer = _timed(step, device)
        elif line.strip() == "reset":
            _reset_peak(device)
            answer = {"trainable": sum(p.numel() for p in task.parameters)}
        else:
            on_cuda = device == "cuda"
            peak = torch.cuda.max_memory_allocated() if on_cuda else _resident_peak() - imported
            answer = {"peak_bytes": peak}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
