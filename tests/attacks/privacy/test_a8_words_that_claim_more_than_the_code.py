"""A.8: what the documents say leaves an outlet is all that the program can send, and no less.

The messages and headers are walked, so that a field that somebody adds fails here until
docs/privacy.md has a line for it.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from tests.fakes.made_evidence import made_contract
from tests.fakes.made_outlets import policy_for

from presspool.client.cli import budget_cli
from presspool.client.consent.decision import findings
from presspool.common.accounting import events, filter
from presspool.common.audit.pages import phrases
from presspool.common.base.console import Screen
from presspool.common.contract import schema_versions
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import solve_noise
from presspool.common.proto import enrolment_pb2, pool_pb2, witness_pb2
from presspool.common.trust.local import Local
from presspool.common.trust.trust_model import Event
from presspool.common.wire.envelope import UpdateHeader
from presspool.common.wire.update import AdapterUpdate
from presspool.server.cli.contract_summary import render, summarise

PRIVACY = Path(__file__).parents[3] / "docs" / "privacy.md"
FILES: tuple[FileDescriptor, ...] = tuple(
    made.DESCRIPTOR for made in (enrolment_pb2, pool_pb2, witness_pb2)
)


def sent(file: FileDescriptor) -> Iterator[Descriptor]:
    """Every message that an outlet sends: what the services take, and what is inside."""
    waiting = [m.input_type for s in file.services_by_name.values() for m in s.methods]
    seen: set[str] = set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        yield message
        waiting += [field.message_type for field in message.fields if field.message_type]


def section() -> str:
    text = PRIVACY.read_text(encoding="utf-8")
    return text[text.index("**What leaves an outlet.**") : text.index("**What the frozen layers")]


def row(of: str) -> str:
    return next(line for line in section().splitlines() if f"`{of}`:" in line)


def test_every_field_that_can_leave_has_its_words() -> None:
    words = section()
    for message in (m for file in FILES for m in sent(file)):
        names = [f"{message.name}.{field.name}" for field in message.fields] or [message.name]
        missing = [name for name in names if f"`{name}`" not in words]
        assert not missing, f"docs/privacy.md does not say that these leave: {missing}"


@pytest.mark.parametrize("header", [AdapterUpdate, UpdateHeader])
def test_every_field_of_an_answer_has_its_words(header: Any) -> None:
    said = set(re.findall(r"`([a-z_]+)`", row(header.__name__)))
    assert said == {field.name for field in dataclasses.fields(header)}


def test_nothing_is_listed_that_is_not_sent() -> None:
    known = {f"{m.name}.{f.name}" for file in FILES for m in sent(file) for f in m.fields}
    assert set(re.findall(r"`([A-Z]\w+\.\w+)`", section())) == known


def test_the_sum_over_outlets_has_its_citation() -> None:
    text = re.sub(r"\s+", " ", PRIVACY.read_text(encoding="utf-8"))
    for work in (text, phrases.COMPOSITION):
        assert "Vadhan" in work
        assert "2023" in work
    assert "oncurrent Composition Theorems for Differential Privacy" in text


# --- σ and the ledger ----------------------------------------------------------------------------


def summary(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> tuple[dict[str, Any], str]:
    monkeypatch.setattr("presspool.server.cli.contract_summary._adapter_noise", lambda _: None)
    found, screen = summarise(contract), Screen(file=io.StringIO(), width=200)
    render(found, screen)
    stream = screen.file
    assert isinstance(stream, io.StringIO)
    return found, stream.getvalue()


def test_a_contract_says_what_it_costs_ledgers(monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = summary(monkeypatch, made_contract())
    assert list(found["ledger"]["runs_held"]) == [str(order) for order in filter.PORTFOLIO]
    assert found["ledger"]["runs_held"]["6"] > 0
    assert "by the ledger's order" in said
    assert "refuses it as over-budget" not in said


def test_a_contract_that_no_usual_ledger_holds_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ε = 7.9 by PLD is under the cap of 8, and still more than the filter of order 6 holds."""
    steps = made_contract().plan.steps
    sigma = solve_noise(epsilon=7.9, delta=1e-5, sampling_rate=0.1, steps=steps)
    privacy = {"clip": 1.0, "records_per_reader": 2, "sampling_rate": 0.1}
    dear = made_contract(privacy={**privacy, "noise_multiplier": sigma})
    found, said = summary(monkeypatch, dear)
    assert found["epsilon"] < filter.USUAL_EPSILON
    assert found["ledger"]["runs_held"]["6"] == 0
    assert "refuses it as over-budget" in said


def test_the_usual_ledger_is_the_one_that_init_makes() -> None:
    defaults = {n: p.default for n, p in inspect.signature(budget_cli.init).parameters.items()}
    assert defaults["epsilon_max"] == filter.USUAL_EPSILON
    assert defaults["delta"] == filter.USUAL_DELTA
    assert f"order = {filter.USUAL_ORDER}\n" in inspect.getsource(budget_cli.init)


# --- What is capped and stated is what is charged ------------------------------------------------


def test_the_cap_on_a_run_is_held_against_the_event_that_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trust model that charges twice the plan is judged by twice the plan."""
    pins = dict.fromkeys(("weights", "tokenizer", "manifest"), "sha256:" + "1" * 64)
    contract = made_contract(model=pins)
    once = contract.plan.epsilon()

    def twice(_: Local, asked: Contract) -> Event:
        return events.from_dp(
            dp_accounting.ComposedDpEvent([asked.plan.event(), asked.plan.event()])
        )

    assert contract.trust.epsilon(contract) == once
    policy = policy_for(contract, max_epsilon_per_run=once * 1.01)
    assert all(rule.holds for rule in findings(contract, policy))
    monkeypatch.setattr(Local, "event", twice)
    assert contract.trust.epsilon(contract) > once * 1.1
    assert [rule.code for rule in findings(contract, policy) if not rule.holds] == [
        "policy-epsilon"
    ]


@pytest.mark.parametrize("number", [2**53, -(2**53), math.inf])
def test_numbers_in_lists_are_checked_too(number: float) -> None:
    body = {"schema": 2, "adapter": {"targets": [1, number]}}
    if number == math.inf:
        schema_versions.check_numbers(body)  # no whole number: other checks are for that
        return
    with pytest.raises(ValueError, match=r"adapter\.targets\[1\]: .*2\^53 - 1"):
        schema_versions.check_numbers(body)
