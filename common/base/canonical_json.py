"""PressPool's own canonical JSON, version 1: the bytes of old contracts and of all ledger entries.

Sorted keys, no white space, UTF-8, no NaN and no infinity, numbers as Python writes them. RFC 8785
(`rfc8785.dumps`) replaced it, and is what everything else is hashed over. The two differ in floats
alone (1e-05 here, 0.00001 there; 1.0 here, 1 there), in integers from 2⁵³ on, which the standard
does not have, and in the order of keys beyond the Basic Multilingual Plane, which we do not have.
So this one stays where stored bytes hold floats:

* contracts of schema 1 (`presspool.common.contract.contract`);
* ledger entries (`presspool.common.ledger.entries`), whose schema is still the first.

Invariant: equal values have equal bytes on every machine, for ever.

Example:
    >>> canonical_v1({"b": 1e-05, "a": ["ä", None]}).decode()
    '{"a":["ä",null],"b":1e-05}'
"""

from __future__ import annotations

import json
from typing import Any


def canonical_v1(value: Any) -> bytes:
    """The bytes of a JSON value.

    Raises:
        ValueError: a number that JSON does not have, or text that UTF-8 does not have.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
