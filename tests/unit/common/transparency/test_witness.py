"""The witness: every answer of the protocol, one history only, and nothing signed before stored."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import REPOSITORY
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_logs import LOG, History, MemoryHeads, cosignatures, peer, witness

from presspool.common.base.errors import EvidenceError, LedgerError, StorageError
from presspool.common.transparency import forks, merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.transparency.witness import Heads, Reply, Request, Witness, parse_request

TRUNK = History(b"entry %d" % i for i in range(12))
OTHER = History(b"entry %d" % i if i < 4 else b"changed %d" % i for i in range(12))
ORIGIN = LOG.key.name

# The example of C2SP tlog-witness, its first signature only.
SPEC = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGz\
Gku9nTo+zyWE+xeMcTOAYQ8=
"""


def ask(of: Witness, request: Request) -> Reply:
    return of.add_checkpoint(request.encode())


def at(size: int) -> Witness:
    """A witness that cosigned the trunk's head of this size."""
    made = witness(1)
    if size:
        assert ask(made, TRUNK.request(0, size)).status == 200
    return made


def test_the_published_request_is_read_exactly() -> None:
    request = parse_request(SPEC.encode())
    assert (request.old, len(request.proof)) == (20852014, 4)
    assert Checkpoint.parse(request.checkpoint.text).size == 20852163
    assert request.encode() == SPEC.encode()


@pytest.mark.parametrize("old", range(13))
def test_every_later_head_is_cosigned(old: int) -> None:
    for new in range(old, 13):
        made = at(old)
        request = TRUNK.request(old, new)
        reply = ask(made, request)
        assert (reply.status, reply.fork) == (200, None)
        (signature,) = cosignatures(reply)
        note = request.checkpoint.signed(signature)
        assert notes.verified(note, [peer(1).key]) == (signature,)
        assert signature.time == 1_800_000_000
        assert made.heads.read(ORIGIN) == request.checkpoint


def test_the_same_head_is_cosigned_again() -> None:
    made = at(5)
    assert [ask(made, TRUNK.request(5, 5)).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("stale", [0, 4, 6])
def test_a_stale_size_gets_the_held_one(stale: int) -> None:
    reply = ask(at(5), TRUNK.request(stale, 9))
    assert reply == Reply(status=409, body=b"5\n")


def test_a_witness_without_a_head_is_at_zero() -> None:
    assert ask(at(0), TRUNK.request(3, 9)) == Reply(status=409, body=b"0\n")


def test_a_smaller_head_is_never_cosigned() -> None:
    assert ask(at(7), TRUNK.request(5, 5)) == Reply(status=409, body=b"7\n")
    assert ask(at(7), TRUNK.request(7, 5)).status == 400  # sizes in the wrong order


def test_a_proof_that_does_not_hold() -> None:
    good = TRUNK.request(5, 9)
    for proof in (
        (),
        good.proof[1:],
        (*good.proof, bytes(32)),
        good.proof[::-1],
        OTHER.request(5, 9).proof,
        (bytes(32), *good.proof[1:]),
    ):
        assert ask(at(5), replace(good, proof=proof)) == Reply(status=422)
    assert ask(at(0), replace(TRUNK.request(0, 9), proof=(bytes(32),))).status == 422
    assert ask(at(5), replace(TRUNK.request(5, 5), proof=(bytes(32),))).status == 422
    assert ask(at(5), OTHER.request(5, 9)).status == 422  # another history, honestly proved


def test_an_unknown_log_and_a_signature_of_somebody_else() -> None:
    stranger = notes.Signer.generate("example.org/other", kind=notes.NOTE)
    assert ask(at(0), History([b"x"], stranger).request(0)).status == 404
    impostor = notes.Signer.generate(ORIGIN, kind=notes.NOTE)
    assert ask(at(0), History([b"x"], impostor).request(0)).status == 403
    request = TRUNK.request(0, 3)
    (own,) = request.checkpoint.signatures
    spoiled = replace(own, value=bytes([own.value[0] ^ 1]) + own.value[1:])
    unsigned = replace(
        request,
        checkpoint=notes.Note(
            text=request.checkpoint.text,
            signatures=(notes.Signature(name="example.org/x", key_id=b"abcd", value=bytes(64)),),
        ),
    )
    for bad in (
        unsigned,
        replace(request, checkpoint=replace(unsigned.checkpoint, signatures=(spoiled,))),
    ):
        assert ask(at(0), bad).status == 403


def test_an_unknown_key_s_signature_beside_the_log_s_is_ignored_and_not_kept() -> None:
    made, request = at(0), TRUNK.request(0, 3)
    note = request.checkpoint.signed(peer(2).sign(request.checkpoint.text, time=1))
    assert ask(made, replace(request, checkpoint=note)).status == 200
    assert made.heads.read(ORIGIN) == request.checkpoint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"old 4", b"old 04"),
        (b"old 4", b"old"),
        (b"old 4", b"old -4"),
        (b"old 4\n", b""),
        (b"old 4", b"OLD 4"),
        (b"old 4\n", b"old 4\nAAAA\n"),
        (b"\n\n", b"\n"),
        (b"\n9\n", b"\nx\n"),
        (b"old 4\n", b"old 4\n" + b"A" * 43 + b"=\n"),
        ("—".encode(), b"-"),
        (b"old 4", b"\xff"),
        (b"old 4\n", b"old 4\n" + (b"A" * 43 + b"=\n") * 64),
    ],
)
def test_what_is_not_a_request(old: bytes, new: bytes) -> None:
    data = TRUNK.request(4, 9).encode()
    changed = data.replace(old, new, 1)
    assert changed != data
    made = at(4)
    assert made.add_checkpoint(changed).status in (400, 422)
    assert made.heads.read(ORIGIN) == TRUNK.head(4)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_crash_a_witness(data: bytes) -> None:
    assert witness(1).add_checkpoint(data).status == 400
    assert witness(1).add_checkpoint(b"old 0\n\n" + data).status in (400, 404)


