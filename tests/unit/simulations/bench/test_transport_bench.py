"""`presspool bench transport`: real rounds, figures that are what the turns say, nothing left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.transport import transport_bench
from presspool.simulations.bench.transport.transport_report import section
from presspool.simulations.bench.transport.transport_results import (
    Load,
    TransportBench,
    TransportMeasurement,
    Turn,
    quartiles,
)
from presspool.simulations.bench.transport.transport_stock import stock

SMALL = TransportMeasurement(
    load=Load(outlets=8, megabytes=0, turns=2),
    peak_bytes=5_000_000,
    turns=[
        Turn(
            ours=(0.1, 0.2, 0.3),
            arrivals=(0.1,),
            idle=(0.2, 0.3),
            masked=(0.9, 0.9),
            stock=(10.0, 3.0),
        ),
        Turn(
            ours=(0.4, 0.4, 0.4),
            arrivals=(0.1,),
            idle=(0.4, 0.4),
            masked=(1.6, 1.6),
            stock=(24.0, 3.0),
        ),
    ],
)
LARGE = TransportMeasurement(
    load=Load(outlets=2, megabytes=100, turns=1),
    peak_bytes=250_000_000,
    turns=[Turn(ours=(4.0,), arrivals=(2.0,), stock=(10.0, 5.0))],
)
MANY = TransportMeasurement(
    load=Load(outlets=6, megabytes=100, turns=1),
    peak_bytes=310_000_000,
    turns=[Turn(ours=(9.0,), arrivals=(3.0,))],
)
BENCH = TransportBench(machine={"cores": "2"}, small=SMALL, large=LARGE, many=MANY)


def test_ratios_are_medians_over_turns_and_not_of_all_rounds() -> None:
    assert SMALL.speed_up == pytest.approx((50.0 + 60.0) / 2)
    assert SMALL.slow_down == pytest.approx((1.25 + 1.0) / 2)
    assert quartiles(SMALL.ours) == pytest.approx((0.225, 0.35, 0.4))
    assert LARGE.updates_held == 2.5
    assert (LARGE.arrivals, LARGE.arrival_speed_up) == ((2.0, 5.0), 2.5)


def test_each_target_says_whether_it_was_met() -> None:
    met = {claim.text: claim.met for claim in BENCH.claims()}
    assert list(met.values()) == [False, False, True, False, True, False]
    assert Claim(text="", value=3.0, bound=3.0, at_least=True).met
    assert Claim(text="", value=3.0, bound=3.0).met
    assert not Claim(text="", value=2.9, bound=3.0, at_least=True).met


def test_the_page_and_the_json_hold_every_claim() -> None:
    page, body = section(BENCH), json.loads(json.dumps(BENCH.to_json()))
    for claim in BENCH.claims():
        assert claim.text in page
    assert [claim["met"] for claim in body["claims"]] == [claim.met for claim in BENCH.claims()]
    assert body["loads"]["small"]["ratio"] == SMALL.speed_up
    assert body["loads"]["large"]["turns"][0]["stock"] == [10.0, 5.0]


def test_our_contestant_makes_whole_rounds_beside_idle_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport_bench, "IDLE", 20)
    load = Load(outlets=3, megabytes=1, turns=1)
    found = transport_bench.measure(load, against=False, idle=True)
    (turn,) = found.turns
    assert min(turn.masked) > 0
    assert turn.stock is None
    assert len(turn.ours) == len(turn.idle) == 1
    assert min(turn.ours + turn.idle) > 0
    assert all(0 < a < s for a, s in zip(turn.arrivals, turn.ours, strict=True))
    assert found.peak_bytes > 1_000_000  # the new adapter, at least


@pytest.mark.soak
def test_the_stock_contestant_makes_rounds_and_leaves_no_process(tmp_path: Path) -> None:
    with stock(Load(outlets=2, megabytes=1, turns=1), tmp_path / "s") as one_round:
        seconds, arrival = one_round()
    assert 0 < arrival < seconds
    mark, deadline = f"FLWR_HOME={tmp_path / 's'}".encode(), time.monotonic() + 20
    while left := [pid for pid in Path("/proc").iterdir() if _has(pid, mark)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def _has(process: Path, mark: bytes) -> bool:
    try:
        return process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
