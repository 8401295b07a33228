"""The ledger on disk: it never under-counts, whatever is killed, cut off, full or rolled back."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_ledgers import (
    DIGEST,
    JOB,
    ORIGIN,
    RUN,
    SIGNER,
    WITNESSES,
    close_period,
    identity,
    rotate_key,
)

from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import (
    BudgetError,
    EvidenceError,
    LedgerError,
    RollbackError,
    StorageError,
)
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.log_database import STEPS, LogDatabase

CAPS = Caps(epsilon_max=8.0)
COST = events.charge(JOB, order=4)


def create(path: Path, **changes: Any) -> Ledger:
    parts = {"signer": SIGNER, "unit": "reader", "order": 4, "delta": 1e-5, "caps": CAPS}
    return Ledger.create(path, **{**parts, **changes})


def reserve(ledger: Ledger, **changes: Any) -> entries.Reserve:
    parts = {
        "run": RUN,
        "unit": "reader",
        "period": "2026",
        "datasets": [identity(1)],
        "event": JOB,
        "head": None,
    }
    return ledger.reserve(**{**parts, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Any:
    with create(path) as made:
        yield made


def test_a_life_of_a_ledger_survives_reopening(path: Path, ledger: Ledger) -> None:
    run = reserve(ledger, stated=entries.Stated(delta=1e-5, epsilon=0.5, version="0.6.0"))
    ledger.intend(run.reservation, round_number=0, steps=50, digest=DIGEST)
    ledger.give_back(run.reservation, kept=50)
    ledger.receive(run=RUN, round_number=0, digest=DIGEST)
    ledger.settle(run.reservation)
    close_period(ledger, "2026")
    ledger.change_policy(Caps(epsilon_max=6.0, period=4.0))
    new = notes.Signer.generate(ORIGIN, kind=notes.NOTE)
    rotate_key(ledger, SIGNER, new.key)
    with Ledger(path) as again:
        assert again.book.size == 9
        assert again.book.spent == events.charge(JOB.first(50), order=4)
        assert again.book.key == new.key.text
        assert again.book.caps == Caps(epsilon_max=6.0, period=4.0)
        assert again.book.highest == Caps(epsilon_max=8.0)
        assert again.head() == ledger.head()


def test_the_file_is_its_owners_alone(path: Path, ledger: Ledger) -> None:
    assert path.stat().st_mode & 0o077 == 0
    for other in path.parent.glob("ledger.db-*"):
        assert other.stat().st_mode & 0o077 == 0


def test_the_golden_number_of_jobs_is_admitted_and_the_refusal_is_written(ledger: Ledger) -> None:
    for _ in range(29):
        reserve(ledger)
    with pytest.raises(BudgetError, match="does not fit"):
        reserve(ledger)
    assert ledger.book.size == 31
    last = entries.parse_entry(*ledger.bodies(30, 31))
    assert isinstance(last, entries.Refusal)
    assert (last.reason, last.charge) == ("filter", COST)
    assert last.free == ledger.book.room(8.0) - 29 * COST


def test_reserve_is_durable_before_it_returns(path: Path, ledger: Ledger) -> None:
    run = reserve(ledger)
    with Ledger(path) as other:
        assert other.book.dangling[run.reservation].charge == COST


def test_handles_see_each_others_entries(path: Path, ledger: Ledger) -> None:
    with Ledger(path) as other:
        runs = [reserve(one) for one in (ledger, other, ledger, other)]
        for one, run in zip((other, other, ledger, ledger), runs, strict=True):
            one.settle(run.reservation)
        assert ledger.refresh().size == other.refresh().size == 9
        assert ledger.head() == other.head()


def test_one_round_has_one_sequence_of_bytes(path: Path, ledger: Ledger) -> None:
    run = reserve(ledger)
    first = ledger.intend(run.reservation, round_number=0, steps=10, digest=DIGEST)
    with Ledger(path) as later:
        assert later.intend(run.reservation, round_number=0, steps=10, digest=DIGEST) == first
        assert later.book.size == 3
        with pytest.raises(LedgerError, match="not the bytes of this round"):
            later.intend(run.reservation, round_number=0, steps=10, digest="sha256:" + "e" * 64)


def test_a_write_that_was_refused_changes_nothing(ledger: Ledger) -> None:
    run = reserve(ledger)
    before = ledger.head()
    for wrong in (
        lambda: ledger.settle(identity(5)),
        lambda: ledger.give_back(run.reservation, kept=200),
        lambda: ledger.give_back(identity(5), kept=1),
        lambda: ledger.change_policy(Caps(epsilon_max=3.0)),
        lambda: close_period(ledger, "2026"),
        lambda: rotate_key(ledger, notes.Signer.generate(ORIGIN, kind=notes.NOTE), SIGNER.key),
        lambda: ledger.receive(run="a reader's name", round_number=0, digest=DIGEST),
        lambda: reserve(ledger, datasets=[]),
    ):
        with pytest.raises((LedgerError, EvidenceError)):
            wrong()
    ledger.refresh()
    assert ledger.head() == before


def test_a_ledger_is_created_once(path: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="there is a ledger already"):
        create(path)
    assert ledger.refresh().size == 1


def test_two_that_make_a_file_at_once_make_one(path: Path) -> None:
    """The second finds no table, waits for the first, and then leaves its tables alone."""
    others: list[Ledger] = []

    def step(name: str) -> None:
        if name == "begin" and not others:
            others.append(create(path))

    LogDatabase(path, create=True, step=step).close()
    with others[0], Ledger(path) as ledger:
        assert ledger.book.size == others[0].book.size == 1


def test_no_ledger_without_capacity_leaves_no_file(path: Path) -> None:
    with pytest.raises(LedgerError, match="orders that work"):
        create(path, caps=Caps(epsilon_max=3.0))
    assert not path.exists()


def test_what_is_no_ledger_is_left_as_it_is(path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(path)
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(path)
    path.write_bytes(b"a text, not a database; long enough to be looked at" * 40)
    before = path.read_bytes()
    with pytest.raises(EvidenceError, match="damaged"):
        Ledger(path)
    assert path.read_bytes() == before
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    for attempt in (Ledger, create):
        with pytest.raises(LedgerError, match="no ledger"):
            attempt(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        create(tmp_path / "absent" / "ledger.db")


def test_days_never_go_back(path: Path) -> None:
    days = iter([date(2026, 3, 1), date(2026, 2, 1), date(2026, 4, 1)])
    with create(path, today=lambda: next(days)) as ledger:
        assert [reserve(ledger).day, reserve(ledger).day] == ["2026-03-01", "2026-04-01"]


def test_sqlite_itself_refuses_to_change_or_delete(path: Path, ledger: Ledger) -> None:
    reserve(ledger)
    with sqlite3.connect(path) as other:
        for table in ("entries", "nodes"):
            for verb in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = 7"):
                with pytest.raises(sqlite3.DatabaseError):
                    other.execute(verb.replace("rowid", "seq" if table == "entries" else "level"))
    other.close()


def tampered(path: Path, *statements: str) -> None:
    """Change the file as its operator could, triggers or not."""
    with sqlite3.connect(path) as other:
        names = other.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            other.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            other.execute(statement)
    other.close()


@pytest.mark.parametrize(
    ("statement", "entry"),
    [
        ("UPDATE entries SET body = CAST(replace(body, '2026', '2025') AS BLOB) WHERE seq = 2", 2),
        ("UPDATE entries SET body = CAST(body || ' ' AS BLOB) WHERE seq = 1", 1),
        ("DELETE FROM entries WHERE seq = 1", 1),
        ("DELETE FROM entries WHERE seq = 0", 0),
        ("UPDATE entries SET body = (SELECT body FROM entries WHERE seq = 1) WHERE seq = 2", 2),
        ("DELETE FROM entries WHERE seq = 3", None),
        ("DELETE FROM nodes WHERE level = 1", None),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 2", None),
    ],
)
def test_opening_finds_a_changed_file(path: Path, statement: str, entry: int | None) -> None:
    with create(path) as ledger:
        for _ in range(3):
            reserve(ledger)
    tampered(path, statement)
    with pytest.raises(EvidenceError) as caught:
        Ledger(path)
    assert caught.value.entry == entry


def signed_and_read(path: Path) -> list[notes.Note]:
    with Ledger(path) as ledger:
        ledger.checkpoint(SIGNER)
        return ledger.checkpoints()


@pytest.mark.parametrize(
    ("column", "where", "entry"),
    [
        ("entries.body", "seq = 1", 1),
        ("nodes.hash", "level = 2", None),
        ("checkpoints.note", "size = 4", None),
    ],
)
@pytest.mark.parametrize("value", ["NULL", "'a text'"])
def test_a_row_that_holds_no_bytes_is_a_damaged_ledger(
    path: Path, column: str, where: str, entry: int | None, value: str
) -> None:
    """As a flipped bit in a page does; SQLite's own schema does not look again when it reads."""
    table, name = column.split(".")
    with create(path) as ledger:
        for _ in range(3):
            reserve(ledger)
        ledger.checkpoint(SIGNER)
    tampered(
        path,
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = replace(replace(sql, '{name} BLOB NOT NULL', '{name}'), "
        f"'STRICT, ', '') WHERE name = '{table}'",
        f"UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE name = '{table}'",
    )
    tampered(path, f"UPDATE {table} SET {name} = {value} WHERE {where}")
    with pytest.raises(EvidenceError, match="damaged") as caught:
        signed_and_read(path)
    assert caught.value.entry == entry
    assert caught.value.expected == "bytes"


def test_a_rolled_back_file_reserves_nothing(path: Path, tmp_path: Path) -> None:
    with create(path) as ledger:
        reserve(ledger)
        old = tmp_path / "old.db"
    shutil.copy(path, old)
    with Ledger(path) as ledger:
        reserve(ledger)
        head = ledger.head()
    with Ledger(old) as restored:
        with pytest.raises(RollbackError, match="older than a head"):
            restored.compare(head)
        with pytest.raises(RollbackError, match="older than a head"):
            reserve(restored, head=head)
        assert restored.book.size == 2
        reserve(restored)  # without the head nobody can know, and histories part
        with pytest.raises(RollbackError, match="another history"):
            reserve(restored, head=head)
    with Ledger(path) as ledger:
        assert reserve(ledger, head=head).seq == 3


def test_a_head_of_another_ledger_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="origin of head"):
        ledger.compare(Checkpoint(origin="example.org/x", size=1, root=ledger.head().root))


