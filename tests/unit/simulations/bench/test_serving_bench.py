"""`presspool bench serving`: loads count what they say, aims are judged; one real, short run."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import typed
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.contract.contract import Contract
from presspool.simulations.bench.served.port_load import LoadTold, at_rate, moments
from presspool.simulations.bench.served.serving_bench import (
    EIGHT,
    ONE,
    ServingAsked,
    ServingFigures,
    loads_of,
)
from presspool.simulations.bench.served.serving_report import serving_section

STALL = 0.3


class Port:
    """A port that answers, but for every fifth call, and stalls over the first."""

    def __init__(self) -> None:
        self.calls = self.connections = 0
        self.bodies = list[str]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                self.bodies.append((await reader.readexactly(length)).decode())
                self.calls += 1
                status = 500 if self.calls % 5 == 0 else 200
                if self.calls == 1:
                    await asyncio.sleep(STALL)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        except asyncio.IncompleteReadError:
            writer.close()

    @contextmanager
    def open(self) -> Iterator[str]:
        loop, ready, found = asyncio.new_event_loop(), threading.Event(), list[str]()

        async def serve() -> None:
            server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
            found.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ready.set()

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(serve(), loop)
        assert ready.wait(240)
        yield found[0]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_rate_counts_what_was_answered_and_from_when_it_was_due() -> None:
    port, due = Port(), moments(60, 1.0, seed=3)
    with port.open() as address:
        told = at_rate(address, ["one", "two"], rate=60, seconds=1.0, seed=3)
    assert port.calls == len(due) == len(port.bodies)
    assert told.errors == port.calls // 5
    assert told.calls == port.calls - told.errors
    assert {"one", "two"} == set(port.bodies)
    assert abs(port.bodies.count("one") - port.bodies.count("two")) <= 1
    assert told.p99 >= STALL
    assert port.connections < port.calls


def test_moments_are_drawn_again_from_their_seed() -> None:
    assert moments(100, 5, 1) == moments(100, 5, 1) != moments(100, 5, 2)
    found = moments(100, 100, 1)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert found == sorted(found)
    assert sum(gap < 0.01 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def load(rate: int, *, errors: int = 0, median: float = 0.02, p99: float = 0.03) -> LoadTold:
    """One second of calls."""
    return LoadTold(calls=rate, seconds=1.0, errors=errors, median=median, p99=p99)


def test_aims_are_judged_by_ratios_of_one_turn() -> None:
    figures = ServingFigures(
        asked=ServingAsked(turns=3),
        base="base",
        cores=2,
        load=(0.1, 2.0),
        fastest={
            ONE: [load(300), load(200), load(400)],
            EIGHT: [load(270), load(190), load(300)],
            "model": [load(100), load(100), load(100)],
            "pipeline": [load(100), load(80), load(200, errors=4)],
        },
        half=[load(150, p99=0.06), load(150, p99=0.03), load(150, p99=0.05, errors=1)],
        # What is loaded in the first calls does not count.
        memory=[(0, 100.0), (1000, 900.0), (4000, 901.0), (7000, 902.0), (10_000, 903.0)],
        errors=2,
    )
    found = {claim.text: (round(claim.value, 3), claim.met) for claim in figures.claims()}
    assert found == {
        "eight adapters ÷ one, calls a second": (0.9, True),
        "one adapter ÷ FastAPI with the model, calls a second": (3.0, True),
        "one adapter ÷ FastAPI with the pipeline, calls a second": (2.5, False),
        "p99 ÷ median at half of capacity": (2.5, False),
        "calls without an answer": (3, False),
        "MB for each 1,000 calls": (0.333, True),
    }
    text = serving_section(figures)
    assert text.count("**missed**") == 3
    assert "| ours, eight adapters | 270 (" in text
    assert [one["met"] for one in figures.to_json()["claims"]] == [met for _, met in found.values()]


def test_without_the_load_generator_nothing_starts(
    tmp_path: Path,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made_adapter(tmp_path / "adapter", contract)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = typed(monkeypatch, capsys, "bench", "serving")(tmp_path / "adapter")
    assert told.code == 2
    assert "apt install wrk" in told.err


@pytest.mark.skipif(shutil.which("wrk") is None, reason="the load generator wrk is not here")
def test_all_ways_answer_alike_and_are_loaded_in_turns(
    tmp_path: Path,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter, page = made_adapter(tmp_path / "adapter", contract), tmp_path / "page.md"
    run = typed(monkeypatch, capsys, "bench", "serving")
    few = ["--turns", 2, "--seconds", 1, "--callers", 4, "--requests", 200]
    told = run(adapter, *few, "--page", page, "--json")
    assert told.code == 0, told.err
    said = json.loads(told.out)
    assert said["fastest"].keys() == {ONE, EIGHT, "model", "pipeline"}
    loads = [one for own in said["fastest"].values() for one in own]
    assert all(one["calls"] > 0 and one["errors"] == 0 for one in [*loads, *said["half"]])
    assert all(len(own) == 2 for own in [*said["fastest"].values(), said["half"]])
    assert said["memory"][-1][0] >= 200
    assert said["errors"] == 0
    units = loads_of(ServingAsked(turns=2))
    assert f"loads: {units} of {units}" in told.err
    assert "<!-- serving: begin -->\n## Serving" in page.read_text()
