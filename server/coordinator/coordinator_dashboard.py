"""The coordinator's dashboard: its runs, members and refusals, behind the pool's certificate.

Who may look holds a certificate that the pool's root issued for looking and for nothing else
(`presspool.server.membership.viewers`): an outlet's does not open this port, and a viewer's does
nothing at the outlets' port.

Invariants:
    * TLS 1.3 in both directions, with the same server certificate as the outlets' port.
    * Whether somebody may look is asked for every request: answers end their connection.
    * It reads database, run folders and the exports in `exports/`, and writes none of them.

Example: `with dashboard(folder, listen="0.0.0.0:7444"): coordinator.serve()`.
"""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from presspool.common.audit.dashboard.asgi_app import Dashboard as Pages
from presspool.common.audit.dashboard.asgi_app import create_app
from presspool.common.audit.dashboard.serving import Serving, names, taken
from presspool.common.audit.dashboard.snapshot import (
    Answer,
    CertificateLook,
    OutletLook,
    PoolLook,
    PoolRun,
    Refused,
)
from presspool.common.audit.dashboard.source_watch import SourceWatch
from presspool.common.base.errors import StorageError
from presspool.common.contract.cohorts import cohort_of
from presspool.common.contract.contract import Contract
from presspool.common.pki.certificates import COORDINATOR, OUTLET, read_certificate
from presspool.common.pki.https import server_context
from presspool.common.pki.tls import split_address
from presspool.common.runs.result_file import RESULT_FILE
from presspool.common.runs.run_folder import RunFolder
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.run_queue import Runs, Submitted
from presspool.server.coordinator.status import open_round, phase_of, rounds_done
from presspool.server.database import Database
from presspool.server.membership.member_list import Standing, standings
from presspool.server.membership.viewers import Viewers
from presspool.server.transport.mailbox_schema import RefusalRow
from presspool.server.witnessing.witness_schema import ForkRow

EXPORTS = "exports"  # in the home: ledgers as outlets hand them over


@contextmanager
def dashboard(folder: CoordinatorFolder, *, listen: str) -> Iterator[Serving]:
    """Serve the pages for as long as the block lasts.

    Args:
        folder: the coordinator's home.
        listen: "HOST:PORT" of this machine.

    Raises:
        InputError: that address cannot be listened at.
    """
    host, port = split_address(listen, where="--dashboard")
    outside, _ = split_address(folder.address, where="coordinator.toml")
    listener = taken(host, port)
    database = Database.open(folder.database)
    known = PoolWatch(folder, database)
    pages = Pages(SourceWatch(known.paths, pool=known.pool))
    pages.begin()  # an export of a long ledger takes seconds to verify
    port = listener.getsockname()[1]
    app = create_app(pages, hosts=names(port, outside, host), close=True)
    try:
        with Serving(app, listener, tls=_tls(folder), admit=Viewers(folder.path).admits) as serving:
            yield serving
    finally:
        pages.close()
        database.close()


class PoolWatch:
    """What a coordinator knows, read anew each time.

    Args:
        folder: its home.
        database: its database.
    """

    def __init__(self, folder: CoordinatorFolder, database: Database) -> None:
        self._folder, self._database, self._runs = folder, database, Runs(database)
        self._contracts: dict[str, Contract] = {}
        self._failures: set[tuple[str, float | None]] = set()

    def paths(self) -> Sequence[Path]:
        """Run folders that have a result, and the exports that outlets handed over."""
        found = (self._folder.path / "runs").glob(f"*/{RESULT_FILE}")
        exports = self._folder.path / EXPORTS
        return [
            *(path.parent for path in sorted(found)),
            *(sorted(exports.iterdir()) if exports.is_dir() else ()),
        ]

    def pool(self) -> PoolLook:
        """Everything else.

        Raises:
            StorageError: the database refuses.
        """
        try:
            members = standings(self._database, now=time.time())
            runs = self._runs.all()
            self._failures |= {(run.id, run.ended) for run in runs if run.state == "failed"}
            return PoolLook(
                name=self._folder.name,
                address=self._folder.address,
                members=Counter(line.state for line in members),
                certificates=(
                    self._own("authority", self._folder.root.certificate),
                    self._own(COORDINATOR, self._folder.server.certificate),
                    *(
                        CertificateLook(kind=OUTLET, name=line.name, ends=line.until)
                        for line in members
                        if line.state in ("member", "lapsed")
                    ),
                ),
                runs=tuple(map(self._run, runs)),
                refused=self._refused(),
                failures=len(self._failures),
                forks=self._forks(),
                fleet=tuple(_outlet(line) for line in members if line.state == "member"),
            )
        except SQLAlchemyError as error:
            raise StorageError(
                "cannot be read",
                where="the coordinator's database",
                got=str(getattr(error, "orig", error)),
            ) from None

    def _own(self, kind: str, pem: bytes) -> CertificateLook:
        return CertificateLook(kind=kind, name=self._folder.name, ends=read_certificate(pem).ends)

    def _run(self, run: Submitted) -> PoolRun:
        folder = RunFolder(self._folder.path / "runs" / run.id)
        if run.id not in self._contracts:
            self._contracts[run.id] = folder.read_contract()
        contract, done = self._contracts[run.id], rounds_done(folder)
        asked = cohort_of(contract, min(done + 1, contract.federation.rounds))
        answers = open_round(self._database, run, asked, done + 1)
        return PoolRun(
            id=run.id,
            contract=run.contract,
            name=contract.name,
            state=run.state,
            note=run.note,
            done=done,
            rounds=contract.federation.rounds,
            answers=tuple(
                Answer(outlet=line["outlet"], state=line["state"], refused=line["refused"])
                for line in answers
            ),
            phase=phase_of(self._database, run, contract, done + 1),
        )

    def _forks(self) -> tuple[str, ...]:
        """Names of the logs that outlets have convicted; a key begins with its log's name."""
        with self._database.reading() as session:
            found = session.scalars(select(ForkRow.log).distinct().order_by(ForkRow.log)).all()
        return tuple(key.partition("+")[0] for key in found)

    def _refused(self) -> tuple[Refused, ...]:
        row = RefusalRow
        asked = (
            select(row.outlet, row.run, row.code, func.sum(row.count), func.max(row.at))
            .group_by(row.outlet, row.run, row.code)
            .order_by(row.outlet, row.run, row.code)
        )
        with self._database.reading() as session:
            found = session.execute(asked).all()
        return tuple(
            Refused(outlet=outlet, run=run, code=code, count=count, last=last)
            for outlet, run, code, count, last in found
        )


def _outlet(line: Standing) -> OutletLook:
    heard = line.heard
    return OutletLook(
        name=line.name,
        since=line.since,
        ends=line.until,
        seen=heard.at if heard else None,
        version=heard.version if heard else "",
        skew=heard.skew if heard else None,
    )


def _tls(folder: CoordinatorFolder) -> ssl.SSLContext:
    return server_context(
        folder.path / "certificates" / "server.pem",
        folder.path / "keys" / "tls.key",
        root=folder.root.certificate,
    )
