"""Canonical JSON: equal values have equal bytes on every machine, so that a hash can name a value.

Sorted keys, no white space, UTF-8, shortest round-trip numbers, no NaN and no infinity. Contracts
are hashed over it, and ledger entries and exports are made of it.

Example:
    >>> canonical({"b": 0.1, "a": ["ä", None]}).decode()
    '{"a":["ä",null],"b":0.1}'
"""

from __future__ import annotations

import json
from typing import Any


def canonical(value: Any) -> bytes:
    """The bytes of a JSON value.

    Raises:
        ValueError: a number that JSON does not have, or text that UTF-8 does not have.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
