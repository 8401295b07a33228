"""The contract's schemas: what each calls its keys, and the bytes that its digest is taken over.

* Schema 1 says `[adapter] aggregation`; its bytes are our own canonical JSON, version 1.
* Schema 2 says `[adapter] method`; its bytes are RFC 8785, which has no whole numbers from 2⁵³ on.

A contract keeps its schema for ever, and so its bytes and its digest. In memory both look alike.

Invariant: `current(written(body)) == body`, so what was stored is read as what it was.

Example:
    >>> current({"adapter": {"aggregation": "head"}})
    {'schema': 1, 'adapter': {'method': 'head'}}
    >>> current({"adapter": {"method": "head"}})
    {'schema': 2, 'adapter': {'method': 'head'}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import rfc8785

from presspool.common.base.canonical_json import canonical_v1

CURRENT: Final = 2
# The first version of PressPool that refuses a run.toml with keys of schema 1. Contracts of that
# schema, stored or sent, are read for ever.
REFUSED_FROM = "0.3"
LARGEST = 2**53 - 1

_OLD, _NEW = "aggregation", "method"


def current(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of either schema with today's keys, and the schema that it is of.

    One that does not say is of schema 1 if it uses that schema's key.

    Raises:
        ValueError: both keys are there, or schema 1's key under another schema.
    """
    adapter = body.get("adapter")
    if not isinstance(adapter, Mapping) or _OLD not in adapter:
        return {"schema": CURRENT, **body}
    if _NEW in adapter:
        raise ValueError(f"[adapter] {_OLD} and [adapter] {_NEW} are one key: give {_NEW} alone")
    if body.get("schema", 1) != 1:
        raise ValueError(f"[adapter] {_OLD} is called {_NEW} since schema 2")
    return {"schema": 1, **body, "adapter": _renamed(adapter, _OLD, _NEW)}


def written(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body with the keys of its own schema."""
    if body["schema"] == CURRENT:
        return dict(body)
    return {**body, "adapter": _renamed(body["adapter"], _NEW, _OLD)}


def canonical(body: Mapping[str, Any]) -> bytes:
    """The bytes of a `written` body."""
    return rfc8785.dumps(dict(body)) if body["schema"] == CURRENT else canonical_v1(body)


def check_numbers(body: Mapping[str, Any]) -> None:
    """Return if the bytes of the body's schema have all its numbers.

    Raises:
        ValueError: names the first key whose number they do not have.
    """
    key = next(_too_large(body), None) if body["schema"] == CURRENT else None
    if key is not None:
        raise ValueError(f"{key}: schema {CURRENT} has whole numbers up to 2^53 - 1 only")


def advice(body: Mapping[str, Any]) -> str:
    """What to change in a run.toml of schema 1; "" for one of today's."""
    if current(body)["schema"] == CURRENT:
        return ""
    return (
        f"contract schema 1 in a run.toml is read until PressPool {REFUSED_FROM}: write [adapter] "
        f"{_NEW} for {_OLD}, and no schema (the run gets another digest then)"
    )


def _renamed(table: Mapping[str, Any], key: str, new: str) -> dict[str, Any]:
    return {new if name == key else name: value for name, value in table.items()}


def _too_large(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _too_large(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _too_large(inner, f"{key}[{number}]")
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield key
