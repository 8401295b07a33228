"""What a task says of records, whatever its code raises over one of them.

Invariant: a record over which the code fails is left out, and alone; it is found by halving.

Example:
    >>> def numbers(rows):
    ...     return {"n": rows["text"].cast(pa.int64())}
    >>> judged(numbers, {"text": pa.array(["1", "x", "3"])})["n"].to_pylist()
    [1, None, 3]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = Mapping[str, pa.Array]

CONFUSES = "record over which the task's code fails"


def judged(judge: Callable[[Rows], Rows], rows: Rows) -> Rows:
    """What `judge` makes of rows, null where it raises."""
    count = len(next(iter(rows.values())))
    try:
        return judge(rows)
    except Exception:  # noqa: BLE001  whatever a task throws
        if count <= 1:
            kinds = judge(_some(rows, slice(0)))
            return {name: pa.nulls(count, values.type) for name, values in kinds.items()}
    cut = count // 2
    left, right = (judged(judge, _some(rows, part)) for part in (slice(cut), slice(cut, None)))
    return {name: pa.concat_arrays([left[name], right[name]]) for name in left}


def faults(
    judge: Callable[[Rows], pa.Array], rows: Rows
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The reasons for which records are left out, and which they are, (rows,).

    Args:
        judge: gives each row's reason, or null, as `Task.faults`.
        rows: a batch.
    """

    def said(some: Rows) -> Rows:
        return {"why": pc.fill_null(judge(some).cast(pa.large_string()), "")}

    why = pc.fill_null(judged(said, rows)["why"], CONFUSES)
    for reason in pc.unique(why).to_pylist():
        if reason:
            yield reason, pc.equal(why, reason).to_numpy(zero_copy_only=False)


def _some(rows: Rows, part: slice) -> Rows:
    return {name: values[part] for name, values in rows.items()}
