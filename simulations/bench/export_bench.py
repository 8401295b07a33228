"""What exports cost and save: an adapter by torch, as `onnx` and as `int8`, in turns in one run.

Each form is written, read back and compared as `presspool export` does, on a public file with
answers; what that would refuse is shown here. Then batches of the file's texts are answered by all
contestants in turn, one thread each, and what counts is the ratio to torch in the same turn.

Invariant: every contestant gets the same tokens in the same order of turns.

Example: `bench_export(read_adapter(path), Path("test.csv"), [], turns=20)`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from presspool.common.base.errors import InputError
from presspool.common.base.numbers import percent
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.common.released.exports.export_format import Says
from presspool.common.released.exports.likeness import Difference, batches, compare
from presspool.common.released.exports.onnx_graph import EightBits, OnnxGraph, Session
from presspool.common.released.exports.placed import placed
from presspool.common.released.exports.public_texts import PublicTexts
from presspool.simulations.bench.transport.transport_results import quartiles

GRAPHS = {form.name: form for form in (EightBits(), OnnxGraph())}
BATCHES = 8  # of a turn


@dataclass(frozen=True, kw_only=True)
class ExportFigures:
    """What was measured.

    Attributes:
        name: of the adapter's run.
        base: its base model.
        texts: of a turn.
        turns: of each contestant.
        cores: of the machine.
        load: over a minute, before and after.
        seconds: contestant to its turns' seconds, in order.
        sizes: of the files, bytes.
        found: form to its comparison.
    """

    name: str
    base: str
    texts: int
    turns: int
    cores: int
    load: tuple[float, float]
    seconds: Mapping[str, Sequence[float]]
    sizes: Mapping[str, int]
    found: Mapping[str, Difference]

    def ratios(self, name: str) -> list[float]:
        """How many times as fast as torch, turn by turn."""
        pairs = zip(self.seconds["torch"], self.seconds[name], strict=True)
        return [torch_ / own for torch_, own in pairs]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        ratios = {name: self.ratios(name) for name in self.seconds}
        return {**asdict(self), "ratios": ratios}


def bench_export(
    adapter: AdapterFolder,
    texts: Path,
    columns: Sequence[str],
    *,
    turns: int,
    advance: Callable[[], None] = lambda: None,
) -> ExportFigures:
    """Export an adapter to graphs, and let all answer in turns.

    Args:
        adapter: of a task that graphs hold.
        texts: a public file with answers.
        columns: how it calls the task's columns, "NAME=COLUMN".
        turns: of each contestant; one more is not counted.
        advance: told of each turn.

    Raises:
        InputError: a task that graphs do not hold, or a file without answers.
    """
    before, found, sizes = os.getloadavg()[0], dict[str, Difference](), dict[str, int]()
    with TemporaryDirectory(prefix="presspool-bench-") as place:
        original = placed(adapter)
        contestants: dict[str, Says] = {"torch": original}
        texts_read = PublicTexts.of_file(texts, original.task, columns)
        if not texts_read.answered:
            raise InputError(
                "accuracy is measured where answers are known",
                where=f"--texts {texts}",
                expected=f"the columns {', '.join(original.task.columns)}",
            )
        for name, form in GRAPHS.items():
            form.check(adapter.contract)
            form.write(form.prepared(placed(adapter)), Path(place))
            contestants[name] = Session(Path(place) / form.file, threads=1)
            sizes[name] = (Path(place) / form.file).stat().st_size
            found[name] = compare(original, contestants[name], texts_read)
        records = texts_read.records
        asked = [batch for _, _, batch in islice(batches(original.task, records), BATCHES)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            seconds = _race(contestants, asked, turns, advance)
        finally:
            torch.set_num_threads(threads)
    return ExportFigures(
        name=adapter.contract.name,
        base=adapter.contract.model.id,
        texts=sum(len(batch["input_ids"]) for batch in asked),
        turns=turns,
        cores=os.cpu_count() or 1,
        load=(before, os.getloadavg()[0]),
        seconds=seconds,
        sizes=sizes,
        found=found,
    )


def _race(
    contestants: Mapping[str, Says],
    asked: Sequence[Mapping[str, Tensor]],
    turns: int,
    advance: Callable[[], None],
) -> dict[str, list[float]]:
    """Processor seconds of each contestant's turns; the first of each warms it up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns + 1):
        for name, says in contestants.items():
            start = time.process_time()
            for batch in asked:
                says.outputs(batch)
            seconds[name].append(time.process_time() - start)
            advance()
    return {name: own[1:] for name, own in seconds.items()}


def export_section(found: ExportFigures) -> str:
    """The figures as a section of a page."""
    return f"""## Exports

Written by `presspool bench export`: the run {found.name!r} on {found.base}; {found.turns} turns of
{found.texts} texts each, contestants in turn in one process, one thread, on a machine of
{found.cores} cores whose load over a minute was {found.load[0]:.1f} before and {found.load[1]:.1f}
after. Seconds are processor seconds; faster is torch's seconds ÷ the form's in the same turn,
median and quartiles. Accuracy is on all {next(iter(found.found.values())).texts:,} texts of the
file; at most 0.5 points may be lost.

| | faster than torch | ms a text | MB | same answers | torch → form | at most 0.005 lost |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
{chr(10).join(_row(found, name) for name in GRAPHS)}"""


def _row(found: ExportFigures, name: str) -> str:
    low, middle, high = quartiles(found.ratios(name))
    each = 1000 * statistics.median(found.seconds[name]) / found.texts
    own = found.found[name]
    before, after = own.before or 0.0, own.after or 0.0
    met = "met" if (own.worse or 0.0) <= 0.005 else "not met"
    return (
        f"| `{name}` | {middle:.2f} ({low:.2f} to {high:.2f}) | {each:.2f} "
        f"| {found.sizes[name] / 1e6:.1f} | {percent(own.same)} "
        f"| {before:.4f} → {after:.4f} | {met} |"
    )