def test_a_file_replaced_under_an_open_handle_is_found(path: Path) -> None:
    with create(path) as ledger:
        reserve(ledger)
        tampered(path, "DELETE FROM entries WHERE seq = 1", "DELETE FROM nodes WHERE position = 1")
        with pytest.raises(RollbackError, match="replaced while it was open"):
            reserve(ledger)


def test_checkpoints_are_signed_once_and_gather_cosignatures(path: Path, ledger: Ledger) -> None:
    reserve(ledger)
    note = ledger.checkpoint(SIGNER)
    assert ledger.checkpoint(SIGNER) == note
    keys = [witness.key for witness in WITNESSES]
    for number, witness in enumerate(WITNESSES):
        signed = notes.Note(text=note.text).signed(witness.sign(note.text, time=1000 + number))
        note = ledger.cosign(signed, witnesses=keys)
    assert len(notes.verified(note, [SIGNER.key, *keys])) == 4
    reserve(ledger)
    with Ledger(path) as other:
        assert other.checkpoints() == [note]
        other.checkpoint(SIGNER)
        assert [Checkpoint.parse(n.text).size for n in ledger.checkpoints()] == [2, 3]
        assert ledger.newest_checkpoint() == (ledger.checkpoints()[-1], 2)


def test_others_checkpoints_and_cosignatures_are_refused(ledger: Ledger) -> None:
    note = ledger.checkpoint(SIGNER)
    with pytest.raises(EvidenceError):
        ledger.cosign(note, witnesses=[WITNESSES[0].key])
    forked = Checkpoint(origin=ORIGIN, size=1, root=bytes(32)).text
    signed = notes.Note(text=forked).signed(WITNESSES[0].sign(forked, time=5))
    with pytest.raises(LedgerError, match="one that this ledger signed"):
        ledger.cosign(signed, witnesses=[WITNESSES[0].key])
    peer = notes.Signer.generate("example.org/peer", kind=notes.NOTE)
    signed = notes.Note(text=note.text).signed(peer.sign(note.text))
    with pytest.raises(EvidenceError, match="a signature of one of"):
        ledger.cosign(signed, witnesses=[peer.key])  # a log's kind of key witnesses nothing
    with pytest.raises(LedgerError, match="signing key"):
        ledger.checkpoint(notes.Signer.generate(ORIGIN, kind=notes.NOTE))


