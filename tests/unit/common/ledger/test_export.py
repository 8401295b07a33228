"""Exports: what holds is accepted, every change is found, and the first bad entry is named."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import REPOSITORY
from tests.fakes.made_ledgers import (
    DIGEST,
    JOB,
    ORIGIN,
    RUN,
    SIGNER,
    WITNESSES,
    identity,
    rotate_key,
)

from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.export import export, leaf_text
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import Verified, verify
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint

KEYS = [witness.key for witness in WITNESSES]


def create(path: Path) -> Ledger:
    return Ledger.create(
        path, signer=SIGNER, unit="reader", order=4, delta=1e-5, caps=Caps(epsilon_max=8.0)
    )


def job(ledger: Ledger) -> None:
    """One whole run of two entries and a half: reserve, a release, settle."""
    run = ledger.reserve(
        run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=JOB, head=None
    )
    ledger.intend(run.reservation, round_number=0, steps=200, digest=DIGEST)
    ledger.settle(run.reservation)


def cosigned(ledger: Ledger, *witnesses: notes.Signer, signer: notes.Signer = SIGNER) -> Checkpoint:
    note = ledger.checkpoint(signer)
    for witness in witnesses:
        signed = notes.Note(text=note.text).signed(witness.sign(note.text, time=1_800_000_000))
        ledger.cosign(signed, witnesses=KEYS)
    return Checkpoint.parse(note.text)


def exported(ledger: Ledger, signer: notes.Signer = SIGNER) -> bytes:
    stream = io.BytesIO()
    export(ledger, stream, signer=signer, witnesses=KEYS)
    return stream.getvalue()


def check(data: bytes, **known: Any) -> Verified:
    return verify(io.BytesIO(data), **known)


def refused(data: bytes, match: str = ".", **known: Any) -> EvidenceError:
    with pytest.raises(EvidenceError, match=match) as caught:
        check(data, **known)
    return caught.value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[Checkpoint]]:
    """A ledger with three jobs, signed and cosigned after each: 10 entries, 3 heads."""
    path, heads = tmp_path_factory.mktemp("ledger") / "ledger.db", []
    with create(path) as ledger:
        for count in (1, 2, 3):
            job(ledger)
            heads.append(cosigned(ledger, *WITNESSES[:count]))
        return path, exported(ledger), heads


def test_an_export_holds_and_says_what_it_holds(made: Any) -> None:
    _, data, heads = made
    nothing = Checkpoint(origin=ORIGIN, size=0, root=merkle.EMPTY_ROOT)
    found = check(data, key=SIGNER.key, heads=[nothing, *heads[:2]])
    assert found.book.size == 10
    assert not found.book.dangling
    assert found.head == heads[-1]
    assert (found.checkpoints, found.key_known, found.heads_known) == (3, True, 2)
    assert found.cosigned == {key.text: 10 for key in KEYS}
    assert not check(data).key_known


def test_equal_ledgers_have_equal_exports(made: Any, tmp_path: Path) -> None:
    path, data, _ = made
    shutil.copy(path, tmp_path / "elsewhere.db")
    with Ledger(tmp_path / "elsewhere.db") as ledger:
        assert exported(ledger) == data


def test_an_export_carries_nothing_of_the_machine(made: Any) -> None:
    path, data, _ = made
    text = data.decode()
    assert str(path) not in text
    assert path.name not in text
    # Origins, digests, ids, dates and numbers: the only strings there are.
    for line in text.splitlines():
        if line.startswith("{"):
            continue
        assert entries.parse_entry(line[45:].encode())


def test_another_first_key_is_found(made: Any) -> None:
    stranger = notes.Signer.generate(ORIGIN, kind=notes.NOTE).key
    assert refused(made[1], "first key", key=stranger).entry == 0


def test_every_changed_byte_is_found(made: Any) -> None:
    _, data, _ = made
    chosen = random.Random(6)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= chosen.randrange(1, 256)
        refused(bytes(changed))


@pytest.mark.soak
def test_every_changed_bit_and_every_lost_or_added_byte_is_found(made: Any) -> None:
    _, data, _ = made
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            refused(bytes(changed))
        refused(data[:place] + data[place + 1 :])
        refused(data[:place] + bytes([data[place]]) + data[place:])


def test_every_line_is_needed_where_it_is(made: Any) -> None:
    lines = made[1].splitlines(keepends=True)
    for place in range(len(lines)):
        without = b"".join(lines[:place] + lines[place + 1 :])
        if place in (5, 9):  # an older head that is not shown says nothing false
            assert b'{"checkpoint"' in lines[place]
            assert check(without).checkpoints == 2
        else:
            refused(without)
        refused(b"".join(lines[: place + 1] + lines[place:]))
        if place:
            swapped = list(lines)
            swapped[place - 1], swapped[place] = swapped[place], swapped[place - 1]
            refused(b"".join(swapped))
    refused(b"")
    refused(made[1] + b"\n")
    refused(made[1] + lines[-1])
    refused(made[1][:-1])


def with_entry(data: bytes, index: int, old: bytes, new: bytes, *, forge: bool) -> bytes:
    """The export with one entry changed; its leaf hash made right again, or not."""
    lines = data.splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if not line.startswith(b"{")][index]
    body = lines[at][45:-1].replace(old, new)
    assert body != lines[at][45:-1]
    leaf = leaf_text(body) if forge else lines[at][:44]
    lines[at] = leaf + b" " + body + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("index", range(10))
def test_the_first_changed_entry_is_named(made: Any, index: int) -> None:
    changed = with_entry(made[1], index, b'"day":"2', b'"day":"3', forge=False)
    assert refused(changed, "leaf hash").entry == index


def test_an_entry_that_breaks_the_rules_is_named(made: Any) -> None:
    other = identity(77).encode()
    settle = json.loads(made[1].splitlines()[4][45:])
    changed = with_entry(made[1], 3, settle["reservation"].encode(), other, forge=True)
    assert refused(changed, "one that is open").entry == 3


def test_an_understated_charge_is_named(made: Any) -> None:
    charge = json.loads(made[1].splitlines()[2][45:])["charge"]
    less = b'"charge":%d' % (charge - 100)
    changed = with_entry(made[1], 1, b'"charge":%d' % charge, less, forge=True)
    assert refused(changed, "charge").entry == 1


def test_a_forged_entry_is_named_by_the_heads_around_it(made: Any) -> None:
    forged = with_entry(made[1], 5, DIGEST.encode(), b"sha256:" + b"f" * 64, forge=True)
    assert refused(forged, "entries 4 to 6 are not those of the signed head").entry == 4


def test_a_ledger_that_overspent_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outlet that switched its own filter off signs a file that verifies nowhere."""
    with create(tmp_path / "ledger.db") as ledger, monkeypatch.context() as patch:
        patch.setattr(LedgerState, "check", lambda *_: None)
        for _ in range(30):
            ledger.reserve(
                run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=JOB, head=None
            )
        data = exported(ledger)
    assert refused(data, "does not fit").entry == 30


