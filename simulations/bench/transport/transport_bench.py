"""`presspool bench transport`: what a round costs on the wire, with nothing trained.

A coordinator with the real mailbox, service, Grid, admission and averaging runs in this process;
every outlet is a process with the real agent, over mutual TLS on loopback, whose trainer answers
with zeros. Stock Flower (`transport_stock`) takes turns with it. Small rounds show the cost of a
round, in the open and masked, large ones that of the bytes, through both sides' disks.

Invariants:
    * The first round of each contestant, which also makes connections, is not counted.
    * Memory is this process's peak during our rounds, above what it held with the adapter ready.

Example: `bench_transport(outlets=8, megabytes=100, turns=4)`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import grpc
import numpy as np
from flwr.app import ConfigRecord

from presspool.common.contract.contract import Contract
from presspool.common.pki.certificates import (
    issue_server,
    make_root,
)
from presspool.common.pki.keys import SigningKey
from presspool.common.pki.tls import caller, server_credentials
from presspool.common.secagg.secagg_plan import FEWEST_OUTLETS
from presspool.common.wire.update import RecordState, array_record
from presspool.server.database import Database
from presspool.server.rounds.strategy import AdapterStrategy
from presspool.server.transport.door import Door
from presspool.server.transport.grpc_grid import GrpcGrid
from presspool.server.transport.listener import open_port
from presspool.server.transport.mailbox import Mailbox
from presspool.server.transport.pool_service import PoolService
from presspool.simulations.bench.sums.masked_rounds import MaskedRounds, masked_contract
from presspool.simulations.bench.transport.transport_members import (
    BenchOutlet,
    contract_of,
    names,
    prepared,
)
from presspool.simulations.bench.transport.transport_outlet import READY
from presspool.simulations.bench.transport.transport_report import section
from presspool.simulations.bench.transport.transport_results import (
    Load,
    TransportBench,
    TransportMeasurement,
    Turn,
)
from presspool.simulations.bench.transport.transport_stock import stock
from presspool.simulations.bench.transport.transport_stock_app import PIECE
from presspool.simulations.doc_sections import write_section

SMALL_ROUNDS = 5  # of ours in a turn of small rounds: they are short
MANY = 6  # outlets of the rounds that show whether memory grows
IDLE = 500  # connections
_PHASE = 600.0
_SETTLED = 1.0  # seconds, until the work of the handshakes is over
_LOOK = 0.005  # seconds between two looks at the memory


def bench_transport(
    *,
    outlets: int,
    megabytes: int,
    turns: int,
    docs: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> TransportBench:
    """Measure, and write a section of the docs if asked for.

    Args:
        outlets: of the small rounds.
        megabytes: of the adapter and of each update in the large rounds.
        turns: that each contestant gets.
        docs: the Markdown file whose marked section is replaced.
        advance: called after each turn.
    """
    before = _load_average()
    small = measure(Load(outlets=outlets, megabytes=0, turns=turns), idle=True, advance=advance)
    large = measure(Load(outlets=2, megabytes=megabytes, turns=turns), advance=advance)
    many = measure(Load(outlets=MANY, megabytes=megabytes, turns=1), against=False, advance=advance)
    machine = _machine() | {"load average before and after": f"{before}, {_load_average()}"}
    bench = TransportBench(machine=machine, small=small, large=large, many=many)
    if docs is not None:
        write_section(docs, "transport", section(bench))
    return bench


def measure(
    load: Load,
    *,
    against: bool = True,
    idle: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> TransportMeasurement:
    """Measure one load.

    Args:
        load: what to send.
        against: whether stock Flower takes part.
        idle: whether to measure beside idle connections, and masked rounds, too.
        advance: called after each turn.
    """
    turns, rounds = [], 1 if load.megabytes else SMALL_ROUNDS
    with tempfile.TemporaryDirectory(prefix="presspool-") as name, ExitStack() as stack:
        folder = Path(name)
        pool = stack.enter_context(_pool(folder, load))
        theirs = stack.enter_context(stock(load, folder / "stock")) if against else None
        for number in range(load.turns + 1):
            ours, arrivals = zip(*(pool.one_round() for _ in range(rounds)), strict=True)
            beside: tuple[float, ...] = ()
            masked: tuple[float, ...] = ()
            if idle:
                if pool.masked is not None:
                    masked = tuple(pool.masked.one_round() for _ in range(rounds))
                with _idle_connections(pool):
                    beside = tuple(pool.one_round()[0] for _ in range(rounds))
            turn = Turn(
                ours=ours, arrivals=arrivals, idle=beside, masked=masked, stock=theirs and theirs()
            )
            if number:
                turns.append(turn)
            advance()
    return TransportMeasurement(load=load, turns=turns, peak_bytes=pool.peak_bytes)


class _Pool:
    """A coordinator in this process, ready for rounds.

    Attributes:
        port: where it listens.
        home: an outlet's folder.
        peak_bytes: the memory, see the module.
        masked: rounds whose answers are masked, where the outlets are enough for that.
    """

    def __init__(
        self,
        grid: GrpcGrid,
        contract: Contract,
        load: Load,
        *,
        port: int,
        homes: Sequence[Path],
        masked: MaskedRounds | None,
    ) -> None:
        self.masked = masked
        self.port, self.home, self._homes = port, homes[0], homes
        self.peak_bytes, self._round = 0, 0
        self._grid, self._contract = grid, contract
        self._state = RecordState(
            array_record(
                {
                    f"w{n}": np.zeros(PIECE if load.megabytes else 1, np.float32)
                    for n in range(load.megabytes or 1)
                }
            )
        )
        self._before = _resident()

    def one_round(self) -> tuple[float, float]:
        """Send, admit and average; returns seconds, and those from first answer to last arrival."""
        self._round += 1
        with _watched(self._note):
            began = time.monotonic()
            strategy = AdapterStrategy(self._contract)
            record = array_record(self._state)
            messages = strategy.configure_train(self._round, record, ConfigRecord(), self._grid)
            replies = self._grid.send_and_receive(messages)
            arrived = time.monotonic()
            strategy.aggregate_train(self._round, replies)
            return time.monotonic() - began, arrived - self._ready()

    def _ready(self) -> float:
        """When the first outlet had its answer."""
        return min(float((home / READY).read_text()) for home in self._homes)

    def _note(self) -> None:
        self.peak_bytes = max(self.peak_bytes, _resident() - self._before)


@contextmanager
def _pool(folder: Path, load: Load) -> Iterator[_Pool]:
    """A coordinator in this process and its outlets in others."""
    root = make_root("bench", now=time.time())
    key = SigningKey.generate()
    members = {name: prepared(folder / name, root, key) for name in names(load.outlets)}

    def member(context: grpc.ServicerContext) -> BenchOutlet:
        return members[caller(context).name]

    database = Database.open(f"sqlite:///{folder / 'coordinator.db'}")
    mailbox = Mailbox(database)
    service = PoolService(mailbox, member=member)
    port_credentials = issue_server(root, "localhost", now=time.time())
    credentials = server_credentials(port_credentials, root=root.certificate)
    door = Door(member, record=mailbox.refuse)
    server, port = open_port("localhost:0", credentials, [service.register], door=door)
    with ExitStack() as stack:
        stack.callback(database.close)
        stack.callback(door.close)
        stack.callback(lambda: server.stop(5.0).wait())
        stack.callback(service.close)
        for name in members:
            stack.enter_context(_agent(folder / name, port))

        def grid(run: str) -> GrpcGrid:
            return GrpcGrid(
                mailbox,
                run=run,
                key=key,
                outlets=list(members),
                members=lambda: set(members),
                phase=_PHASE,
            )

        contract, homes = contract_of(list(members)), [folder / name for name in members]
        cohort = {name: member.peer_key for name, member in members.items()}
        masked: MaskedRounds | None = None
        if len(members) >= FEWEST_OUTLETS:
            masked = MaskedRounds(grid("masked"), masked_contract(contract.body(), cohort), cohort)
        yield _Pool(grid("bench"), contract, load, port=port, homes=homes, masked=masked)


@contextmanager
def _agent(home: Path, port: int) -> Iterator[None]:
    """An outlet's process; ends with the block."""
    module = "presspool.simulations.bench.transport.transport_outlet"
    command = [sys.executable, "-m", module, str(home), f"localhost:{port}"]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=settings) as process:  # noqa: S603 - our own module
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _idle_connections(pool: _Pool) -> Iterator[None]:
    """`IDLE` connections of a process of their own, while the block runs."""
    module = "presspool.simulations.bench.transport.transport_idle"
    command = [sys.executable, "-m", module, str(pool.home), str(pool.port), str(IDLE)]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"open\n":
            raise RuntimeError("the idle connections could not be made; the error is above")
        time.sleep(_SETTLED)
        try:
            yield
        finally:
            process.communicate()  # its input ends, and so does it


@contextmanager
def _watched(look: Callable[[], None]) -> Iterator[None]:
    """Look every few milliseconds while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _resident() -> int:
    """Resident bytes, where the system tells (Linux), or 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _machine() -> dict[str, str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("flwr", "grpcio", "SQLAlchemy"))
    return {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": libraries,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _load_average() -> str:
    """Runnable processes over the last minute; more than the cores means a loaded machine."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
