"""Our first canonical JSON and RFC 8785: one spelling where values have no floats."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.canonical_json import canonical_v1
from presspool.common.ledger.entries import PolicyChanged, build, parse_entry
from presspool.common.transparency.consortium_entries import Entry
from presspool.common.wire import envelope
from presspool.common.wire.approval import Approval

TEXT = st.text(st.characters(codec="utf-8"))
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
# Keys are names of fields, hence ASCII.
KEYS = st.text(st.characters(codec="ascii"))
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
SHA = HEX.map("sha256:{}".format)
NAME = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
RUN = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(VALUES)
def test_both_spell_values_without_floats_alike(value: Any) -> None:
    assert rfc8785.dumps(value) == canonical_v1(value)
    assert json.loads(rfc8785.dumps(value)) == value


@given(run=RUN, contract=SHA, round=st.integers(0, 10_000), adapter=SHA, outlets=st.sets(NAME))
def test_old_entries_of_a_consortium_log_verify(**fields: Any) -> None:
    entry = Entry(**fields | {"outlets": tuple(sorted(fields["outlets"]))})
    assert entry.canonical() == canonical_v1(entry.model_dump(mode="json"))


@given(
    outlet=NAME,
    run=RUN,
    contract=SHA,
    round=st.integers(1, 10_000),
    phase=st.integers(1, 16),
    base=SHA,
    body=SHA,
    bytes=st.integers(1, 2**31 - 1),
    reserve=st.integers(0, 2**53 - 1),
    root=HEX,
)
def test_old_headers_verify(**fields: Any) -> None:
    header = envelope.UpdateHeader(
        key="0" * 16,
        nonce="0" * 32,
        failure=None,
        task=envelope.task_id(fields["run"], fields["round"], fields["phase"], fields["outlet"]),
        **fields,
    )
    old = canonical_v1(asdict(header))
    assert rfc8785.dumps(asdict(header)) == old
    assert envelope.read_header(envelope.UpdateHeader, old) == header


@given(by=TEXT)
def test_old_approvals_have_these_bytes(by: str) -> None:
    said = Approval(run="", by=by, day="2026-01-05")
    assert said.encode() == canonical_v1({"by": by, "day": "2026-01-05"}) + b"\n"


@pytest.mark.parametrize("value", [1e-05, 1.0, 1e16, -0.0])
def test_floats_are_where_they_differ(value: float) -> None:
    assert rfc8785.dumps(value) != canonical_v1(value)


def test_so_ledger_entries_keep_the_first_form() -> None:
    entry = build(PolicyChanged, seq=3, day="2026-01-05", epsilon_max=8.0, period_epsilon=1e-05)
    assert b'"epsilon_max":8.0' in entry.canonical()
    assert b'"period_epsilon":1e-05' in entry.canonical()
    assert parse_entry(entry.canonical()) == entry
