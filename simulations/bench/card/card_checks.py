"""The engine on a graphics card against an oracle on the CPU, in a process of its own.

The oracle takes one record at a time through PEFT's own forward pass in float32 on the CPU, with
torch's autograd and without the engine. Compared are readers' mean gradients of made records of
many lengths, as batches of public shapes give them. Bounds are relative to the largest reader's
gradient of a tensor: `EXACT` in float32, `HALF` in bf16, whose numbers have 8 bits.

The checks have a process of their own because they cap its memory, and because a card that meets
an error may end the process. Each prints one JSON line as soon as it is done.

Example: ``python -m presspool.simulations.bench.card.card_checks cpu``
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute, checkpoint
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.step_gradients import record_losses
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.adapters import load, read, trainable
from presspool.common.models.batch_shapes import TOKENS
from presspool.common.models.models import build, headed_of
from presspool.simulations.bench.card.card_bases import write_bases
from presspool.simulations.bench.engine_steps import reset_peak, resident_peak

EXACT, HALF = 1e-4, 0.05
WORDS = [3, 40, 1, 9, 80, 17]
READERS = [0, 0, 1, 2, 2, 2]
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("encoder", {"labels": ["sport", "world"], "max_length": 128}),
    "tagging": ("encoder", {"kind": "tagging", "labels": ["PER", "LOC"], "max_length": 128}),
    "ad-response": (
        "encoder",
        {"kind": "ad-response", "context": {"device": ["phone", "desk"]}, "max_length": 128},
    ),
    "recommendation": ("encoder", {"kind": "recommendation"}),
    "fill-mask": ("encoder", {"kind": "fill-mask", "max_length": 128}),
    "generation": ("writer", {"kind": "generation", "max_length": 128}),
}
_TARGETS = {"encoder": ["query", "value"], "writer": ["q_proj", "v_proj"]}

Gradients = Mapping[str, Tensor]
"""Of each trained tensor, (readers, ...) float32 on the CPU."""


@dataclass(frozen=True, kw_only=True)
class CardCheck:
    """One line of the page.

    Attributes:
        name: what was tried.
        outcome: "held", "failed", or "not here" where it was not tried.
        says: figures, or the reason.
    """

    name: str
    outcome: str
    says: str


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A family's contract, its model on the device, made records, and what the oracle found."""

    contract: Contract
    model: nn.Module
    rows: pa.Table
    right: Gradients


def checks(device: str) -> Iterator[CardCheck]:
    """Try everything on a device, "cpu" or "cuda"; an error is a check that failed."""
    with tempfile.TemporaryDirectory(prefix="presspool-card-") as folder:
        bases = write_bases(Path(folder))
        for family in FAMILIES:
            subject = _subject(family, bases)
            tries: dict[str, Callable[[_Subject, str], str]] = {
                "float32 against the CPU's oracle": _exact,
                "bf16 against the CPU's oracle": _half,
                "rows of a batch alike, to the last bit": _rows_alike,
            }
            if family in ("classification", "generation"):
                tries["gradient checkpointing"] = _checkpointed
            if family == "classification":
                tries["batches halved under a cap on memory"] = _halved
            for name, attempt in tries.items():
                yield _tried(f"{family}: {name}", partial(attempt, subject, device))
    refused = "the engine takes no 4-bit base: docs/methods.md, qlora"
    yield CardCheck(name="4-bit base weights", outcome="not here", says=refused)


def _tried(name: str, attempt: Callable[[], str]) -> CardCheck:
    try:
        return CardCheck(name=name, outcome="held", says=attempt())
    except Exception as error:  # noqa: BLE001 - whatever a card's libraries raise is the result
        says = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return CardCheck(name=name, outcome="failed", says=says)


def _subject(family: str, bases: Mapping[str, Path]) -> _Subject:
    base, task = FAMILIES[family]
    contract = parse_contract(
        {
            "name": "card",
            "model": {"id": str(bases[base])},
            "task": task,
            "adapter": {"rank": 8, "alpha": 16, "method": "fedit", "targets": _TARGETS[base]},
            "federation": {"rounds": 2, "local_steps": 1},
            "outlets": {"north-post": 64, "south-echo": 64},
            "privacy": {"noise_multiplier": 1.0, "clip": 1.0, "sampling_rate": 0.5},
            "optimizer": {"learning_rate": 0.5},
        }
    )
    model, rng = build(contract).eval(), np.random.default_rng(5)
    moved = {n: a + 0.05 * rng.standard_normal(a.shape) for n, a in read(model).items()}
    load(model, {name: array.astype(np.float32) for name, array in moved.items()})
    rows = headed_of(model).task.made(WORDS)
    return _Subject(contract=contract, model=model, rows=rows, right=by_oracle(model, rows))


def by_oracle(model: nn.Module, rows: pa.Table) -> Gradients:
    """One record at a time through the whole model, on the CPU."""
    task, parameters = headed_of(model).task, trainable(model)
    sums = {n: torch.zeros(len(set(READERS)), *p.shape) for n, p in parameters.items()}
    for place, reader in enumerate(READERS):
        one = rows.slice(place, 1)
        loss = task.losses(model(**task.encode(task.texts(one).to_pylist())), one)[0]
        found = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(sums, found, strict=True):
            sums[name][reader] += gradient / READERS.count(reader)
    return sums


