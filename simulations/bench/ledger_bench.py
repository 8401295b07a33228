"""`presspool bench ledger`: what the budget ledger costs an outlet, and its evidence an auditor.

Four figures: reserve and settle of one run at a ledger that is long already, as an outlet waits for
them (each fsynced); `audit verify` of a long export; `audit recompute` of many runs that are all
different; `presspool audit --help` in a new process.

Invariants:
    * The ledgers are real: every entry is built, checked by the book and hashed as the outlet's
      store does it. Only the long history is written in large transactions, before the clock runs.
    * Figures are wall-clock seconds. On a shared machine they mean little, so the machine's load
      and the processor's seconds of the long work stand beside them.

Example: `bench_ledger(Sizes(entries=1000, verified=1000, runs=5, turns=20)).to_json()`.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rfc8785

from presspool.common.accounting import events, pld
from presspool.common.accounting.filter import Caps
from presspool.common.ledger import entries, recompute, verification
from presspool.common.ledger.export import FORMAT, export, leaf_text
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.log_database import LogDatabase

ORIGIN, DAY, ORDER, DELTA = "example.org/bench", "2026-01-05", 6, 1e-5
_CAPS = Caps(epsilon_max=1e6)
_BATCH = 10_000  # entries of the history in one transaction
_CHEAP = events.SelfComposed(
    event=events.PoissonSampled(rate=1e-4, event=events.Gaussian(noise_multiplier=5.0)), count=1
)
Advance = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        entries: of the ledger in which runs are reserved and settled.
        turns: reservations that are timed.
        verified: entries of the export that is verified.
        runs: different runs that are recomputed.
        starts: processes that are started for `--help`.
    """

    entries: int = 100_000
    turns: int = 2_000
    verified: int = 1_000_000
    runs: int = 1_000
    starts: int = 10


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured, in seconds.

    Attributes:
        sizes: of what.
        median: of reserve + settle.
        p99: of reserve + settle.
        verify: of one `verify`, and its processor seconds.
        recompute: of one `recompute`, verification included, and its processor seconds.
        help: median of `presspool audit --help`.
        load: of the machine over the last minute, at the start and at the end.
        cores: of the machine.
    """

    sizes: Sizes
    median: float
    p99: float
    verify: tuple[float, float]
    recompute: tuple[float, float]
    help: float
    load: tuple[float, float]
    cores: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str, str, bool]]:
        """What, measured, at most, and whether it is met."""
        s = self.sizes
        found = [
            (f"reserve + settle at {s.entries:,} entries, p99 of {s.turns:,}", self.p99, 0.005),
            (f"verify of {s.verified:,} entries", self.verify[0], 30.0),
            (f"recompute of {s.runs:,} different runs", self.recompute[0], 60.0),
            (f"`presspool audit --help`, median of {s.starts}", self.help, 0.6),
        ]
        return [(what, _seconds(a), _seconds(b), a <= b) for what, a, b in found]


def units_of_work(sizes: Sizes) -> int:
    """How often `bench_ledger` calls `advance`."""
    return 4 + sizes.runs


def bench_ledger(sizes: Sizes, *, advance: Advance = lambda: None) -> Figures:
    """Measure all four, one after the other."""
    signer, before = notes.Signer.generate(ORIGIN, kind=notes.NOTE), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="presspool-bench-") as name:
        folder = Path(name)
        turns = _turns(folder / "ledger.db", signer, sizes)
        advance()
        verify = _verify(folder / "long.export", signer, sizes.verified)
        advance()
        again = _recompute(folder / "runs.export", signer, sizes.runs, advance)
        advance()
    help_seconds = statistics.median(_help() for _ in range(sizes.starts))
    advance()
    return Figures(
        sizes=sizes,
        median=float(np.median(turns)),
        p99=float(np.quantile(turns, 0.99)),
        verify=verify,
        recompute=again,
        help=help_seconds,
        load=(before, os.getloadavg()[0]),
        cores=os.cpu_count() or 1,
    )


def section(found: Figures) -> str:
    """The figures as a section of a page in Markdown."""
    rows = [
        f"| {what} | {measured} | {most} | {'met' if met else 'not met'} |"
        for what, measured, most, met in found.rows()
    ]
    text = f"""## The budget ledger

Written by `presspool bench ledger`: wall-clock on {found.cores} cores whose load over a minute was
{found.load[0]:.1f} before and {found.load[1]:.1f} after. The median of reserve + settle was
{_seconds(found.median)}; verify took {_seconds(found.verify[1])} of processor time, recompute
{_seconds(found.recompute[1])}.

