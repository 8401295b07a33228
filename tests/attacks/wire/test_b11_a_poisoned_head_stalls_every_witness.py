"""B.11: one member's ledger head of nearly a note's largest size stalled every peer's witness.

The request that carries such a head is larger than a request may be, so each witness's turn ended
in an error, for good. Now heads are capped far below a request, each request is handled on its own,
a head that an older version took is skipped by name, and no duty of a witness hangs on another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.made_witnesses import Outlet, WitnessPool, entry, eventually, witness_pool

from presspool.common.base.errors import AdmissionError
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint

EXTENSIONS = tuple("x" * 200 for _ in range(640))  # with the rest just below a note's 128 KiB


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[WitnessPool]:
    with witness_pool(tmp_path, 3) as pool:
        yield pool


def _poison(outlet: Outlet) -> tuple[list[bytes], notes.Note]:
    """The leaves of an outlet's ledger and its head with lines that nobody needs."""
    with Ledger(outlet.ledger) as ledger:
        size = ledger.book.size
        leaves = [merkle.leaf_hash(body) for body in ledger.bodies(0, size)]
        root = ledger.root(size)
    signer = outlet.identity.log
    head = Checkpoint(origin=signer.key.name, size=size, root=root, extensions=EXTENSIONS)
    note = notes.Note(text=head.text).signed(signer.sign(head.text))
    assert len(note.encode()) < notes.LARGEST_NOTE
    return leaves, note


def _publish(outlet: Outlet) -> None:
    leaves, note = _poison(outlet)
    link = outlet.link()
    try:
        link.publish(start=0, leaves=leaves, note=note)
    finally:
        link.close()


def _goes_on(pool: WitnessPool) -> None:
    """A round is witnessed, and the honest outlets' own ledgers are."""
    pool.service.commit(entry(0))
    pool.start()
    assert pool.outlets[0].settled(1) == "trained"
    assert pool.outlets[1].settled(1) == "trained"
    for mine, other in ((0, 1), (1, 0)):
        own, peer = (pool.outlets[number].identity for number in (mine, other))
        eventually(
            lambda own=own, peer=peer: pool.service._cosignatures.has(  # type: ignore[misc]
                own.log.key, pool.service._heads.size(own.log.key), peer.witness.key
            )
        )


def test_b11_a_head_beyond_the_cap_is_refused_and_the_round_is_witnessed(
    pool: WitnessPool,
) -> None:
    with pytest.raises(AdmissionError, match="malformed"):
        _publish(pool.outlets[2])
    _goes_on(pool)


def test_b11_a_head_that_an_older_version_took_stalls_nobody(
    pool: WitnessPool, caplog: pytest.LogCaptureFixture
) -> None:
    leaves, note = _poison(pool.outlets[2])
    pool.service._heads._store(pool.outlets[2].identity.log.key, 0, leaves, note)
    with caplog.at_level(logging.ERROR):
        _goes_on(pool)
    assert "presspool/outlet-2" in caplog.text


def test_b11_a_coordinator_that_passes_it_on_stalls_nobody(
    pool: WitnessPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a coordinator of before would: the poisoned request comes first, each time."""
    old, _, note = b"old 0\n", *_poison(pool.outlets[2])
    poisoned = old + b"\n" + note.encode()
    poisoned += b"x" * (notes.LARGEST_NOTE - len(poisoned) + 1)
    requests = pool.service._requests
    monkeypatch.setattr(
        pool.service, "_requests", lambda own, held: [poisoned, b"\xff", *requests(own, held)]
    )
    with caplog.at_level(logging.ERROR):
        _goes_on(pool)
    assert "presspool/outlet-2" in caplog.text


def test_b11_a_damaged_head_of_one_peer_leaves_the_others(
    pool: WitnessPool, caplog: pytest.LogCaptureFixture
) -> None:
    for outlet in pool.outlets[:2]:
        heads = outlet.folder.heads
        heads._file("presspool/outlet-2", "checkpoint").write_bytes(b"no head")
    with caplog.at_level(logging.ERROR):
        _goes_on(pool)
    assert "presspool/outlet-2" in caplog.text