def test_a_rewritten_history_is_found_by_who_kept_a_head(made: Any, tmp_path: Path) -> None:
    _, _, heads = made
    with create(tmp_path / "other.db") as ledger:
        for _ in range(4):
            job(ledger)
        rewritten = exported(ledger)
    assert check(rewritten, key=SIGNER.key).book.size == 13  # it agrees with itself
    for head in heads:
        refused(rewritten, "a head that somebody else kept", heads=[head])


def test_a_rolled_back_ledger_is_found_by_who_kept_a_head(made: Any, tmp_path: Path) -> None:
    path, _, heads = made
    with Ledger(path) as whole:
        bodies = list(whole.bodies(0, 7))
    lines = made[1].splitlines(keepends=True)
    short = [lines[0].replace(b'"entries":10', b'"entries":7')]
    short += [line for line in lines[1:] if line.startswith(b"{") or line[45:-1] in bodies][:-1]
    # The last peer cosigned later heads only: an honest older export would not name it.
    header = json.loads(short[0])
    header["witnesses"] = sorted(key.text for key in KEYS[:2])
    older = json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    data = b"".join([older, *short[1:]])
    assert check(data, heads=heads[:2]).book.size == 7
    refused(data, "shorter than a head", heads=heads)


def test_a_witness_that_is_named_must_have_cosigned(made: Any) -> None:
    data = made[1]
    header = json.loads(data.splitlines()[0])
    stranger = notes.Signer.generate("example.org/z", kind=notes.COSIGNATURE).key.text
    for witnesses, match in (
        (sorted([*header["witnesses"], stranger]), "a cosignature"),
        (header["witnesses"][1:], "known keys only"),
        (sorted([*header["witnesses"], SIGNER.key.text]), "cosigning key"),
    ):
        line = json.dumps({**header, "witnesses": witnesses}, sort_keys=True, separators=(",", ":"))
        refused(line.encode() + b"\n" + data.split(b"\n", 1)[1], match)


