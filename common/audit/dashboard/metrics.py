"""The snapshot as Prometheus metrics.

Invariants:
    * No label and no value is made from readers' data: labels are names of outlets, periods, runs'
      states and words of fixed lists; the only times are the coordinator's own rounds and the ends
      of certificates.
    * Every number is of one snapshot and can be found in a ledger, a result or the database; a
      registry of its own holds nothing of this process.

Example:
    >>> from presspool.common.audit.evidence.evidence import Evidence
    >>> text = exposition(Snapshot(evidence=Evidence(outlets=(), runs=()), now=0.0)).decode()
    >>> "presspool_rounds_total" in text, "python_info" in text
    (True, False)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from presspool import __version__
from presspool.common.accounting import events
from presspool.common.audit.dashboard.alerts import KINDS, alerts
from presspool.common.audit.dashboard.snapshot import Snapshot
from presspool.common.audit.evidence.ledger_view import OutletReading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LIFETIME = "lifetime"
"""The value of label `period` for the whole filter."""
SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


# One figure an outlet: name, what it is, value.
PRIVACY: tuple[tuple[str, str, Callable[[OutletReading], float]], ...] = (
    (
        "privacy_filter_reserved_ratio",
        "Part of the filter that open reservations hold; it is in the used part.",
        lambda outlet: outlet.reserved / outlet.lifetime.room,
    ),
    (
        "privacy_filter_free_nats",
        "What still fits under the filter, as Rényi divergence at the ledger's order.",
        lambda outlet: outlet.lifetime.free * events.UNIT,
    ),
    (
        "privacy_epsilon_limit",
        "ε of the lifetime cap in force.",
        lambda outlet: outlet.lifetime.cap,
    ),
    (
        "privacy_epsilon_claimed",
        "ε that the ledger claims: the highest cap ever in force; +Inf for a non-private ledger.",
        lambda outlet: math.inf if outlet.claim is None else outlet.claim,
    ),
    ("privacy_delta", "δ of the ledger.", lambda outlet: outlet.delta),
    (
        "privacy_dangling_reservations",
        "Open reservations that a later run has overtaken.",
        lambda outlet: len(outlet.dangling),
    ),
)


def exposition(look: Snapshot) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Look(look))
    return generate_latest(registry)


class _Look(Collector):
    def __init__(self, look: Snapshot) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "presspool_build", "What makes these numbers.", value={"version": __version__}
        )
        yield from _privacy(self._look.evidence.outlets)
        yield from _ledgers(self._look.evidence.outlets)
        yield from _rounds(self._look)
        yield from _pool(self._look)


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"presspool_{name}", what, labels=labels)


def _privacy(outlets: tuple[OutletReading, ...]) -> Iterator[Metric]:
    used = _gauge(
        "privacy_filter_used_ratio",
        "Part of the outlet's lifetime filter that is charged, in all and by period.",
        "outlet",
        "period",
    )
    capped = _gauge(
        "privacy_period_cap_used_ratio",
        "Part of a period's own cap that is charged.",
        "outlet",
        "period",
    )
    for outlet in outlets:
        used.add_metric([outlet.origin, LIFETIME], outlet.lifetime.share)
        for period in outlet.periods:
            used.add_metric([outlet.origin, period.name], period.of_lifetime)
            if period.room is not None:
                capped.add_metric([outlet.origin, period.name], period.room.share)
    yield from (used, capped)
    for name, what, value in PRIVACY:
        one = _gauge(name, what, "outlet")
        for outlet in outlets:
            one.add_metric([outlet.origin], value(outlet))
        yield one


def _ledgers(outlets: tuple[OutletReading, ...]) -> Iterator[Metric]:
    entries = _gauge("ledger_entries", "Entries of the ledger.", "outlet")
    signed = _gauge(
        "ledger_signed_entries", "Entries that the newest signed head covers.", "outlet"
    )
    refused = CounterMetricFamily(
        "presspool_ledger_refusals",
        "Runs and rounds that the outlet refused.",
        labels=("outlet", "reason"),
    )
    for outlet in outlets:
        entries.add_metric([outlet.origin], outlet.entries)
        signed.add_metric([outlet.origin], outlet.head.size)
        for reason, count in sorted(Counter(r.reason for r in outlet.refusals).items()):
            refused.add_metric([outlet.origin, reason], count)
    yield from (entries, signed, refused)


def _rounds(look: Snapshot) -> Iterator[Metric]:
    results = [run.result for run in look.evidence.runs]
    done = [entry for result in results for entry in result.rounds if entry.round]
    rounds = CounterMetricFamily(
        "presspool_rounds", "Rounds by how they ended.", labels=("result",)
    )
    rounds.add_metric(["complete"], len(done))
    # A run that fails has one round that it failed in.
    rounds.add_metric(["failed"], look.pool.failures if look.pool else 0)
    admitted = CounterMetricFamily("presspool_updates_admitted", "Updates that entered an average.")
    admitted.add_metric([], sum(len(entry.outlets) for entry in done))
    reasons = Counter(code for entry in done for code in entry.refused.values())
    for said in look.pool.refused if look.pool else ():
        reasons[said.code] += said.count
    rejected = CounterMetricFamily(
        "presspool_updates_rejected",
        "Updates and calls that were refused at the coordinator.",
        labels=("reason",),
    )
    for reason, count in sorted(reasons.items()):
        rejected.add_metric([reason], count)
    moved = CounterMetricFamily(
        "presspool_round_bytes", "Bytes that rounds moved.", labels=("direction",)
    )
    moved.add_metric(["up"], sum(entry.bytes_up for entry in done))
    moved.add_metric(["down"], sum(entry.bytes_down for entry in done))
    yield from (rounds, admitted, rejected, moved, _durations([r.seconds for r in done]))


def _durations(seconds: list[float]) -> Metric:
    buckets = [(f"{edge:g}", float(sum(s <= edge for s in seconds))) for edge in SECONDS]
    return HistogramMetricFamily(
        "presspool_round_duration_seconds",
        "How long the coordinator's rounds took.",
        buckets=[*buckets, ("+Inf", float(len(seconds)))],
        sum_value=sum(seconds),
    )


def _pool(look: Snapshot) -> Iterator[Metric]:
    pool = look.pool
    ends = _gauge(
        "certificate_expiry_timestamp_seconds", "When a certificate ends.", "kind", "name"
    )
    for found in (*look.certificates, *(pool.certificates if pool else ())):
        ends.add_metric([found.kind, found.name], found.ends)
    runs = _gauge("runs", "Runs by their state.", "state")
    states = (
        [run.state for run in pool.runs]
        if pool
        else [run.result.status for run in look.evidence.runs]
    )
    for state, count in sorted(Counter(states).items()):
        runs.add_metric([state], count)
    members = _gauge("members", "Outlets by how they belong to the pool.", "state")
    for state, count in sorted((pool.members if pool else {}).items()):
        members.add_metric([state], count)
    raised = _gauge("alerts", "Alerts as the dashboard shows them.", "kind")
    kinds = Counter(alert.kind for alert in alerts(look))
    for kind in KINDS:
        raised.add_metric([kind], kinds[kind])
    unread = _gauge("sources_unreadable", "Sources that cannot be shown.")
    unread.add_metric([], len(look.faults))
    yield from (ends, runs, members, raised, unread)