def by_engine(
    subject: _Subject, compute: Compute, half: AbstractContextManager[object]
) -> Gradients:
    """In the device's batches, each record a row that is added to its reader's."""
    trunk, reader_of = compute.trunk(subject.model, subject.contract), torch.tensor(READERS)
    sums = {n: torch.zeros_like(right) for n, right in subject.right.items()}
    with ReaderGradients(subject.model) as engine:
        with half:
            activations = trunk.run(trunk.task.texts(subject.rows).to_pylist())
        for places in trunk.batches(activations):
            with half:
                states = [activations[place] for place in places]
                losses = record_losses(trunk, states, subject.rows.take(places))
            engine.backward(losses, torch.arange(len(losses)), len(losses))
            for name, parameter in trainable(subject.model).items():
                rows: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
                sums[name].index_add_(0, reader_of[places], rows[: len(places)].cpu())
    counts = reader_of.bincount()
    return {n: total / counts.view(-1, *[1] * (total.dim() - 1)) for n, total in sums.items()}


def _compared(got: Gradients, right: Gradients, bound: float) -> str:
    """The largest error of a tensor.

    Raises:
        ArithmeticError: it is above the bound, or there is nothing to compare.
    """
    worst, where = 0.0, ""
    for name, rows in right.items():
        largest = float(rows.flatten(1).norm(dim=1).max())
        error = float((got[name] - rows).flatten(1).norm(dim=1).max())
        share = error / largest if largest > 0 else float("inf")
        if not share <= worst:
            worst, where = share, name
    if not worst <= bound:
        raise ArithmeticError(f"off by {worst:.1e} of the gradient of {where}, bound {bound:.0e}")
    return f"off by {worst:.1e} at most, bound {bound:.0e}"


def _prepared(subject: _Subject, device: str) -> Compute:
    compute = Compute(device=device)
    compute.prepare(subject.model)
    return compute


def _exact(subject: _Subject, device: str) -> str:
    got = by_engine(subject, _prepared(subject, device), nullcontext())
    return _compared(got, subject.right, EXACT)


def _half(subject: _Subject, device: str) -> str:
    half = torch.autocast(device, dtype=torch.bfloat16)
    return _compared(by_engine(subject, _prepared(subject, device), half), subject.right, HALF)


def _rows_alike(subject: _Subject, device: str) -> str:
    """What an outlet proves before it trains, in the precision that it trains in."""
    compute = Compute(device=device)
    prove_alike(subject.model, read(subject.model), subject.contract, compute)
    if compute.tokens is not None:
        raise ArithmeticError(f"batches shrank to {compute.tokens} tokens")
    return f"batches of {TOKENS[device]} tokens"


def _checkpointed(subject: _Subject, device: str) -> str:
    """The same gradients with and without, from the last to the first layer."""
    compute = _prepared(subject, device)
    encoder = headed_of(subject.model).encoder
    encoder.gradient_checkpointing_disable()
    plain = by_engine(subject, compute, nullcontext())
    checkpoint(encoder)
    if not encoder.is_gradient_checkpointing:
        raise ArithmeticError("the model does not checkpoint")
    try:
        return _compared(by_engine(subject, compute, nullcontext()), plain, EXACT)
    finally:
        if device == "cpu":
            encoder.gradient_checkpointing_disable()
            encoder.eval()


def _halved(subject: _Subject, device: str) -> str:
    """Three fifths of what whole batches need: the proof takes less, and gradients stay right."""
    _prepared(subject, device)
    needed = _needed(subject, device)
    compute = Compute(device=device)
    with _capped(device, needed * 3 // 5):
        prove_alike(subject.model, read(subject.model), subject.contract, compute)
    if compute.tokens in (None, 1):
        raise ArithmeticError(f"tokens of a batch: {compute.tokens}, of {TOKENS[device]}")
    got = by_engine(subject, compute, nullcontext())
    said = _compared(got, subject.right, EXACT)
    return f"{TOKENS[device]} to {compute.tokens} tokens under {needed * 3 // 5 >> 20} MiB; {said}"


def _needed(subject: _Subject, device: str) -> int:
    """Bytes that the proof takes above what is held already."""
    if device == "cuda":
        torch.cuda.empty_cache()
    reset_peak(device)
    held = torch.cuda.memory_allocated() if device == "cuda" else resident_peak()
    prove_alike(subject.model, read(subject.model), subject.contract, Compute(device=device))
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident_peak()
    return peak - held


@contextmanager
def _capped(device: str, more: int) -> Iterator[None]:
    """Let the process take only so many bytes more than it holds."""
    if device == "cuda":
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / whole)
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
        else:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def main(device: str) -> None:
    """Print a line for each check."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print; the answers stay clean
    set_verbosity_error()
    disable_progress_bar()
    for check in checks(device):
        print(json.dumps(asdict(check)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
