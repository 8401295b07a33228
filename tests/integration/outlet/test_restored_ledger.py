"""A home from a backup: its ledger pays for what it cannot know, and its peers witness it on.

The truth is at hand here: what the lost ledger had really spent is never more than what the
restored one is charged with.
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_ledgers import JOB, identity
from tests.fakes.made_outlets import take_snapshot
from tests.fakes.made_witnesses import Outlet, WitnessPool, eventually, witness_pool

from presspool.client.agent import moving
from presspool.client.agent.assembly import check_home
from presspool.client.identity.identity import Identity
from presspool.common.accounting.filter import Caps
from presspool.common.audit.evidence import verdicts
from presspool.common.base.errors import (
    DataError,
    EvidenceError,
    FolderError,
    InputError,
    LedgerError,
    RollbackError,
)
from presspool.common.ledger import entries, recompute, verification
from presspool.common.ledger.export import export
from presspool.common.ledger.log import utc_today
from presspool.common.ledger.restored_entries import Basis, Lost
from presspool.common.ledger.store import Ledger

PERIOD_CAP = 4.0


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, width=200)


@dataclass
class Lived:
    """An outlet with a backup, and what it did afterwards."""

    pool: WitnessPool
    outlet: Outlet
    file: Path
    spent: int  # in truth
    size: int  # in truth

    def restored(self, home: Path) -> Outlet:
        moving.restore(self.file, home)
        return Outlet(Identity.read(home))

    def pay(self, outlet: Outlet, basis: Basis) -> None:
        link = outlet.link()
        try:
            moving.go_on(outlet.home, basis, link=link, today=utc_today())
        finally:
            link.close()

    def published(self) -> int:
        return self.pool.service._heads.size(self.outlet.identity.log.key)


def _run(number: int) -> str:
    return "sha256:" + f"{number:064x}"


def _reserve(ledger: Ledger, number: int) -> entries.Reserve:
    return ledger.reserve(
        run=_run(number),
        unit="reader",
        period=utc_today().isoformat()[:4],
        datasets=[identity(1)],
        event=JOB,
        head=None,
    )


@pytest.fixture(params=[None, PERIOD_CAP])
def lived(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lived]:
    with witness_pool(tmp_path, 2) as pool:
        outlet = pool.outlets[0]
        (outlet.home / "outlet.toml").write_text(
            'name = "outlet-0"\ndata = "x.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
        )
        file = tmp_path / "outlet.backup"
        with Ledger(outlet.ledger) as ledger:
            if request.param is not None:
                ledger.change_policy(Caps(epsilon_max=ledger.book.caps.epsilon_max, period=4.0))
            _reserve(ledger, 1)
            moving.backup(outlet.home, file)  # while another handle is open
            lost = _reserve(ledger, 2)
            ledger.intend(lost.reservation, round_number=1, steps=20, digest=_run(9))
            _reserve(ledger, 3)
            spent, size = ledger.book.spent, ledger.book.size
        lived = Lived(pool, outlet, file, spent, size)
        outlet.start()
        eventually(lambda: lived.published() == size)
        outlet.stop()
        yield lived


def test_a_restored_home_trains_nothing_before_it_has_paid(lived: Lived, tmp_path: Path) -> None:
    assert stat.S_IMODE(lived.file.stat().st_mode) == 0o600
    new = lived.restored(tmp_path / "new")
    assert new.identity.keys == lived.outlet.identity.keys
    with pytest.raises(InputError, match="may have forgotten"):
        check_home(new.home, new.identity)
    with pytest.raises(InputError, match="came after this copy"):
        lived.pay(new, "moved")
    with Ledger(new.ledger) as ledger, pytest.raises(RollbackError, match="older than a head"):
        ledger.compare(new.folder.own_head())  # type: ignore[arg-type]  # asked for meanwhile
    lived.pay(new, "lifetime")
    with pytest.raises(DataError, match="no snapshot"):  # readers' data are in no backup
        check_home(new.home, new.identity)
    (new.home / "x.csv").write_text("reader,text,label\nann,Gold,sport\n")
    take_snapshot(new.home / "outlet.toml")
    check_home(new.home, new.identity)


def test_what_is_charged_is_never_less_than_what_was_spent(lived: Lived, tmp_path: Path) -> None:
    with Ledger(lived.outlet.ledger) as ledger:
        capped = ledger.book.caps.period is not None
    basis: Basis = "period" if capped else "lifetime"
    new = lived.restored(tmp_path / "new")
    if not capped:
        with pytest.raises(InputError, match="no cap"):
            lived.pay(new, "period")
    lived.pay(new, basis)
    with Ledger(new.ledger) as ledger:
        book = ledger.book
        assert book.spent >= lived.spent
        assert book.size == lived.size + 1
        assert not book.dangling  # the run that was open in the copy is over
        year = utc_today().year
        if capped:
            assert book.charged(period=str(year)) == book.room(PERIOD_CAP)
            with pytest.raises(LedgerError, match="does not fit"):
                _reserve(ledger, 4)
            ledger.reserve(  # the next year is as good as ever
                run=_run(5),
                unit="reader",
                period=str(year + 1),
                datasets=[identity(1)],
                event=JOB,
                head=None,
            )
        else:
            assert book.spent == book.room(book.caps.epsilon_max)


def test_an_auditor_verifies_it_against_the_lost_heads_and_is_told(
    lived: Lived, tmp_path: Path
) -> None:
    with Ledger(lived.outlet.ledger) as ledger:
        before = ledger.head()
    new = lived.restored(tmp_path / "new")
    lived.pay(new, "lifetime")
    stream = io.BytesIO()
    with Ledger(new.ledger) as ledger:
        export(ledger, stream, signer=new.identity.log, witnesses=[])
    stream.seek(0)
    assert verification.verify(stream, heads=[before]).heads_known == 1
    stream.seek(0)
    found = recompute.recompute(stream, heads=[before])
    assert not found.failures
    assert "restored from an older copy" in found.sentence
    assert "3 entries are lost" in found.sentence
    screen = io.StringIO()
    stream.seek(0)
    verdicts.show_verified(verification.verify(stream), Console(file=screen, width=400))
    assert "nothing is known of what came after the copy" in screen.getvalue()
    altered = stream.getvalue().replace(b'"basis":"lifetime"', b'"basis":"period"')
    with pytest.raises(EvidenceError):
        verification.verify(io.BytesIO(altered))


def test_its_peers_go_on_witnessing_it(lived: Lived, tmp_path: Path) -> None:
    peer = lived.pool.outlets[1]
    peer.start()
    log, cosignatures = lived.outlet.identity.log.key, lived.pool.service._cosignatures
    eventually(lambda: cosignatures.has(log, lived.size, peer.identity.witness.key))
    new = lived.restored(tmp_path / "new")
    lived.pay(new, "lifetime")
    new.start()
    try:
        eventually(lambda: cosignatures.has(log, lived.size + 1, peer.identity.witness.key))
    finally:
        new.stop()
    assert not peer.folder.heads.fork(log.name).exists()


def test_a_ceremony_that_was_killed_goes_on(lived: Lived, tmp_path: Path) -> None:
    new = lived.restored(tmp_path / "new")
    link = new.link()
    leaves = link.leaves(0, lived.size)
    link.close()
    with Ledger(new.ledger) as ledger:
        here = ledger.book.size
        ledger._write(
            lambda: entries.build(
                Lost, seq=here, day=utc_today().isoformat(), leaf=leaves[here].hex()
            )
        )
        with pytest.raises(LedgerError, match="not paid for"):
            _reserve(ledger, 4)
    lived.pay(new, "lifetime")
    with Ledger(new.ledger) as ledger:
        assert ledger.book.size == lived.size + 1
        with pytest.raises(EvidenceError, match="do not lead"):
            ledger.restore("lifetime", like="2026", leaves=[bytes(32)], head=None)


def test_by_its_commands(lived: Lived, tmp_path: Path, presspool: Command) -> None:
    home, file = lived.outlet.home, tmp_path / "again.backup"
    assert presspool("outlet", "backup", file, "--home", home).code == 0
    assert presspool("outlet", "backup", file, "--home", home).code == 2  # never over another
    new = tmp_path / "new"
    assert presspool("outlet", "restore", file, "--home", new).code == 0
    refused = presspool("outlet", "budget", "restored", "--charge", "little", "--home", new)
    assert refused.code == 2
    with Ledger(new / "ledger.db") as ledger:
        capped = ledger.book.caps.period is not None
    if not capped:
        refused = presspool("outlet", "budget", "restored", "--charge", "period", "--home", new)
        assert (refused.code, "periods have no cap here" in refused.err) == (2, True)
    moved = presspool("outlet", "budget", "restored", "--charge", "moved", "--home", new)
    assert moved.code == 0, moved.err
    assert "0 entries are lost, 0.0000 nats" in moved.out
    with Ledger(new / "ledger.db") as ledger:
        assert ledger.book.spent == lived.spent
        assert len(ledger.book.dangling) == 3  # the runs go on
    again = presspool("outlet", "budget", "restored", "--charge", "moved", "--home", new)
    assert again.code == 2
    assert "goes on already" in again.err
    assert presspool("outlet", "runs", "--home", new).out.count(" open ") == 3
    last = presspool("outlet", "budget", "restored", "--charge", "lifetime", "--home", new)
    assert last.code == 0, last.err
    assert presspool("outlet", "runs", "--home", new).out.count(" over ") == 3
    assert "restored from an older copy" in presspool("outlet", "budget", "--home", new).out
    exported = tmp_path / "outlet.export"
    key = new / "identity" / "log.key"
    made = presspool("audit", "export", new / "ledger.db", "--out", exported, "--signing-key", key)
    assert made.code == 0, made.err
    assert "3 runs and what was lost use 100.0%" in presspool("audit", "recompute", exported).out


def test_a_file_that_is_no_backup_or_leads_elsewhere_makes_no_home(
    lived: Lived, tmp_path: Path
) -> None:
    for name, kind in (("../x", moving.KIND), ("/x", moving.KIND), ("x", moving.KIND), ("", "x")):
        bad = tmp_path / "bad"
        with tarfile.open(bad, "w") as tar:
            for member, content in (("PRESSPOOL", kind.encode()), (name, b"x")):
                if member:
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        with pytest.raises(InputError):
            moving.restore(bad, tmp_path / "new")
    bad.write_bytes(lived.file.read_bytes()[:-20000])
    with pytest.raises(InputError):
        moving.restore(bad, tmp_path / "new")
    with pytest.raises(FolderError):
        moving.restore(lived.file, lived.outlet.home)
    assert not (tmp_path / "new").exists()
