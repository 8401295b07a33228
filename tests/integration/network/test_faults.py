"""Thirty outlets with real ledgers through kills, cuts, late and doubled answers.

Afterwards each ledger is held against what was written down outside of it: what the outlet trained,
what it sent, and what the coordinator has.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.fakes.children import paying_children, pool_children
from tests.fakes.children.paying_children import Mishaps, new_home
from tests.fakes.instruments.breaking_proxy import BreakingProxy
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import ORDER
from tests.fakes.made_pool import open_desk

from presspool.client.consent.budget import Budget
from presspool.common.accounting import events
from presspool.common.base.errors import FolderError
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import verify
from presspool.common.wire.envelope import UpdateHeader, read_header
from presspool.common.wire.update import FAILURES
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.rounds.round_checkpoint import RoundCheckpoint
from presspool.server.transport.mailbox_schema import ReceiptRow, UpdateRow

WAIT = 240.0  # seconds after which a test gives up
RICH, POOR = 60.0, 3.089  # ε of a ledger that pays for the run, and of one that pays for no round
OVER_BUDGET = next(code for code, word in FAILURES.items() if word == "over-budget")


@dataclass
class Pool:
    """A coordinator and outlets as processes, each outlet behind a link that can be cut.

    Attributes:
        folder: of everything.
        contract: of the run.
        phase: seconds of a round.
        mishaps: of the outlets' own doing.
        faults: what was done to whom.
    """

    folder: Path
    contract: Contract
    phase: float
    mishaps: Mishaps
    port: int = field(default_factory=free_port)
    links: dict[str, BreakingProxy] = field(default_factory=dict)
    running: dict[str, BaseProcess] = field(default_factory=dict)
    cut_until: dict[str, float] = field(default_factory=dict)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def names(self) -> list[str]:
        return sorted(self.contract.outlets)

    @property
    def coordinator(self) -> BaseProcess:
        return self.running["coordinator"]

    def start(self, name: str) -> None:
        if name == "coordinator":
            federation = self.contract.federation
            self.running[name] = pool_children.start(
                pool_children.coordinator,
                self.folder,
                self.port,
                self.names,
                federation.rounds,
                self.phase,
                federation.quorum,
            )
            return
        self.running[name] = pool_children.start(
            paying_children.outlet,
            self.folder,
            name,
            f"localhost:{self.links[name].port}",
            self.mishaps,
        )

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].join(WAIT)
        self.start(name)

    def strike(self, choice: random.Random) -> None:
        """One fault to somebody: SIGKILL and a new start, or a link cut for a while."""
        what = choice.choices(["coordinator", "kill", "cut"], [1, 4, 4])[0]
        name = "coordinator" if what == "coordinator" else choice.choice(self.names)
        if what == "cut":
            self.links[name].cut_after(choice.randrange(1, 4000))
            self.cut_until[name] = time.monotonic() + choice.uniform(0.2, self.phase)
        else:
            self.kill(name)
        self.faults[what, name] += 1

    def mend(self, *, all_: bool = False) -> None:
        for name, until in list(self.cut_until.items()):
            if all_ or time.monotonic() > until:
                self.links[name].mend()
                del self.cut_until[name]

    def done(self) -> int:
        """How many rounds are over."""
        with contextlib.suppress(FileNotFoundError, FolderError):  # just being replaced
            return len(self.checkpoint().rounds) - 1
        return 0

    def checkpoint(self) -> RoundCheckpoint:
        file = self.folder / "checkpoint.safetensors"
        point = checkpoints.load(file, digest=self.contract.digest)
        if point is None:
            raise FileNotFoundError(file)
        return point

    def log(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log")))


@contextmanager
def at_work(
    folder: Path, contract: Contract, *, phase: float, mishaps: Mishaps, poor: int = 0
) -> Iterator[Pool]:
    """All processes started; the first `poor` outlets cannot pay for a round of the run."""
    Certificates.make().write(folder)
    pool = Pool(folder, contract, phase, mishaps)
    with ExitStack() as stack:
        for number, name in enumerate(pool.names):
            new_home(folder, name, contract, epsilon=POOR if number < poor else RICH)
            pool.links[name] = stack.enter_context(BreakingProxy(pool.port))
        try:
            for name in ("coordinator", *pool.names):
                pool.start(name)
            yield pool
        finally:
            for process in pool.running.values():
                process.kill()
                process.join(WAIT)


def run_to_its_end(
    pool: Pool, *, faults: int, pause: float, seed: int, seconds: float
) -> RoundCheckpoint:
    """Strike so often, then let the run end; nobody is helped but by what starts it again."""
    choice, until = random.Random(seed), time.monotonic() + seconds
    while pool.done() == 0:
        assert pool.coordinator.is_alive(), pool.log()
        assert time.monotonic() < until, pool.log()
        time.sleep(0.05)
    with pool_children.last_round_held(pool.folder):
        while sum(pool.faults.values()) < faults:
            time.sleep(choice.uniform(0.0, 2 * pause))
            pool.mend()
            assert pool.coordinator.is_alive(), "the run ended before all faults were done"
            pool.strike(choice)
    while pool.coordinator.is_alive():
        pool.mend()
        assert time.monotonic() < until, pool.log()
        time.sleep(0.05)
    assert pool.coordinator.exitcode == 0, pool.log()
    assert not (pool.folder / "failed").exists(), (pool.folder / "failed").read_text()
    for name in pool.names:
        pool.running[name].terminate()
    for name in pool.names:
        pool.running[name].join(WAIT)
        assert pool.running[name].exitcode == 0, pool.log()
    return pool.checkpoint()


# --- What each ledger is held against -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one outlet did, as everybody but its ledger knows it.

    Attributes:
        steps: private steps in their order, as (round, step).
        sent: (round, digest of the body) of each reply that went to the link, failures left out.
        failed: codes of the failures that it sent.
        arrived: headers of its updates at the coordinator.
    """

    steps: list[tuple[int, int]]
    sent: list[tuple[int, str]]
    failed: list[int]
    arrived: list[UpdateHeader]