@given(st.data())
def test_no_edit_of_a_request_moves_a_witness_off_its_history(data: st.DataObject) -> None:
    whole, made = TRUNK.request(4, 9).encode(), at(4)
    place, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 4))
    edited = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + cut :]
    reply = made.add_checkpoint(edited)
    head = made.heads.read(ORIGIN)
    assert head is not None
    assert head.text == (TRUNK.head(9) if reply.status == 200 else TRUNK.head(4)).text


def test_two_heads_of_one_size_end_the_log_and_leave_a_proof(tmp_path: Path) -> None:
    made = witness(1, Heads(tmp_path / "heads"))
    assert ask(made, TRUNK.request(0, 9)).status == 200
    reply = ask(made, OTHER.request(4, 9))  # even with a stale size
    assert (reply.status, reply.body) == (409, b"9\n")
    written = made.heads.fork(ORIGIN).read_bytes()
    assert reply.fork == written
    first, second = forks.verify_fork(written, log=LOG.key)
    assert first.size == second.size == 9
    # Nothing of this log is cosigned any more, by this process or a later one.
    for later in (made, witness(1, Heads(tmp_path / "heads"))):
        assert ask(later, TRUNK.request(9, 10)).status == 403
        assert later.heads.read(ORIGIN) == TRUNK.head(9)


def test_what_a_stranger_forges_is_no_fork() -> None:
    impostor = notes.Signer.generate(ORIGIN, kind=notes.NOTE)
    made = at(9)
    reply = ask(made, History([b"x"] * 9, impostor).request(9))
    assert reply == Reply(status=403)
    assert ask(made, TRUNK.request(9, 10)).status == 200


def test_heads_outlive_the_process_and_logs_do_not_mix(tmp_path: Path) -> None:
    second = notes.Signer.generate("example.org/second", kind=notes.NOTE)
    for step, size in ((0, 3), (3, 8)):
        made = Witness(peer(1), logs=[LOG.key, second.key], heads=Heads(tmp_path))
        assert ask(made, TRUNK.request(step, size)).status == 200
    assert ask(made, History([b"a"], second).request(0)).status == 200
    assert ask(made, TRUNK.request(8, 9)).status == 200


def test_a_log_that_is_another_one_now_is_witnessed_from_its_beginning(tmp_path: Path) -> None:
    heads = Heads(tmp_path)
    note = TRUNK.head(3)
    heads.store(LOG.key.name, note)
    heads.store("example.org/other", note)
    heads.forget(LOG.key.name)
    heads.forget(LOG.key.name)  # nothing to forget is no error
    assert heads.read(LOG.key.name) is None
    assert heads.read("example.org/other") == note


def test_the_head_is_stored_before_it_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    made, signed, sign = at(0), list[str](), notes.Signer.sign

    def watched(self: notes.Signer, text: str, *, time: int | None = None) -> notes.Signature:
        held = made.heads.read(ORIGIN)
        signed.append(text)
        assert held is not None
        assert held.text == text
        return sign(self, text, time=time)

    request = TRUNK.request(0, 3)
    monkeypatch.setattr(notes.Signer, "sign", watched)
    assert ask(made, request).status == 200
    assert signed == [request.checkpoint.text]


