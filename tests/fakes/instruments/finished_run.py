"""A pool of three outlets, two of which have finished a run: the real port, log, run and services.

Example: `with finished_run(tmp_path, body, AdapterService) as done: done.pool.start()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.conftest import made_rows
from tests.fakes.made_witnesses import QUICK, Service, WitnessPool, witness_pool

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.pki.tls import caller
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder, Setup
from presspool.common.transparency.consortium_entries import Entry
from presspool.server.coordinator.adapter_service import AdapterService
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.run_queue import Runs
from presspool.server.database import Database
from presspool.server.membership.members import Members
from presspool.server.rounds.rounds import run
from presspool.simulations.grids.local_grid import LocalGrid


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What there is.

    Attributes:
        pool: its outlets 0 and 1 were in the run, 2 was not; no witness works yet.
        contract: the run's.
        id: the run's at the coordinator.
        folder: the run's, at the coordinator.
        result: the run's.
    """

    pool: WitnessPool
    contract: Contract
    id: str
    folder: RunFolder
    result: RunResult

    def home(self, number: int = 0) -> Path:
        """Where an outlet lives."""
        return self.pool.outlets[number].home


@contextmanager
def finished_run(
    parent: Path,
    body: dict[str, Any],
    service: Callable[..., AdapterService] = AdapterService,
) -> Iterator[FinishedRun]:
    """The pool, with the run complete and in the log; `service` serves its adapter."""
    made = list[AdapterService]()

    def more(home: CoordinatorFolder, database: Database, members: Members) -> Service:
        made.append(
            service(
                Runs(database),
                home.path,
                member=lambda context: members.member(caller(context)),
                record=lambda *_: None,
                limits=QUICK,
            )
        )
        return made[0].register

    contract = parse_contract(body | {"outlets": {"outlet-0": 30, "outlet-1": 20}})
    name = f"test-{contract.digest[7:19]}"
    with witness_pool(parent, 3, more=more) as pool:
        for outlet in pool.outlets:
            settings = f'name = "{outlet.identity.name}"\ndata = "readers.parquet"\n'
            (outlet.home / "outlet.toml").write_text(settings)
        folder = RunFolder(pool.home / "runs" / name)
        with folder.claim(contract, Setup(), resume=False):
            pass
        runs = Runs(pool.database)
        runs.submit(name, contract=contract.digest, phase=60.0)
        result = _trained(pool, folder, contract, parent)
        runs.mark(name, "complete")
        try:
            yield FinishedRun(pool=pool, contract=contract, id=name, folder=folder, result=result)
        finally:
            made[0].close()


def _trained(pool: WitnessPool, folder: RunFolder, contract: Contract, data: Path) -> RunResult:
    settings = []
    for name, population in contract.outlets.items():
        rows = data / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(made_rows(name, population)), rows)
        settings.append(data / f"{name}.toml")
        settings[-1].write_text(f'name = "{name}"\ndata = "{rows}"\ndeterministic = 7\n')

    def committed(number: int, digest: str, outlets: tuple[str, ...], keys: str | None) -> None:
        pool.service.commit(
            Entry(
                run=folder.path.name,
                contract=contract.digest,
                round=number,
                adapter=digest,
                outlets=outlets,
                keys=keys,
            )
        )

    with LocalGrid(settings, workers=0) as grid:
        return run(grid, folder, committed=committed)