def record_of(folder: Path, outlet: str) -> Record:
    sent = [line.split() for line in lines(folder / f"{outlet}.sent")]
    steps = [line.split() for line in lines(folder / f"{outlet}.trained")]
    with open_desk(folder)._database.reading() as session:
        headers = [
            read_header(UpdateHeader, body)
            for row in (UpdateRow, ReceiptRow)
            for body in session.scalars(select(row.header))
        ]
    return Record(
        steps=[(int(round), int(step)) for _, round, step in steps],
        sent=[(int(round), digest) for round, digest, failure in sent if failure == "None"],
        failed=[int(failure) for _, _, failure in sent if failure != "None"],
        arrived=[header for header in headers if header.outlet == outlet],
    )


def lines(path: Path) -> list[str]:
    """Whole lines: a kill may leave half of a last one."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def ledger_of(folder: Path, outlet: str) -> list[entries.Entry]:
    with Ledger(folder / outlet / "ledger.db") as ledger:
        return [entries.parse_entry(body) for body in ledger.bodies(0, ledger.book.size)]


def charged_once_and_released_once(
    found: list[entries.Entry], seen: Record, contract: Contract
) -> None:
    """Everything that was trained is charged, once; everything that left is bound, once."""
    reserves = [e for e in found if isinstance(e, entries.Reserve)]
    assert [e.run for e in reserves] == [contract.digest] * bool(seen.steps), "not charged once"
    begun = {e.round for e in found if isinstance(e, entries.AdapterReceived)}
    if reserves:  # in the first round that was begun, for that and all after it
        missed = (min(begun) - 1) * contract.federation.local_steps
        assert reserves[0].charge == cost(contract, missed)
        assert reserves[0].event.steps == contract.steps - missed
        assert min(step for _, step in seen.steps) > missed
    assert {step for _, step in seen.steps} <= set(range(1, contract.steps + 1))
    assert {round for round, _ in seen.steps} <= begun, "trained and not begun"
    intents = [e for e in found if isinstance(e, entries.ReleaseIntent)]
    bound = {e.round: e.digest for e in intents}
    assert len(bound) == len(intents), "a round is bound twice"
    assert all(bound.get(round) == digest for round, digest in seen.sent), "sent and not bound"
    for header in seen.arrived:
        if header.failure is None:
            assert header.body == bound[header.round], "arrived and not bound"
            assert found[header.reserve] == reserves[0]
    assert set(bound) <= {round for round, _ in seen.steps}, "bound and not trained"


def cost(contract: Contract, missed: int) -> int:
    return events.charge(events.from_dp(contract.plan.event(contract.steps - missed)), order=ORDER)


def a_kill_costs_at_most_what_was_going_on(seen: Record, kills: int) -> None:
    again = len(seen.steps) - len(set(seen.steps))
    assert again <= kills, f"{again} rounds trained again after {kills} kills"


def check(pool: Pool, point: RoundCheckpoint, *, poor: int, folder: Path) -> dict[str, int]:
    """Hold all ledgers against all records; returns figures."""
    contract, figures = pool.contract, Counter[str]()
    quorum = contract.federation.quorum
    assert len(point.rounds) == contract.federation.rounds + 1
    assert all(len(done.outlets) >= quorum for done in point.rounds[1:])
    for number, name in enumerate(pool.names):
        found, seen = ledger_of(pool.folder, name), record_of(pool.folder, name)
        charged_once_and_released_once(found, seen, contract)
        a_kill_costs_at_most_what_was_going_on(seen, pool.faults["kill", name])
        if number < poor:
            assert {e.kind for e in found} == {"opened", "refusal"}
            assert seen.steps == []
            assert set(seen.failed) == {OVER_BUDGET}
            continue
        assert seen.failed == [], "a round that was paid for is lost"
        arrived = {header.round for header in seen.arrived}
        used = {done.round for done in point.rounds[1:] if name in done.outlets}
        assert used <= arrived
        with Budget.open(pool.folder / name / "ledger.db", policy=None) as budget:  # type: ignore[arg-type]
            (reserve,) = (e for e in found if isinstance(e, entries.Reserve))
            assert budget.book.spent == reserve.charge
        audited(pool.folder / name / "ledger.db", folder / f"{name}.export", len(found))
        figures.update(
            charges=1,
            trained=len(set(seen.steps)),
            again=len(seen.steps) - len(set(seen.steps)),
            sent=len(seen.sent),
            arrived=len(arrived),
            used=len(used),
        )
    refused = Counter(refusal.code for refusal in open_desk(pool.folder).refusals())
    assert set(refused) <= {"late", "replayed"}, refused
    return {**figures, **refused, **Counter(what for what, _ in pool.faults.elements())}


def audited(ledger: Path, file: Path, size: int) -> None:
    """A stranger, too, finds the ledger whole."""
    with Ledger(ledger) as found, file.open("wb") as stream:
        export(found, stream, signer=SIGNER, witnesses=[])
    with file.open("rb") as stream:
        assert verify(stream, key=SIGNER.key).head.size == size


def contract_of(outlets: int, rounds: int) -> Contract:
    names = [f"outlet-{number:02}" for number in range(outlets)]
    return pool_children.contract_of(names, rounds, quorum=outlets // 2)


def faulty_run(
    folder: Path,
    *,
    outlets: int,
    rounds: int,
    faults: int,
    phase: float,
    pause: float,
    poor: int,
    seconds: float,
) -> dict[str, int]:
    """A run with so many faults, and its figures."""
    contract = contract_of(outlets, rounds)
    mishaps = Mishaps(seed=11, late=0.01, late_seconds=1.4 * phase, twice=0.05, receipt=0.05)
    with at_work(folder, contract, phase=phase, mishaps=mishaps, poor=poor) as pool:
        point = run_to_its_end(pool, faults=faults, pause=pause, seed=12, seconds=seconds)
    (folder / "exports").mkdir()
    return check(pool, point, poor=poor, folder=folder / "exports")


def test_no_budget_is_charged_twice_or_missed_whatever_breaks(tmp_path: Path) -> None:
    figures = faulty_run(
        tmp_path, outlets=4, rounds=8, faults=8, phase=3.0, pause=0.3, poor=1, seconds=WAIT
    )
    assert figures["charges"] == 3
    planted_mistakes_are_found(tmp_path, "outlet-03", contract_of(4, 8))


def planted_mistakes_are_found(folder: Path, outlet: str, contract: Contract) -> None:
    """The comparison fails where a ledger or a record is spoiled."""
    found, seen = ledger_of(folder, outlet), record_of(folder, outlet)
    charged_once_and_released_once(found, seen, contract)
    reserve = next(e for e in found if isinstance(e, entries.Reserve))
    intent = next(e for e in found if isinstance(e, entries.ReleaseIntent))
    other = "sha256:" + "0" * 64
    for spoiled, record in (
        ([e for e in found if e != reserve], seen),  # never charged
        ([*found, reserve], seen),  # charged twice
        ([e for e in found if e != intent], seen),  # sent and never bound
        ([*found, intent], seen),  # bound twice
        (found, replace(seen, sent=[*seen.sent, (1, other)])),  # other bytes were sent
        (found, replace(seen, steps=[*seen.steps, (9, 9)])),  # a round more was trained
    ):
        with pytest.raises(AssertionError):
            charged_once_and_released_once(spoiled, record, contract)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_outlets_for_100_rounds_with_random_faults(tmp_path: Path) -> None:
    began = time.monotonic()
    figures = faulty_run(
        tmp_path, outlets=30, rounds=100, faults=300, phase=8.0, pause=0.6, poor=2, seconds=3000.0
    )
    print(f"{time.monotonic() - began:.0f} s", figures)
    assert figures["charges"] == 28
