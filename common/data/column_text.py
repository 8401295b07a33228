"""A column of a file, of whatever type, as text; and which of its values are none.

Invariant: a value that is not UTF-8 is null and set in the column's mask; it changes no other.

Example:
    >>> values, undecodable = strings(pa.array([3, None]))
    >>> values.to_pylist(), undecodable.tolist()
    (['3', None], [False, False])
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.common.data import decoders

Mask = NDArray[np.bool_]
Column = tuple[pa.Array, Mask]


def strings(column: pa.Array, *, lists: bool = False) -> Column:
    """A column as `large_string`, and a mask of the values that are not UTF-8 (null there).

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: it is none of texts, numbers or truths, nor,
            with `lists`, of lists.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # integers with gaps, as pandas keeps them
        column = pc.if_else(pc.is_nan(column), None, column)
    if _is_text(column.type):
        return _decoded(column.cast(pa.large_binary()))
    if lists and _is_list(column.type):
        return _told(column)
    return column.cast(pa.large_string()), np.zeros(len(column), dtype=np.bool_)


def _told(values: pa.Array) -> Column:
    """Lists, as the turns of a chat or a text's tokens are in Parquet, as JSON."""
    said, undecodable = list[str | None](), np.zeros(len(values), dtype=np.bool_)
    for place, value in enumerate(values):
        try:
            found = value.as_py()
        except UnicodeDecodeError:
            found, undecodable[place] = None, True
        said.append(None if found is None else decoders.as_json(found))
    return pa.array(said, pa.large_string()), undecodable


def _is_list(kind: pa.DataType) -> bool:
    """Of objects, texts or whole numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    part = kind.value_type
    return pa.types.is_struct(part) or pa.types.is_integer(part) or _is_text(part)


def _is_text(kind: pa.DataType) -> bool:
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return any(getattr(pa.types, f"is_{test}")(kind) for test in tests)


def _decoded(values: pa.Array) -> Column:
    """Decodes UTF-8, halving where Arrow refuses until the bad values stand alone."""
    try:
        return values.cast(pa.large_string()), np.zeros(len(values), dtype=np.bool_)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, pa.large_string()), np.ones(1, dtype=np.bool_)
    half = len(values) // 2
    (left, bad_left), (right, bad_right) = _decoded(values[:half]), _decoded(values[half:])
    return pa.concat_arrays([left, right]), np.concatenate([bad_left, bad_right])


def as_mask(values: pa.Array) -> Mask:
    """An Arrow array of booleans without nulls as numpy's."""
    mask: Mask = values.to_numpy(zero_copy_only=False)
    return mask


def count_values(values: pa.Array, hit: Mask) -> Counter[str]:
    """How often each value occurs where `hit` is set."""
    counts = pc.value_counts(values.filter(pa.array(hit))).to_pylist()
    return Counter({entry["values"]: entry["counts"] for entry in counts})
