"""Each thing that somebody must look at is said, at its threshold and not before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_evidence import Desk, change_result, make_desk
from tests.fakes.made_looks import made_pool

from presspool.common.audit.dashboard.alerts import KINDS, Alert, alerts
from presspool.common.audit.dashboard.snapshot import (
    CertificateLook,
    OutletLook,
    Snapshot,
    SourceFault,
)
from presspool.common.audit.evidence import sources
from presspool.common.audit.evidence.evidence import Evidence
from presspool.common.audit.evidence.ledger_view import OutletReading, Room
from presspool.common.pki.certificates import DAY
from presspool.common.runs.result_file import read_result


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def outlet(desk: Desk) -> OutletReading:
    """south-echo: nothing dangling, nothing near its cap."""
    return sources.read_outlet(desk.exports[1])


def look(*outlets: OutletReading, **more: Any) -> Snapshot:
    return Snapshot(
        evidence=Evidence(outlets=outlets, runs=more.pop("runs", ())),
        now=more.pop("now", 0.0),
        **more,
    )


def of(kind: str, found: Snapshot) -> list[Alert]:
    return [alert for alert in alerts(found) if alert.kind == kind]


def test_nothing_to_look_at(outlet: OutletReading) -> None:
    assert alerts(look(outlet)) == ()


@pytest.mark.parametrize(
    ("used", "raised", "urgent"),
    [
        (800, 0, False),
        (801, 1, False),
        (999, 1, False),
        (1000, 1, True),
        (1200, 1, True),
    ],
)
def test_a_budget_of_which_more_than_four_fifths_is_used(
    outlet: OutletReading, used: int, raised: int, urgent: bool
) -> None:
    lifetime = Room(cap=8.0, used=used, room=1000)
    periods = tuple(replace(period, room=None) for period in outlet.periods)
    found = of("budget", look(replace(outlet, lifetime=lifetime, periods=periods)))
    assert len(found) == raised
    assert all(alert.urgent is urgent for alert in found)


def test_a_period_counts_while_it_is_open(outlet: OutletReading) -> None:
    full = tuple(
        replace(period, room=Room(cap=5.0, used=9, room=10), closed=None)
        for period in outlet.periods
    )
    assert len(of("budget", look(replace(outlet, periods=full)))) == len(full)
    closed = tuple(replace(period, closed=7) for period in full)
    assert of("budget", look(replace(outlet, periods=closed))) == []


def test_a_data_set_near_its_cap(outlet: OutletReading) -> None:
    full = {"d" * 32: Room(cap=5.0, used=9, room=10), "e" * 32: None}
    (found,) = of("budget", look(replace(outlet, datasets=full)))
    assert "data set dddddddddddd" in found.what


def test_a_dangling_reservation_names_its_entry(desk: Desk) -> None:
    reading = sources.read_outlet(desk.exports[0])
    (found,) = of("dangling", look(reading))
    assert (found.origin, found.entry) == (reading.origin, 1)


@pytest.mark.parametrize(
    ("kind", "left", "raised", "urgent"),
    [
        ("outlet", 7 * DAY, 0, False),
        ("outlet", 7 * DAY - 1, 1, False),
        ("outlet", 0, 1, True),
        ("outlet", -DAY, 1, True),
        ("coordinator", 30 * DAY, 0, False),
        ("coordinator", 30 * DAY - 1, 1, False),
        ("authority", 29 * DAY, 1, False),
    ],
)
def test_a_certificate_that_ends(kind: str, left: int, raised: int, urgent: bool) -> None:
    certificate = CertificateLook(kind=kind, name="x", ends=1000 * DAY + left)
    found = of("certificate", look(now=1000.0 * DAY, certificates=(certificate,)))
    assert len(found) == raised
    assert all(alert.urgent is urgent for alert in found)


@pytest.mark.parametrize(
    ("seen", "skew", "words"),
    [
        (1000.0 * DAY - DAY + 1, 60, []),
        (1000.0 * DAY - DAY, 0, ["for 1 day."]),
        (1000.0 * DAY - 1, -61, ["61 seconds behind"]),
        (None, None, ["for 10 days."]),
    ],
)
def test_an_outlet_that_is_silent_or_whose_clock_is_off(
    seen: float | None, skew: int | None, words: list[str]
) -> None:
    now = 1000.0 * DAY
    member = OutletLook(
        name="x", since=now - 10 * DAY, ends=2 * now, seen=seen, version="", skew=skew
    )
    found = of("silent", look(now=now, pool=made_pool(fleet=(member,))))
    assert len(found) == len(words)
    assert all(word in alert.what for word, alert in zip(words, found, strict=True))


def test_refused_updates_and_calls(desk: Desk, tmp_path: Path) -> None:
    other = make_desk(tmp_path, desk.contract)
    rounds = list(read_result(other.run).rounds)
    rounds[2] = replace(rounds[2], outlets=("north-post",), refused={"south-echo": "norm-cap"})
    change_result(other, rounds=tuple(rounds))
    found = of("refused", look(runs=(sources.read_run(other.run),), pool=made_pool()))
    assert [a.about for a in found] == ["south-echo", "south-echo"]
    assert any("7 calls for “late”" in a.what for a in found)
    assert any("round 2 of topics was refused for “norm-cap”" in a.what for a in found)


def test_urgent_ones_come_first_then_their_kinds(desk: Desk) -> None:
    found = alerts(
        look(
            *(sources.read_outlet(path) for path in desk.exports),
            now=2_000_000_000.0,
            pool=made_pool(),
            faults=(SourceFault(source="x", words="gone", evidence=False),),
        )
    )
    order = [(not alert.urgent, KINDS.index(alert.kind)) for alert in found]
    assert order == sorted(order)
    assert found[0].kind == "split-view"
    assert {alert.kind for alert in found} >= {"split-view", "source", "dangling", "refused"}
