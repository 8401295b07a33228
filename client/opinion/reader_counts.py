"""Readers by period and label, each in one count of a period at most; before any noise.

A reader's label of a period is the commonest of their records in it, the first in the query's order
where several are.

Invariants:
    * What a reader adds depends on that reader's records and the query alone: in each period one
      count by 1, or nothing. So a reader moves all counts of a period by 1 in L2 norm.
    * No record raises: without a day in the periods, or with another label, it is nobody's.

Example:
    >>> query = OpinionQuery(name="mood", labels=("bad", "good"), first=date(2026, 1, 1), periods=2,
    ...                      by="month", share=0.1)
    >>> rows = pa.table({"reader": ["ann", "ann", "ann", "bob"],
    ...                  "label": ["good", "bad", "good", "bad"],
    ...                  "day": ["2026-01-03", "2026-01-04", "2026-01-05", "2026-02-01"]})
    >>> reader_counts(rows, query).tolist()
    [[0, 1], [1, 0]]
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.client.opinion.opinion_query import OpinionQuery

Counts = NDArray[np.int64]
NOWHERE = -1


def reader_counts(rows: pa.Table, query: OpinionQuery) -> Counts:
    """The counts, int64 (periods, labels).

    Args:
        rows: `reader`, `label` and `day` as texts, a row a record; nulls are nobody's.
        query: says what is counted.
    """
    labels, periods = len(query.labels), query.periods
    period, label = _periods(rows["day"], query), _labels(rows["label"], query)
    reader = _codes(rows["reader"])
    used = (reader != NOWHERE) & (period != NOWHERE) & (label != NOWHERE)
    cell = (reader[used] * periods + period[used]) * labels + label[used]
    different, records = np.unique(cell, return_counts=True)
    # The commonest first, then the query's order; of each reader and period the first is taken.
    order = np.lexsort((different % labels, -records, different // labels))
    _, first = np.unique(different[order] // labels, return_index=True)
    chosen = different[order][first]
    counts = np.bincount(chosen % (periods * labels), minlength=periods * labels)
    return counts.astype(np.int64).reshape(periods, labels)


def _periods(days: pa.ChunkedArray, query: OpinionQuery) -> NDArray[np.int64]:
    """Of each record its period, or `NOWHERE`."""
    grid = query.grid
    return _mapped(days, lambda text: _or_nowhere(grid.index, text))


def _labels(labels: pa.ChunkedArray, query: OpinionQuery) -> NDArray[np.int64]:
    places = {label: place for place, label in enumerate(query.labels)}
    return _mapped(labels, lambda text: places.get(text, NOWHERE))


def _codes(readers: pa.ChunkedArray) -> NDArray[np.int64]:
    indices = readers.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, NOWHERE).to_numpy(zero_copy_only=False), np.int64)


def _mapped(column: pa.ChunkedArray, said: Callable[[str], int]) -> NDArray[np.int64]:
    """What each value is said to be; each different one is asked about once."""
    coded = column.combine_chunks().dictionary_encode()
    found = [NOWHERE if text is None else said(text) for text in coded.dictionary.to_pylist()]
    places = pc.fill_null(coded.indices, len(found)).to_numpy(zero_copy_only=False)
    mapped: Counts = np.array([*found, NOWHERE], np.int64)[places]
    return mapped


def _or_nowhere(index: Callable[[date], int | None], text: str) -> int:
    try:
        found = index(date.fromisoformat(text))
    except ValueError:
        return NOWHERE
    return NOWHERE if found is None else found
