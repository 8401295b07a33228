"""Entries: one spelling each, and no field that a reader's data could go into."""

from __future__ import annotations

import contextlib
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_ledgers import (
    DAY,
    DIGEST,
    JOB,
    RUN,
    SETTINGS,
    identity,
    opened,
    reserve,
    rotation,
)
from tests.fakes.made_ledgers import SIGNER as OLD

from presspool.common.accounting import events
from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.entries import Entry, build, new_id, parse_entry
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.ledger.restored_entries import Lost, Restored

BOOK = opened()
WARM_UP = events.SelfComposed(event=events.Gaussian(noise_multiplier=3.0), count=5)
STATED = entries.Stated(delta=1e-5, epsilon=0.9, version="0.6.0")
ID = {"seq": 7, "day": DAY, "reservation": identity(1)}
SAMPLES: list[Entry] = [
    build(entries.Opened, seq=0, day=DAY, **SETTINGS),
    build(entries.Opened, seq=0, day=DAY, **SETTINGS, period_epsilon=4.0, dataset_epsilon=5.5),
    reserve(BOOK),
    reserve(BOOK, event=events.Composed(events=(WARM_UP, JOB)), charge=9, stated=STATED),
    build(entries.ReleaseIntent, **ID, round=2, steps=30, digest=DIGEST),
    build(entries.GiveBack, **ID, kept=30, charge=11),
    build(entries.Settle, **ID),
    build(entries.PolicyChanged, seq=3, day=DAY, epsilon_max=6.0),
    build(entries.AdapterReceived, seq=3, day=DAY, run=RUN, round=2, digest=DIGEST),
    build(entries.Refusal, seq=3, day=DAY, run=RUN, reason="filter", charge=5, free=0),
    rotation(BOOK, OLD, OLD),
    build(entries.PeriodClosed, seq=3, day=DAY, period="2026-Q1", charge=0),
    build(Lost, seq=8, day=DAY, leaf="ab" * 32),
    build(Restored, seq=9, day=DAY, lost=1, basis="lifetime", periods=(), charge=5),
    build(entries.NonPrivate, seq=1, day=DAY),
    build(DataFrozen, seq=3, day=DAY, commitment=DIGEST, source="parquet", query=DIGEST),
]


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Entry))


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda e: e.kind)
def test_an_entry_comes_back_from_its_bytes(entry: Entry) -> None:
    data = entry.canonical()
    assert parse_entry(data) == entry
    assert (
        data
        == json.dumps(
            json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda e: e.kind)
def test_every_other_spelling_of_the_same_is_refused(entry: Entry) -> None:
    body = json.loads(entry.canonical())
    unsorted = json.dumps(dict(reversed(body.items())), separators=(",", ":")).encode()
    for other in (json.dumps(body, sort_keys=True).encode(), unsorted, entry.canonical() + b"\n"):
        with pytest.raises(EvidenceError, match="canonical"):
            parse_entry(other)


def test_a_number_spelled_another_way_is_refused() -> None:
    data = SAMPLES[0].canonical()
    for old, new in ((b"8.0", b"8"), (b"8.0", b"8.00"), (b"8.0", b"80e-1"), (b"1e-05", b"1e-5")):
        assert old in data
        with pytest.raises(EvidenceError):
            parse_entry(data.replace(old, new))


def test_a_key_given_twice_is_refused() -> None:
    data = SAMPLES[6].canonical()
    with pytest.raises(EvidenceError):
        parse_entry(data.replace(b'"seq":7', b'"seq":6,"seq":7'))


def schema_strings(schema: Any) -> list[dict[str, Any]]:
    """Every place in a JSON schema that takes a string."""
    if isinstance(schema, list):
        return [found for part in schema for found in schema_strings(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") == "string" else []
    return here + [found for part in schema.values() for found in schema_strings(part)]


def test_no_entry_has_room_for_free_text() -> None:
    """Reader ids, hashes of data, error texts: every string has a pattern or is a fixed word."""
    patterns = set()
    for kind in get_args(Entry):
        schema = kind.model_json_schema()
        for place in schema_strings(schema):
            assert {"pattern", "const", "enum"} & place.keys(), (kind, place)
            patterns.add(place.get("pattern"))
        assert schema["additionalProperties"] is False
    # A new pattern is a decision: add it here only if no reader's data can take that form.
    assert patterns - {None} == {
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z",  # day
        r"^[0-9a-f]{32}\z",  # random id
        r"^sha256:[0-9a-f]{64}\z",  # contract, released bytes, adapter, commitment, SQL
        r"^[a-z0-9][a-z0-9./-]{0,199}\z",  # the log's name
        r"^[0-9]{4}(-(Q[1-4]|H[12]|0[1-9]|1[0-2]))?\z",  # period
        r"^[a-z0-9][a-z0-9./-]{0,199}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}\z",  # verifier key
        r"^[A-Za-z0-9+/]{86}==\z",  # signature
        r"^[0-9][0-9A-Za-z.]{0,19}\z",  # version
        r"^[0-9a-f]{64}\z",  # leaf hash of a lost entry: the one in the tree, or no head holds
    }


def test_no_entry_has_a_field_for_what_must_not_leave() -> None:
    names = {name for kind in get_args(Entry) for name in kind.model_fields}
    assert names == {
        "seq",
        "day",
        "kind",
        "origin",
        "unit",
        "order",
        "epsilon_max",
        "delta",
        "key",
        "period_epsilon",
        "dataset_epsilon",
        "reservation",
        "run",
        "period",
        "datasets",
        "event",
        "charge",
        "alone",
        "stated",
        "purpose",  # a word of a fixed list
        "round",
        "steps",
        "digest",
        "kept",
        "reason",
        "free",
        "signature",
        "leaf",
        "lost",
        "basis",
        "periods",
        "commitment",  # of the data, with a nonce that stays at the outlet
        "source",
        "query",
        "window",
        "consent",
        "most_records",
    }


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (entries.Settle, {"reservation": "reader-42"}),
        (entries.Settle, {"reservation": identity(1) + "\n"}),
        (entries.Settle, {"day": "2026-02-30"}),
        (entries.Settle, {"day": "2026-01-05T10:00:03"}),
        (entries.Settle, {"seq": -1}),
        (entries.Settle, {"note": "free text"}),
    ],
)
def test_other_values_cannot_be_written_down(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(LedgerError, match="Settle"):
        build(kind, **{**ID, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"datasets": ()},
        {"datasets": (identity(2), identity(1))},
        {"datasets": (identity(1), identity(1))},
        {"period": "spring"},
        {"charge": -1},
        {"charge": 1.5},
        {"charge": 2**53},
        {"unit": "outlet"},
        {"run": "a" * 64},
    ],
)
def test_reservations_that_cannot_be_written_down(wrong: dict[str, Any]) -> None:
    with pytest.raises(LedgerError, match="Reserve"):
        reserve(BOOK, **wrong)


def test_orders_outside_the_portfolio_are_refused() -> None:
    with pytest.raises(LedgerError, match="expected one of 2, 3, 4, 6, 8"):
        build(entries.Opened, seq=0, day=DAY, **{**SETTINGS, "order": 5})


def test_ids_are_random_and_accepted() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert parse_entry(build(entries.Settle, **{**ID, "reservation": ids.pop()}).canonical())


def test_an_entry_has_a_longest_size() -> None:
    with pytest.raises(EvidenceError, match="at most"):
        parse_entry(b"[" * 20_000)


def test_the_largest_reservation_still_fits() -> None:
    inner = events.PoissonSampled(
        rate=0.1234567890123456, event=events.Gaussian(noise_multiplier=1.234567890123456)
    )
    phase = events.SelfComposed(event=inner, count=1000)
    largest = reserve(
        BOOK,
        event=events.Composed(events=(phase,) * events.MOST_PHASES),
        charge=1,
        datasets=tuple(identity(i) for i in range(entries.MOST_DATASETS)),
        stated=STATED,
    )
    assert parse_entry(largest.canonical()) == largest


def test_an_entry_of_a_newer_presspool_says_what_to_do() -> None:
    with pytest.raises(EvidenceError, match=r"newer PressPool wrote it"):
        parse_entry(b'{"day":"2026-01-05","kind":"data-thawed","seq":3}')


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_entry(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_entry(data)


@given(st.sampled_from(SAMPLES), st.data())
def test_edited_entries_never_crash(entry: Entry, data: st.DataObject) -> None:
    whole = entry.canonical()
    at = data.draw(st.integers(0, len(whole)))
    edited = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    with contextlib.suppress(EvidenceError):
        assert parse_entry(edited).canonical() == edited