def test_proofs_hold_against_the_signed_heads(ledger: Ledger) -> None:
    heads = [ledger.head()]
    for _ in range(9):
        reserve(ledger)
        heads.append(ledger.head())
    for old in heads:
        merkle.verify_consistency(
            ledger.prove_consistency(old.size, 10),
            old=old.size,
            new=10,
            old_root=old.root,
            new_root=heads[-1].root,
        )
    for index, body in enumerate(ledger.bodies(0, 10)):
        merkle.verify_inclusion(
            ledger.prove_inclusion(index, 10),
            index=index,
            size=10,
            leaf=merkle.leaf_hash(body),
            root=heads[-1].root,
        )


def test_a_proof_that_cannot_be_made_is_no_proof(path: Path, ledger: Ledger) -> None:
    for _ in range(3):
        reserve(ledger)
    tampered(path, "DELETE FROM nodes WHERE level = 1 AND position = 0")
    with pytest.raises(EvidenceError, match="tree node is missing"):
        ledger.prove_inclusion(3, 4)


def test_every_write_is_synced_before_it_returns(path: Path, ledger: Ledger) -> None:
    """What a power cut needs and no test without one can see: WAL, and fsync at every commit."""
    database = ledger._database._db
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    with Ledger(path) as again:
        assert again._database._db.execute("PRAGMA synchronous").fetchone() == (2,)