def test_cosignatures_of_keys_not_asked_for_are_left_out(made: Any) -> None:
    with Ledger(made[0]) as ledger:
        stream = io.BytesIO()
        export(ledger, stream, signer=SIGNER, witnesses=KEYS[:1])
    assert set(check(stream.getvalue()).cosigned) == {KEYS[0].text}


def test_a_witness_may_have_the_ledgers_own_name(tmp_path: Path) -> None:
    twin = notes.Signer.load(ORIGIN, b"t" * 32, kind=notes.COSIGNATURE)
    with create(tmp_path / "ledger.db") as ledger:
        note = ledger.checkpoint(SIGNER)
        signed = notes.Note(text=note.text).signed(twin.sign(note.text, time=5))
        ledger.cosign(signed, witnesses=[twin.key])
        for witnesses in ([], [twin.key]):
            stream = io.BytesIO()
            export(ledger, stream, signer=SIGNER, witnesses=witnesses)
            assert set(check(stream.getvalue()).cosigned) == {key.text for key in witnesses}


def test_heads_are_checked_with_the_key_of_their_time(tmp_path: Path) -> None:
    new = notes.Signer.load(ORIGIN, b"n" * 32, kind=notes.NOTE)
    with create(tmp_path / "ledger.db") as ledger:
        job(ledger)
        cosigned(ledger)
        rotate_key(ledger, SIGNER, new.key)
        with pytest.raises(LedgerError, match="signing key"):
            ledger.checkpoint(SIGNER)
        cosigned(ledger, signer=new)
        job(ledger)
        data = exported(ledger, signer=new)
    found = check(data, key=SIGNER.key)
    assert (found.checkpoints, found.book.key) == (3, new.key.text)


def test_later_entries_do_not_change_an_export_that_began(tmp_path: Path) -> None:
    with create(tmp_path / "ledger.db") as ledger, Ledger(tmp_path / "ledger.db") as other:
        job(ledger)

        class Growing(io.BytesIO):
            def write(self, data: Any) -> int:
                job(other)
                return super().write(data)

        stream = Growing()
        assert export(ledger, stream, signer=SIGNER, witnesses=[]).size == 4
        assert check(stream.getvalue()).book.size == 4
        assert ledger.refresh().size > 4