def test_a_full_disk_cosigns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = witness(1, Heads(tmp_path))
    assert ask(made, TRUNK.request(0, 3)).status == 200
    request = TRUNK.request(3, 9)
    with monkeypatch.context() as patch:
        patch.setattr(notes.Signer, "sign", None)  # would crash
        with pytest.raises(StorageError), full_disk(room=10):
            ask(made, request)
    assert made.heads.read(ORIGIN) == TRUNK.head(3)
    assert ask(made, request).status == 200


def test_a_damaged_head_is_not_cosigned_over(tmp_path: Path) -> None:
    made = witness(1, Heads(tmp_path))
    assert ask(made, TRUNK.request(0, 3)).status == 200
    (path,) = tmp_path.glob("*.checkpoint")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(EvidenceError):
        ask(made, TRUNK.request(0, 3))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        Heads(tmp_path / "file" / "heads")
    made = witness(1, Heads(tmp_path / "heads"))
    (tmp_path / "heads").rmdir()
    with pytest.raises(StorageError):
        ask(made, TRUNK.request(0, 3))


def test_racing_requests_never_roll_a_witness_back(tmp_path: Path) -> None:
    """The race of the specification: many clients, two histories, one witness folder."""
    made = [witness(1, Heads(tmp_path)) for _ in range(4)]
    requests = [h.request(0, size) for size in (6, 7, 8) for h in (TRUNK, OTHER)]
    with ThreadPoolExecutor(8) as pool:
        jobs = itertools.islice(zip(itertools.cycle(made), requests * 8, strict=False), 48)
        replies = list(pool.map(lambda job: (job[1], ask(*job)), jobs))
    cosigned = [request.checkpoint.text for request, reply in replies if reply.status == 200]
    assert len(cosigned) == 1
    held = made[0].heads.read(ORIGIN)
    assert held is not None
    assert held.text == cosigned[0]


def test_a_killed_witness_never_forgets_what_it_signed(tmp_path: Path) -> None:
    """Killed with SIGKILL right after each cosignature: the head is on the disk."""
    program = """
import os, signal, sys
from pathlib import Path
from tests.fakes.made_logs import History, witness
from presspool.common.transparency.witness import Heads
size = int(sys.argv[2])
log = History(b"entry %d" % i for i in range(12))
reply = witness(1, Heads(Path(sys.argv[1]))).add_checkpoint(log.request(size - 1, size).encode())
sys.stdout.buffer.write(b"%d" % reply.status)
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    for size in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(size)],
            cwd=REPOSITORY,
            env={"PYTHONPATH": "src:."},
            capture_output=True,
        )
        assert (done.returncode, done.stdout) == (-9, b"200"), done.stderr
        assert Heads(tmp_path).read(ORIGIN) == TRUNK.head(size)


def test_keys_that_cannot_witness() -> None:
    twin = notes.Signer.generate(ORIGIN, kind=notes.NOTE)
    for signer, logs in (
        (LOG, [LOG.key]),
        (peer(1), [peer(2).key]),
        (peer(1), [LOG.key, twin.key]),
    ):
        with pytest.raises(LedgerError, match="keys of a witness"):
            Witness(signer, logs=logs, heads=MemoryHeads())


def test_an_empty_log_has_the_empty_root_only() -> None:
    assert ask(at(0), TRUNK.request(0, 0)).status == 200
    text = Checkpoint(origin=ORIGIN, size=0, root=merkle.leaf_hash(b"")).text
    note = notes.Note(text=text).signed(LOG.sign(text))
    assert ask(at(0), Request(old=0, proof=(), checkpoint=note)).status == 422


def test_a_kept_head_s_file_says_of_whose_log_it_is(tmp_path: Path) -> None:
    made = Heads(tmp_path)
    head = TRUNK.request(0, 3).checkpoint
    for origin in ("presspool/daily-bugle", "presspool-daily/bugle", "../x", "Ä"):
        made.store(origin, head)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition(".")[0] for name in names] == [
        "log",
        "presspool-daily-bugle",
        "presspool-daily-bugle",
        "x",
    ]
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_a_head_that_an_older_version_kept_is_found_again(tmp_path: Path) -> None:
    made = Heads(tmp_path)
    head = TRUNK.request(0, 3).checkpoint
    old = tmp_path / f"{hashlib.sha256(ORIGIN.encode()).hexdigest()}.checkpoint"
    old.write_bytes(head.encode())
    assert made.read(ORIGIN) == head
    assert not old.exists()
    made.forget(ORIGIN)
    assert made.read(ORIGIN) is None
