"""Metrics are the snapshot's numbers, under names that the deployed rules and charts use."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.conftest import REPOSITORY
from tests.fakes.made_dashboard import get, serving
from tests.fakes.made_evidence import OUTLETS, Desk, change_result, make_desk
from tests.fakes.made_looks import made_pool

from presspool.common.accounting import events
from presspool.common.audit.dashboard import metrics
from presspool.common.ledger.store import Ledger
from presspool.common.runs.result_file import read_result

DEPLOY = REPOSITORY / "docs" / "deploy"
LABELS = {
    "outlet",
    "period",
    "reason",
    "result",
    "state",
    "kind",
    "name",
    "direction",
    "le",
    "version",
}
WORDS = {
    "lifetime",
    "complete",
    "failed",
    "running",
    "queued",
    "up",
    "down",
    "member",
    "waiting",
    "authority",
    "coordinator",
    "outlet",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("desk"))
    rounds = list(read_result(made.run).rounds)
    rounds[1] = dataclasses.replace(rounds[1], seconds=12.0, bytes_up=700)
    rounds[2] = dataclasses.replace(
        rounds[2], seconds=200.0, outlets=("north-post",), refused={"south-echo": "norm-cap"}
    )
    change_result(made, rounds=tuple(rounds))
    return made


@pytest.fixture(scope="module")
def samples(desk: Desk) -> list[Sample]:
    with serving([*desk.ledgers, desk.run], pool=made_pool) as at:
        answer = get(at, "/metrics")
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    return [s for family in text_string_to_metric_families(answer.body) for s in family.samples]


def value(samples: list[Sample], metric: str, /, **labels: str) -> float:
    (found,) = [s for s in samples if s.name == f"presspool_{metric}" and s.labels == labels]
    return found.value


def test_the_ledgers_numbers_are_the_books(samples: list[Sample], desk: Desk) -> None:
    for name, path in zip(OUTLETS, desk.ledgers, strict=True):
        outlet = f"presspool/{name}"
        with Ledger(path) as ledger:
            book = ledger.book
        room = book.room(9.0)
        used = "privacy_filter_used_ratio"
        assert value(samples, used, outlet=outlet, period="lifetime") == book.spent / room
        for period in ("2026-Q1", "2026-Q2"):
            charged = book.charged(period=period)
            assert value(samples, used, outlet=outlet, period=period) == charged / room
            capped = value(samples, "privacy_period_cap_used_ratio", outlet=outlet, period=period)
            assert capped == charged / book.room(6.0)
        free = (room - book.spent) * events.UNIT
        assert value(samples, "privacy_filter_free_nats", outlet=outlet) == pytest.approx(free)
        assert value(samples, "privacy_epsilon_limit", outlet=outlet) == book.caps.epsilon_max
        assert value(samples, "privacy_epsilon_claimed", outlet=outlet) == book.highest.epsilon_max
        assert value(samples, "privacy_delta", outlet=outlet) == book.opened.delta
        open_now = len(book.dangling)
        assert value(samples, "privacy_dangling_reservations", outlet=outlet) == open_now
        assert value(samples, "ledger_entries", outlet=outlet) == book.size
        assert value(samples, "ledger_signed_entries", outlet=outlet) == book.size
        refused = value(samples, "ledger_refusals_total", outlet=outlet, reason="policy-noise")
        assert refused == 1


def test_the_rounds_numbers_are_the_results(samples: list[Sample]) -> None:
    assert value(samples, "rounds_total", result="complete") == 2
    assert value(samples, "rounds_total", result="failed") == 1
    assert value(samples, "updates_admitted_total") == 3
    assert value(samples, "updates_rejected_total", reason="norm-cap") == 1
    assert value(samples, "updates_rejected_total", reason="late") == 7
    assert value(samples, "round_bytes_total", direction="up") == 708
    buckets = {
        s.labels["le"]: s.value
        for s in samples
        if s.name == "presspool_round_duration_seconds_bucket"
    }
    assert (buckets["5"], buckets["15"], buckets["300"], buckets["+Inf"]) == (0, 1, 2, 2)
    assert value(samples, "round_duration_seconds_sum") == 212.0
    assert value(samples, "round_duration_seconds_count") == 2


def test_the_pools_numbers_are_the_coordinators(samples: list[Sample]) -> None:
    pool = made_pool()
    for found in pool.certificates:
        shown = value(
            samples, "certificate_expiry_timestamp_seconds", kind=found.kind, name=found.name
        )
        assert shown == found.ends
    assert value(samples, "members", state="member") == 2
    assert value(samples, "runs", state="failed") == 1
    assert value(samples, "alerts", kind="dangling") == 1
    assert value(samples, "alerts", kind="split-view") == 1
    assert value(samples, "sources_unreadable") == 0


def test_no_label_is_made_from_readers_data(samples: list[Sample], desk: Desk) -> None:
    """A closed list of labels, and of the kinds of values that they can have."""
    from presspool.common.audit.dashboard.alerts import KINDS
    from presspool.common.ledger.entries import REASONS

    names = {f"presspool/{name}" for name in OUTLETS} | {"north-post", "press-pool"}
    known = names | WORDS | set(KINDS) | set(REASONS) | {"norm-cap", "late"}
    for sample in samples:
        assert set(sample.labels) <= LABELS, sample
        for label, text in sample.labels.items():
            period = label == "period" and re.fullmatch(r"2026-Q[1-4]", text)
            number = label in ("le", "version") and re.fullmatch(r"[0-9.e+]+|\+Inf", text)
            assert text in known or period or number, sample
    assert not any("seconds" in s.name and "outlet" in s.labels for s in samples)


def test_nothing_of_the_process_is_told(samples: list[Sample]) -> None:
    assert all(sample.name.startswith("presspool_") for sample in samples)


def expressions() -> list[str]:
    rules: dict[str, Any] = yaml.safe_load((DEPLOY / "presspool-alerts.yml").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "presspool-grafana.json").read_text())
    return found + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_rules_and_charts_name_only_metrics_and_labels_that_exist(samples: list[Sample]) -> None:
    exist: dict[str, set[str]] = {}
    for sample in samples:
        exist.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions():
        named = re.findall(r"(presspool_[a-z_]+)(?:\{([^}]*)\})?", expression)
        assert named, expression
        for name, matchers in named:
            assert name in exist, expression
            assert set(re.findall(r"([a-z]+)[!=]", matchers)) <= exist[name], expression


def test_legends_and_annotations_name_only_labels_that_exist(samples: list[Sample]) -> None:
    labels = {label for sample in samples for label in sample.labels}
    texts = [
        path.read_text()
        for path in (DEPLOY / "presspool-alerts.yml", DEPLOY / "presspool-grafana.json")
    ]
    for text in texts:
        assert set(re.findall(r"\{\{([a-z]+)\}\}", text)) <= labels
        assert set(re.findall(r"\$labels\.([a-z]+)", text)) <= labels


def test_every_rule_has_a_summary_and_a_severity() -> None:
    rules = yaml.safe_load((DEPLOY / "presspool-alerts.yml").read_text())
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert len(set(names)) == len(names) > 8
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_guide_names_every_metric(samples: list[Sample]) -> None:
    guide = (Path(REPOSITORY) / "docs" / "guides" / "dashboard.md").read_text(encoding="utf-8")
    families = {re.sub("_(bucket|sum|count)$", "", s.name) for s in samples}
    assert {name for name in families if f"`{name}`" not in guide} == set()