# Interruptions


class InterruptedWriteError(Exception):
    """Raised at one of the labelled steps of a write."""


@pytest.mark.parametrize("label", STEPS)
def test_an_exception_at_any_step_leaves_the_entry_whole_or_absent(path: Path, label: str) -> None:
    armed: list[str] = []

    def step(name: str) -> None:
        if name in armed:
            raise InterruptedWriteError

    with create(path, step=step) as ledger:
        reserve(ledger)
        armed.append(label)
        with pytest.raises(InterruptedWriteError):
            reserve(ledger)
        armed.clear()
        durable = 2 if label == "committed" else 1
        assert ledger.refresh().spent == durable * COST
        reserve(ledger)
        with Ledger(path) as other:
            assert other.book.spent == (durable + 1) * COST
            assert other.head() == ledger.head()


@pytest.mark.parametrize("label", STEPS)
def test_an_interrupted_creation_is_completed(path: Path, label: str) -> None:
    def step(name: str) -> None:
        if name == label:
            raise InterruptedWriteError

    with pytest.raises(InterruptedWriteError):
        create(path, step=step)
    if label != "entry":  # the first write is the tables, which have no entry
        with pytest.raises(LedgerError):
            Ledger(path)
    with create(path) as ledger:
        assert ledger.book.size == 1