| | measured | at most | |
| --- | ---: | ---: | --- |
"""
    return text + "\n".join(rows)


def _turns(path: Path, signer: notes.Signer, sizes: Sizes) -> list[float]:
    """Seconds of reserve + settle, each turn a run of its own."""
    Ledger.create(path, signer=signer, unit="reader", order=ORDER, delta=DELTA, caps=_CAPS).close()
    with Ledger(path) as ledger:
        first = next(ledger.bodies(0, 1))
    database, book = LogDatabase(path), LedgerState()
    book.apply(entries.parse_entry(first))
    history = _history(book, sizes.entries)
    while batch := list(islice(history, _BATCH)):
        with database.writing():
            for seq, body in enumerate(batch, start=book.size - len(batch)):
                database.append(seq, body)
    database.close()
    with Ledger(path) as ledger:
        return [_turn(ledger, number) for number in range(sizes.turns)]


def _turn(ledger: Ledger, number: int) -> float:
    began = time.perf_counter()
    run = ledger.reserve(
        run=f"sha256:{number:064x}",
        unit="reader",
        period="2026",
        datasets=["0" * 32],
        event=_CHEAP,
        head=None,
    )
    ledger.settle(run.reservation)
    return time.perf_counter() - began


def _history(book: LedgerState, size: int) -> Iterator[bytes]:
    """Entries that a book takes until it has `size`: runs that are reserved and settled."""
    charge = events.charge(_CHEAP, order=ORDER)
    while book.size < size:
        number = f"{book.size:032x}"
        parts: dict[str, Any] = {"seq": book.size, "day": book.day or DAY, "reservation": number}
        entry: entries.Entry
        if book.dangling:
            entry = entries.build(
                entries.Settle, **parts | {"reservation": next(iter(book.dangling))}
            )
        else:
            entry = entries.build(
                entries.Reserve,
                **parts,
                run=f"sha256:{number}{number}",
                unit="reader",
                period="2026",
                datasets=("0" * 32,),
                event=_CHEAP,
                charge=charge,
            )
        book.apply(entry)
        yield entry.canonical()


def _verify(path: Path, signer: notes.Signer, size: int) -> tuple[float, float]:
    book = LedgerState()
    opened = entries.build(
        entries.Opened,
        seq=0,
        day=DAY,
        origin=ORIGIN,
        unit="reader",
        order=ORDER,
        delta=DELTA,
        epsilon_max=_CAPS.epsilon_max,
        key=signer.key.text,
    )
    book.apply(opened)
    with path.open("wb") as stream:
        _write_export(stream, signer, size, opened.canonical(), _history(book, size))
    return _timed(path, lambda stream: verification.verify(stream, key=signer.key))


def _write_export(
    stream: BinaryIO, signer: notes.Signer, size: int, first: bytes, rest: Iterator[bytes]
) -> None:
    """What `audit export` writes of such a ledger, without a database in between."""
    header: dict[str, Any] = {"entries": size, "format": FORMAT, "origin": ORIGIN, "witnesses": []}
    stream.write(rfc8785.dumps(header) + b"\n")
    edge = merkle.Frontier()
    for body in chain((first,), rest):
        edge.append(merkle.leaf_hash(body))
        stream.write(leaf_text(body) + b" " + body + b"\n")
    text = Checkpoint(origin=ORIGIN, size=size, root=edge.root()).text
    head = notes.Note(text=text).signed(signer.sign(text))
    stream.write(rfc8785.dumps({"checkpoint": head.encode().decode()}) + b"\n")


def _recompute(
    path: Path, signer: notes.Signer, runs: int, advance: Advance
) -> tuple[float, float]:
    """Runs with rates, noise and steps of their own, each with the ε that a contract states."""
    draw, database = random.Random(1), path.with_suffix(".db")  # noqa: S311 - no secret
    with Ledger.create(
        database, signer=signer, unit="reader", order=ORDER, delta=DELTA, caps=_CAPS
    ) as ledger:
        for number in range(runs):
            event = events.SelfComposed(
                count=draw.randint(20, 400),
                event=events.PoissonSampled(
                    rate=round(draw.uniform(0.01, 0.06), 5),
                    event=events.Gaussian(noise_multiplier=round(draw.uniform(1.0, 2.0), 4)),
                ),
            )
            stated = entries.Stated(
                delta=DELTA, epsilon=pld.epsilon(event, delta=DELTA), version="0.6.0"
            )
            ledger.reserve(
                run=f"sha256:{number:064x}",
                unit="reader",
                period="2026",
                head=None,
                datasets=["0" * 32],
                event=event,
                stated=stated,
            )
            advance()
        with path.open("wb") as stream:
            export(ledger, stream, signer=signer, witnesses=[])
    pld.epsilon.cache_clear()
    return _timed(path, lambda stream: recompute.recompute(stream, key=signer.key))


def _timed(path: Path, work: Callable[[BinaryIO], object]) -> tuple[float, float]:
    with path.open("rb") as stream:
        began, busy = time.perf_counter(), time.process_time()
        work(stream)
        return time.perf_counter() - began, time.process_time() - busy


def _help() -> float:
    command = [sys.executable, "-m", "presspool.cli", "audit", "--help"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own module
    return time.perf_counter() - began


def _seconds(value: float) -> str:
    return f"{value * 1000:.2f} ms" if value < 0.1 else f"{value:.2f} s"