def tampering(path: Path, chosen: random.Random) -> None:
    """One random edit, deletion, swap or roll-back of rows, triggers or not."""
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        size = db.execute("SELECT count(*) FROM entries").fetchone()[0]
        one, other = chosen.sample(range(size), 2)
        bodies = dict(db.execute("SELECT seq, body FROM entries"))
        action = chosen.randrange(5)
        if action == 0:
            body = bytearray(bodies[one])
            body[chosen.randrange(len(body))] ^= 1 << chosen.randrange(8)
            db.execute("UPDATE entries SET body = ? WHERE seq = ?", (bytes(body), one))
        elif action == 1:
            db.execute("DELETE FROM entries WHERE seq = ?", (one,))
        elif action == 2:
            for place, body in ((one, bodies[other]), (other, bodies[one])):
                db.execute("UPDATE entries SET body = ? WHERE seq = ?", (body, place))
        elif action == 3:  # rolled back, as an old copy would be
            db.execute("DELETE FROM entries WHERE seq >= ?", (max(one, 1),))
            db.execute("DELETE FROM nodes WHERE (position + 1) << level > ?", (max(one, 1),))
            db.execute("DELETE FROM checkpoints WHERE size > ?", (max(one, 1),))
        else:  # an entry taken out, the rest moved up, numbers and tree made right again
            del bodies[one]
            db.execute("DELETE FROM entries")
            db.execute("DELETE FROM nodes")
            db.execute("DELETE FROM checkpoints")
            nodes: dict[tuple[int, int], bytes] = {}
            for seq, body in enumerate(bodies.values()):
                new = json.dumps(
                    {**json.loads(body), "seq": seq}, sort_keys=True, separators=(",", ":")
                ).encode()
                db.execute("INSERT INTO entries VALUES (?, ?)", (seq, new))
                nodes.update(merkle.new_nodes(seq, merkle.leaf_hash(new), lambda *at: nodes[at]))
            db.executemany(
                "INSERT INTO nodes VALUES (?, ?, ?)", [(*a, h) for a, h in nodes.items()]
            )
    db.close()


def check_tampering_is_found(made: Any, folder: Path, *, times: int) -> None:
    path, _, heads = made
    chosen = random.Random(times)
    copy = folder / "copy.db"
    for _ in range(times):
        for old in folder.glob("copy.db*"):
            old.unlink()
        shutil.copy(path, copy)
        tampering(copy, chosen)
        with pytest.raises((EvidenceError, LedgerError)), Ledger(copy) as ledger:
            check(exported(ledger), key=SIGNER.key, heads=heads[-1:])


def test_edits_deletions_swaps_and_roll_backs_of_rows_are_found(made: Any, tmp_path: Path) -> None:
    check_tampering_is_found(made, tmp_path, times=60)


@pytest.mark.soak
def test_ten_thousand_edits_deletions_swaps_and_roll_backs(made: Any, tmp_path: Path) -> None:
    check_tampering_is_found(made, tmp_path, times=10_000)


@given(st.data())
@settings(max_examples=200)
def test_no_bytes_crash_the_verifier(made: Any, data: st.DataObject) -> None:
    whole: bytes = made[1]
    at, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 60))
    put = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"{", b"[" * 5000, b"\n", b'"\\ud800"'])
    )
    edited = whole[:at] + put + whole[at + cut :]
    if edited != whole:
        refused(edited)
    with contextlib.suppress(EvidenceError):
        check(put)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: {**h, "entries": 0},
        lambda h: {**h, "entries": True},
        lambda h: {**h, "entries": 10.0},
        lambda h: {**h, "entries": 10**12},
        lambda h: {**h, "entries": 9},
        lambda h: {**h, "entries": 11},
        lambda h: {**h, "format": "presspool-ledger-export/2"},
        lambda h: {**h, "origin": "example.org/other"},
        lambda h: {**h, "origin": 5},
        lambda h: {**h, "more": 1},
        lambda h: {**h, "witnesses": {}},
        lambda h: {**h, "witnesses": [1]},
        lambda h: {**h, "witnesses": h["witnesses"][::-1]},
        lambda h: {**h, "witnesses": h["witnesses"] * 2},
        lambda h: {**h, "witnesses": ["no key"]},
        lambda h: [h],
    ],
)
def test_other_headers_are_refused(made: Any, change: Callable[[Any], Any]) -> None:
    first, rest = made[1].split(b"\n", 1)
    line = json.dumps(change(json.loads(first)), sort_keys=True, separators=(",", ":"))
    refused(line.encode() + b"\n" + rest)


def test_the_ledger_imports_without_torch_flower_or_transformers() -> None:
    program = """
import pkgutil, sys, importlib, presspool.common.ledger as package
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"presspool.common.ledger.{module.name}")
heavy = {"torch", "flwr", "transformers", "dp_accounting", "scipy"} & sys.modules.keys()
sys.exit(", ".join(sorted(heavy)) or 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY / "src", capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