def child(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.children.ledger_children", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )


def check_never_undercounts(path: Path, said: str) -> None:
    """Whatever was promised before the kill is in the ledger, and the ledger still works."""
    whole, part = (events.charge(JOB.first(n), order=4) for n in (2, 1))
    promised: dict[str, str] = {}
    for line in said.splitlines():
        action, reservation = line.split()
        promised[reservation] = action
    with Ledger(path) as ledger:
        kinds: dict[str, list[str]] = {}
        for body in ledger.bodies(0, ledger.book.size):
            entry = entries.parse_entry(body)
            if hasattr(entry, "reservation"):
                kinds.setdefault(entry.reservation, []).append(entry.kind)
        order = ["reserve", "release-intent", "give-back", "settle"]
        for reservation, action in promised.items():
            reached = {"intend": "release-intent"}.get(action, action)
            assert reached in kinds[reservation]
        assert len(kinds) - len(promised) in (0, 1)  # one may be durable but not yet said
        assert all(done == order[: len(done)] for done in kinds.values())
        expected = sum(part if "give-back" in done else whole for done in kinds.values())
        assert ledger.book.spent == expected
        reserve(ledger)


def killed_at(path: Path, label: str, occurrence: int) -> None:
    with create(path):
        pass
    process = child("work", path, label, occurrence)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    check_never_undercounts(path, said)


@pytest.mark.parametrize("label", STEPS)
def test_kill_9_at_a_labelled_step_never_undercounts(path: Path, label: str) -> None:
    killed_at(path, label, random.Random(label).randrange(2, 30))


@pytest.mark.soak
@pytest.mark.parametrize("label", STEPS)
def test_many_kills_at_every_labelled_step(tmp_path: Path, label: str) -> None:
    for occurrence in range(1, 25):
        killed_at(tmp_path / f"{occurrence}.db", label, occurrence)


def killed_at_random(path: Path, chosen: random.Random) -> None:
    with create(path):
        pass
    process = child("work", path, "never", 1)
    assert process.stdout is not None
    first = process.stdout.readline()  # it is at work
    time.sleep(chosen.random() / 5)
    process.kill()
    said = first + process.stdout.read()  # `communicate` would lose what is buffered already
    process.wait(timeout=120)
    check_never_undercounts(path, said[: said.rfind("\n") + 1])


def test_kill_9_at_random_never_undercounts(tmp_path: Path) -> None:
    chosen = random.Random(9)
    for number in range(4):
        killed_at_random(tmp_path / f"{number}.db", chosen)


@pytest.mark.soak
def test_two_hundred_random_kills(tmp_path: Path) -> None:
    chosen = random.Random(200)
    for number in range(200):
        killed_at_random(tmp_path / f"{number}.db", chosen)


def many_processes(path: Path, *, processes: int, count: int, steps: int) -> int:
    """All reserve against one cap; what was admitted in all."""
    with create(path):
        pass
    children = [child("reserve", path, count, steps) for _ in range(processes)]
    admitted = sum(int(process.communicate(timeout=3600)[0]) for process in children)
    with Ledger(path) as ledger:
        cost = events.charge(JOB.first(steps), order=4)
        assert ledger.book.spent == admitted * cost <= ledger.book.room(8.0)
        assert ledger.book.size == 1 + processes * count
        assert ledger.book.room(8.0) - ledger.book.spent < cost  # and nothing was wasted
    return admitted


def test_sixteen_processes_never_exceed_one_cap(path: Path) -> None:
    assert many_processes(path, processes=16, count=4, steps=200) == 29


@pytest.mark.soak
def test_sixteen_processes_with_500_reservations_each(path: Path) -> None:
    assert many_processes(path, processes=16, count=500, steps=1) == 5805


# Power and disks

FRAME, FRAME_HEADER, WAL_HEADER = 4096 + 24, 24, 32


def cut_points(size: int, chosen: random.Random) -> list[int]:
    """Every frame boundary of a write-ahead log, and torn writes inside frames."""
    whole = list(range(WAL_HEADER, size + 1, FRAME))
    return [0, 10, *whole, *(at + chosen.randrange(1, FRAME) for at in whole[:-1])]


def test_a_power_cut_at_every_write_boundary_never_undercounts(tmp_path: Path) -> None:
    path, cut = tmp_path / "ledger.db", tmp_path / "cut" / "ledger.db"
    cut.parent.mkdir()
    wal = tmp_path / "ledger.db-wal"
    promised = []  # (bytes of the write-ahead log when it was promised, entries)
    with create(path) as ledger:
        for _ in range(8):
            reserve(ledger)
            promised.append((wal.stat().st_size, ledger.book.size))
        database, log = path.read_bytes(), wal.read_bytes()
        bodies = list(ledger.bodies(0, 9))
    opened = 0
    for at in cut_points(len(log), random.Random(3)):
        for old in cut.parent.iterdir():
            old.unlink()
        cut.write_bytes(database)
        cut.with_name("ledger.db-wal").write_bytes(log[:at])
        least = max((size for written, size in promised if written <= at), default=0)
        if least == 0:  # nothing was promised yet: a ledger already, or not
            with contextlib.suppress(LedgerError, EvidenceError):
                Ledger(cut).close()
            continue
        with Ledger(cut) as ledger:
            assert ledger.book.size >= least
            assert list(ledger.bodies(0, 9)) == bodies[: ledger.book.size]
            opened += 1
    assert opened > 20


def test_a_power_cut_while_the_log_is_moved_into_the_file(tmp_path: Path) -> None:
    path, cut = tmp_path / "ledger.db", tmp_path / "cut" / "ledger.db"
    cut.parent.mkdir()
    with create(path) as ledger:
        for _ in range(8):
            reserve(ledger)
        before, log = path.read_bytes(), path.with_name("ledger.db-wal").read_bytes()
        expected = ledger.head()
    after = path.read_bytes()  # closing moved the log into the file
    assert len(after) > len(before)
    chosen = random.Random(4)
    for _ in range(20):
        mixed = bytearray(after[: max(len(before), chosen.randrange(0, len(after), 4096))])
        for page in range(0, len(before), 4096):
            if chosen.random() < 0.5:
                mixed[page : page + 4096] = before[page : page + 4096]
        for old in cut.parent.iterdir():
            old.unlink()
        cut.write_bytes(mixed)
        cut.with_name("ledger.db-wal").write_bytes(log)
        with Ledger(cut) as ledger:
            assert ledger.head() == expected


def test_a_full_disk_leaves_no_reservation_half_written(path: Path) -> None:
    wal = path.with_name("ledger.db-wal")
    with create(path) as ledger:
        reserve(ledger)
        admitted, tries = 0, range(0, 5 * FRAME, 700)
        for extra in tries:
            before = ledger.refresh().size
            with contextlib.suppress(StorageError), full_disk(room=wal.stat().st_size + extra):
                reserve(ledger)
                admitted += 1
            with Ledger(path) as other:
                assert other.book.size in (before, before + 1)
                assert other.book.spent == (other.book.size - 1) * COST
                assert ledger.refresh().spent == other.book.spent
        assert 0 < admitted < len(tries)
        full = ledger.refresh().size
        reserve(ledger)  # there is room again
        assert ledger.book.size == full + 1


def test_a_full_disk_at_creation_can_be_tried_again(path: Path) -> None:
    with pytest.raises(StorageError), full_disk(room=100):
        create(path)
    with create(path) as ledger:
        assert ledger.book.size == 1


def test_a_ledger_that_another_process_keeps_locked_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("presspool.common.transparency.log_database.WAIT_SECONDS", 0.05)
    with create(path) as ledger:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            reserve(ledger)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert reserve(ledger).seq == 1
