"""Loads a port with calls, and says how it fared: as fast as it answers, or at a rate.

As fast as it answers: `wrk`, so many connections of which each asks once it has its answer. It is a
program of C, and takes next to nothing of the processor that is measured.

At a rate: calls come by chance (Poisson), whether or not earlier ones are answered, and a call's
seconds count from the moment at which it was due, so that a port that stalls does not hide it.

Invariant: all ports get the same bodies in the same order.

Example: `fastest("http://127.0.0.1:8901", bodies, callers=16, seconds=4)`.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from presspool.common.base.errors import InputError, SelfTestError

ROUTE = "/classify"
_SCRIPT = """
local bodies, at = {}, 0
local kind = {["content-type"] = "application/json"}
function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
end
function request()
  at = at % #bodies + 1
  return wrk.format("POST", "ROUTE", kind, bodies[at])
end
function done(told, latency)
  local e = told.errors
  local lost = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format('{"calls": %d, "seconds": %f, "errors": %d, "median": %f, "p99": %f}',
    told.requests, told.duration / 1e6, lost,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


@dataclass(frozen=True, kw_only=True)
class LoadTold:
    """One load.

    Attributes:
        calls: that were answered.
        seconds: of the wall clock.
        errors: calls without an answer, or with one that is none.
        median: seconds of a call.
        p99: seconds within which 99 of 100 calls were answered.
    """

    calls: int
    seconds: float
    errors: int
    median: float
    p99: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


def require_wrk() -> str:
    """Where `wrk` is; raises `InputError` where it is not."""
    found = shutil.which("wrk")
    if found is None:
        raise InputError(
            "the load generator wrk is not here",
            expected="a program `wrk` on the path",
            advice="apt install wrk, or brew install wrk",
        )
    return found


def fastest(address: str, bodies: Path, *, callers: int, seconds: float) -> LoadTold:
    """Load a port by `wrk`.

    Args:
        address: the port's, as `http://127.0.0.1:8901`.
        bodies: what is asked, a line of JSON a call.
        callers: connections.
        seconds: how long, rounded up.

    Raises:
        InputError: there is no `wrk`.
        SelfTestError: it failed.
    """
    script = bodies.with_name("load.lua")
    script.write_text(_SCRIPT.replace("ROUTE", ROUTE))
    length = f"{max(1, round(seconds))}s"
    command = [require_wrk(), "-t1", f"-c{callers}", f"-d{length}", "--timeout", "30s"]
    asked = [*command, "-s", str(script), address, "--", str(bodies)]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    if told.returncode:
        raise SelfTestError("wrk failed", where=address, got=told.stderr.strip()[-200:])
    return LoadTold(**json.loads(told.stdout.strip().splitlines()[-1]))


def at_rate(
    address: str, bodies: Sequence[str], *, rate: float, seconds: float, seed: int
) -> LoadTold:
    """Load a port with calls that come by chance.

    Args:
        address: as `fastest`.
        bodies: what is asked, in turn.
        rate: calls a second.
        seconds: in which calls begin.
        seed: of the moments at which they do.
    """
    return asyncio.run(_Callers(address).load(bodies, moments(rate, seconds, seed)))


def moments(rate: float, seconds: float, seed: int) -> list[float]:
    """When calls are due, in seconds from the start.

    Example:
        >>> round(len(moments(1000, 10, 0)) / 10_000, 1)
        1.0
    """
    draw, due, found = random.Random(seed), 0.0, list[float]()  # noqa: S311 - no secret
    while (due := due + draw.expovariate(rate)) < seconds:
        found.append(due)
    return found


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Callers:
    """As many connections as calls are under way, used in turn: a port closes idle ones."""

    def __init__(self, address: str) -> None:
        self._host = urlsplit(address).netloc
        self._free, self._errors = list[Connection](), 0

    async def load(self, bodies: Sequence[str], due: Sequence[float]) -> LoadTold:
        began = time.perf_counter()
        calls = []
        for number, moment in enumerate(due):
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            body = bodies[number % len(bodies)]
            calls.append(asyncio.create_task(self._call(body.encode(), began + moment)))
        each = sorted(await asyncio.gather(*calls))
        seconds = time.perf_counter() - began
        for _, writer in self._free:
            writer.close()
        return LoadTold(
            calls=len(each) - self._errors,
            seconds=seconds,
            errors=self._errors,
            median=each[len(each) // 2],
            p99=each[int(0.99 * len(each))],
        )

    async def _call(self, body: bytes, due: float) -> float:
        """Seconds from when it was due to the end of its answer."""
        try:
            connection = self._free.pop(0) if self._free else await self._connected()
            if await self._answered(*connection, body) != 200:
                raise ConnectionError
            self._free.append(connection)
        except (OSError, asyncio.IncompleteReadError):
            self._errors += 1
        return time.perf_counter() - due

    async def _connected(self) -> Connection:
        host, _, port = self._host.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _answered(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> int:
        head = f"POST {ROUTE} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (length,) = [line[15:] for line in lines if line.startswith("content-length:")]
        await reader.readexactly(int(length))
        return int(lines[0].split()[1])
