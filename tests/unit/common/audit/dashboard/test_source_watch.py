"""Sources are followed: what changes is seen, what no longer holds is said and not shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.fakes.made_evidence import ADAPTER, OUTLETS, Desk, make_desk, signer_of
from tests.fakes.made_ledgers import RUN
from tests.fakes.made_looks import made_pool

from presspool.common.audit.dashboard.alerts import alerts
from presspool.common.audit.dashboard.source_watch import (
    CERTIFICATE,
    CONTRADICTION,
    FORKS,
    SourceWatch,
)
from presspool.common.audit.evidence import sources
from presspool.common.audit.evidence.audit_console import kept_head
from presspool.common.base.errors import StorageError
from presspool.common.ledger.store import Ledger
from presspool.common.pki.certificates import issue_outlet, make_key, make_request, make_root


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def test_what_it_sees_is_what_a_report_reads(desk: Desk) -> None:
    for paths in ([*desk.exports, desk.run], [*desk.ledgers, desk.run]):
        watch = SourceWatch(lambda paths=paths: paths)  # type: ignore[misc]
        look = watch.look()
        assert look.evidence == sources.read(paths)
        assert look.faults == ()
        watch.close()


def test_files_that_did_not_change_are_not_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = SourceWatch(lambda: [*desk.exports, desk.run])
    first = watch.look()
    for name in ("read_run", "read_outlet"):
        monkeypatch.setattr(sources, name, None)
    assert watch.look().evidence == first.evidence


def test_a_new_entry_is_seen(desk: Desk) -> None:
    watch = SourceWatch(lambda: desk.ledgers)
    before = watch.look().evidence.outlets[0]
    with Ledger(desk.ledgers[0]) as ledger:
        ledger.refuse(run=RUN, reason="policy-noise")
        ledger.checkpoint(signer_of(OUTLETS[0]))
    after = watch.look().evidence.outlets[0]
    assert after.entries == before.entries + 1
    assert after.refusals[-1].run == RUN
    assert after.head.size == after.entries
    watch.close()


def test_sources_may_come_and_go(desk: Desk) -> None:
    paths = [desk.exports[0]]
    watch = SourceWatch(lambda: paths)
    assert len(watch.look().evidence.outlets) == 1
    paths.append(desk.exports[1])
    assert len(watch.look().evidence.outlets) == 2
    paths.clear()
    look = watch.look()
    assert (look.evidence.outlets, look.faults) == ((), ())


def test_an_export_that_no_longer_holds_is_said_and_not_shown(desk: Desk) -> None:
    watch = SourceWatch(lambda: desk.exports)
    assert len(watch.look().evidence.outlets) == 2
    good = desk.exports[0].read_bytes()
    desk.exports[0].write_bytes(good.replace(b'"policy-noise"', b'"policy-steps"'))
    look = watch.look()
    assert [outlet.name for outlet in look.evidence.outlets] == ["south-echo"]
    (fault,) = look.faults
    assert (fault.source, fault.evidence) == ("north-post.export", True)
    (found,) = [a for a in alerts(look) if a.kind == "source"]
    assert found.urgent
    desk.exports[0].write_bytes(good)
    assert watch.look().faults == ()


def test_a_ledger_that_was_put_back_is_said_and_never_shown_again(desk: Desk) -> None:
    older = desk.folder / "older.db"
    shutil.copy(desk.ledgers[0], older)
    with Ledger(desk.ledgers[0]) as ledger:
        ledger.refuse(run=RUN, reason="policy-noise")
    watch = SourceWatch(lambda: [desk.ledgers[0]])
    assert len(watch.look().evidence.outlets) == 1
    older.replace(desk.ledgers[0])
    for _ in range(2):
        look = watch.look()
        assert look.evidence.outlets == ()
        assert look.faults[0].evidence
        assert "older" in look.faults[0].words
    watch.close()


def test_a_ledger_in_the_place_of_another_is_said(desk: Desk) -> None:
    watch = SourceWatch(lambda: [desk.ledgers[0]])
    watch.look()
    desk.ledgers[1].replace(desk.ledgers[0])
    assert watch.look().faults[0].evidence
    watch.close()


def test_a_damaged_ledger_is_said(desk: Desk) -> None:
    with desk.ledgers[0].open("r+b") as file:
        file.seek(5000)
        file.write(bytes(3000))
    (fault,) = SourceWatch(lambda: [desk.ledgers[0]]).look().faults
    assert fault.evidence


def test_two_heads_of_one_size_are_a_fault(desk: Desk) -> None:
    """A split view: what was shown to a peer is not what is shown here."""
    other = make_desk(desk.folder / "other", desk.contract)  # other random ids: another history
    head = kept_head(other.folder / "north-post.checkpoint")
    watch = SourceWatch(lambda: [desk.exports[0]], brought=sources.Brought(heads=(head,)))
    look = watch.look()
    assert look.evidence.outlets == ()
    assert look.faults[0].evidence
    assert "somebody else kept" in look.faults[0].words


def test_one_ledger_twice_is_a_fault(desk: Desk) -> None:
    look = SourceWatch(lambda: [desk.exports[0], desk.ledgers[0]]).look()
    assert len(look.evidence.outlets) == 1
    assert "twice" in look.faults[0].words


def test_a_home_has_its_certificate_its_approvals_and_the_forks_that_it_found(
    desk: Desk,
) -> None:
    home = desk.folder / "north-post"
    (home / "outlet.toml").write_text('name = "north-post"\ndata = "x"\n', encoding="utf-8")
    root, key = make_root("press-pool", now=0), make_key()
    (home / CERTIFICATE).parent.mkdir()
    (home / CERTIFICATE).write_bytes(issue_outlet(root, "north-post", make_request(key), now=0))
    (home / FORKS).mkdir(parents=True)
    (home / FORKS / "ab.fork").write_bytes(b"")
    (home / CONTRADICTION).write_bytes(b"{}")
    approvals = home / "approvals"
    approvals.mkdir()
    (approvals / f"{desk.contract.digest[7:]}.approved").write_text(
        '{"by":"A. Editor","day":"2026-01-05"}', encoding="utf-8"
    )
    watch = SourceWatch(lambda: [home], clock=lambda: 10 * 86_400.0)
    look = watch.look()
    assert [(c.kind, c.name) for c in look.certificates] == [("outlet", "north-post")]
    approval = look.evidence.outlets[0].approval(desk.contract.digest)
    assert approval is not None
    assert approval.by == "A. Editor"
    assert [a.about for a in alerts(look) if a.kind == "split-view"] == [
        "north-post: ab.fork",
        "north-post: contradiction.json",
    ]
    watch.close()


def test_the_card_beside_an_adapter_is_found(desk: Desk) -> None:
    (desk.adapter / "privacy_card.json").write_bytes(b"{}")
    assert SourceWatch(lambda: [desk.run]).look().cards == {ADAPTER: b"{}"}


def test_what_is_not_there_is_a_fault_without_its_path(desk: Desk) -> None:
    shutil.rmtree(desk.run)
    (fault,) = SourceWatch(lambda: [desk.run]).look().faults
    assert fault.source == "run"
    assert str(desk.folder) not in fault.words


def test_a_coordinators_database_that_refuses_is_a_fault(desk: Desk) -> None:
    def broken() -> None:
        raise StorageError("cannot be read", where="the coordinator's database")

    look = SourceWatch(lambda: desk.exports, pool=broken).look()  # type: ignore[arg-type]
    assert look.pool is None
    assert len(look.evidence.outlets) == 2
    assert look.faults[0].source == "the coordinator's database"
    assert made_pool().name == "press-pool"


def test_a_path_that_the_system_refuses_hides_no_other(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    refused = desk.run / ("n" * 300)
    look = SourceWatch(lambda: [refused, *desk.exports]).look()
    assert [fault.words for fault in look.faults] == ["cannot read: File name too long"]
    assert not look.faults[0].evidence
    assert len(look.evidence.outlets) == len(desk.exports)
    assert not caplog.records
