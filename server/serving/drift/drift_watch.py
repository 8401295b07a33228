"""Watches all adapters of a server against one public file, and says when a level changes.

Two windows: one forgets half in `RECENT` records and sees what changed today, one in `LONG` and
sees what creeps.

Invariants:
    * The reference comes from the file that the operator named, by the code that serves, and from
      no record that was asked.
    * What is logged is names of adapters and figures, levels and numbers: no label, no text.

Example: `DriftWatch.of(Path("public.parquet"), shelf).document`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from presspool.common.base.console import progress
from presspool.common.base.errors import InputError, PressPoolError
from presspool.common.contract.contract_schema import UNSURE
from presspool.common.released.asked_rows import AskedRows
from presspool.server.serving.drift.drift_figures import (
    DRIFTED,
    FEWEST,
    STABLE,
    WATCH,
    Figure,
    Reference,
    figures,
    freedom,
)
from presspool.server.serving.drift.drift_sketch import DriftSketch
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.reading import Reader, ReadJob, Seen
from presspool.server.serving.shelf.served_adapter import WRITING, ServedAdapter

log = logging.getLogger(__name__)

RECENT, LONG = 256, 4096
MOST = 2000  # records of the reference that are read, evenly over the file
_LEVELS: Final = (STABLE, WATCH, DRIFTED)


@dataclass(kw_only=True)
class _Watched:
    """One adapter.

    Attributes:
        adapter: which.
        reference: what it is held against.
        late: sketches by their half-life.
        levels: by half-life and figure, where there were enough records.
    """

    adapter: ServedAdapter
    reference: Reference
    late: dict[int, DriftSketch]
    levels: dict[tuple[int, str], str] = field(default_factory=dict)

    def figures(self) -> Iterator[tuple[int, Figure]]:
        for half_life, sketch in self.late.items():
            for figure in figures(sketch, self.reference):
                yield half_life, figure


class DriftWatch:
    """What is watched.

    Args:
        file: with the `inputs` of every adapter's task as columns.
        shelf: whose trunk reads it.
    """

    def __init__(self, file: Path, shelf: AdapterShelf) -> None:
        self._file, self._shelf, self._lock = file, shelf, threading.Lock()
        self._watched: dict[int, _Watched] = {}

    @classmethod
    def of(cls, file: Path, shelf: AdapterShelf) -> Self:
        """A watch over all adapters that are on a shelf; raises as `follow`."""
        made = cls(file, shelf)
        for adapter in shelf:
            made.follow(adapter)
        return made

    def follow(self, adapter: ServedAdapter) -> None:
        """Read the reference for an adapter; one that writes is not watched.

        Raises:
            DataError: a file that cannot be read, or has a record that cannot be answered.
            InputError: one of too few records.
        """
        if adapter.contract.task.kind == WRITING:
            return
        labels = (*adapter.task.options, UNSURE) if adapter.task.options else ()
        made = _Watched(
            adapter=adapter,
            reference=self._reference(adapter, labels),
            late={half_life: DriftSketch(labels, half_life) for half_life in (RECENT, LONG)},
        )
        with self._lock:
            self._watched = {
                key: one for key, one in self._watched.items() if one.adapter in [*self._shelf]
            } | {id(adapter): made}

    def follow_loaded(self, adapter: ServedAdapter) -> None:
        """As `follow`, of one that is served already: what is wrong is logged."""
        try:
            self.follow(adapter)
        except PressPoolError as error:
            log.warning("drift of %s is not watched: %s", adapter.name, error.what)

    def see(self, seen: Seen) -> None:
        """Remember what passed an adapter."""
        with self._lock:
            found = self._watched.get(id(seen.adapter))
            if found is None:
                return
            for sketch in found.late.values():
                sketch.add(seen)
            for half_life, figure in found.figures():
                _judge(found, half_life, figure)

    @property
    def document(self) -> dict[str, Any]:
        """What `/drift` tells."""
        with self._lock:
            there = [found for one in self._shelf if (found := self._watched.get(id(one)))]
            return {"adapters": [_told(one) for one in there]}

    def _reference(self, adapter: ServedAdapter, labels: tuple[str, ...]) -> Reference:
        rows = AskedRows.of(str(self._file), adapter.task, columns=[], stdin_format="jsonl")
        count = rows.rows or 0
        if count < FEWEST:
            raise InputError(
                "too small a reference",
                where="--reference",
                expected=f"{FEWEST} records or more, better {MOST}",
                got=count,
            )
        sketch, states = DriftSketch(labels, float("inf")), list[Any]()

        def keep(seen: Seen) -> None:
            sketch.add(seen)
            if seen.states is not None:
                states.append(seen.states)

        reader = Reader(self._shelf.trunk, keep)
        for some in _spread(rows, count):
            reader.run([ReadJob(rows=len(some), adapter=adapter, records=some)])
        free = freedom(np.concatenate(states)) if states else 0.0
        return Reference(sketch=sketch, labels=labels, freedom=free)


def _spread(rows: AskedRows, count: int) -> Iterator[pa.Table]:
    """At most `MOST` records, evenly over a file."""
    step, start = -(-count // MOST), 0
    with progress("reading the reference", total=count) as advance:
        for batch in rows.batches():
            chosen = np.arange(-start % step, len(batch), step)
            start += len(batch)
            yield batch.take(pa.array(chosen))
            for _ in range(len(batch)):
                advance()


def _judge(found: _Watched, half_life: int, figure: Figure) -> None:
    """Log a level that changed."""
    place = half_life, figure.of
    before = found.levels.get(place, STABLE)
    level = figure.level(before)
    if level not in _LEVELS:
        return
    found.levels[place] = level
    if level != before:
        worse = _LEVELS.index(level) > _LEVELS.index(before)
        say = log.warning if worse else log.info
        words = "drift: %s of what %s is asked, half-life %d records: %s (%.3f, by chance %.3f)"
        say(words, figure.of, found.adapter.name, half_life, level, figure.value, figure.by_chance)


def _told(found: _Watched) -> dict[str, Any]:
    return {
        "name": found.adapter.name,
        "adapter": found.adapter.provenance.adapter,
        "figures": [
            {
                "of": figure.of,
                "half_life": half_life,
                "value": None if figure.value is None else round(figure.value, 4),
                "by_chance": round(figure.by_chance, 4) if figure.records else None,
                "records": round(figure.records),
                "level": figure.level(found.levels.get((half_life, figure.of), STABLE)),
            }
            for half_life, figure in found.figures()
        ],
    }
