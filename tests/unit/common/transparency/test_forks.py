"""Fork proofs: what convicts a log convicts it before everybody, and nothing else does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_logs import LOG, History, peer

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import notes
from presspool.common.transparency.forks import LARGEST_PROOF, fork_proof, verify_fork

ONE = History([b"a", b"b"])
TWO = History([b"a", b"c"])
PROOF = fork_proof(ONE.head(), TWO.head(), log=LOG.key)


def test_two_heads_of_one_size_convict_their_signer() -> None:
    first, second = verify_fork(PROOF, log=LOG.key)
    assert {first.text, second.text} == {ONE.head().text, TWO.head().text}


def test_equal_evidence_has_equal_bytes() -> None:
    cosigned = ONE.head().signed(peer(1).sign(ONE.head().text, time=5))
    assert fork_proof(TWO.head(), cosigned, log=LOG.key) == PROOF


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1), (1, 1)])
def test_heads_that_one_log_may_have_convict_nobody(sizes: tuple[int, int]) -> None:
    with pytest.raises(EvidenceError, match="do not contradict"):
        fork_proof(ONE.head(sizes[0]), TWO.head(sizes[1]), log=LOG.key)
    with pytest.raises(EvidenceError, match="do not contradict"):
        fork_proof(ONE.head(), ONE.head(), log=LOG.key)


def test_who_did_not_sign_is_not_convicted() -> None:
    impostor = notes.Signer.generate(LOG.key.name, kind=notes.NOTE)
    forged = History([b"a", b"c"], impostor).head()
    with pytest.raises(EvidenceError):
        fork_proof(ONE.head(), forged, log=LOG.key)
    with pytest.raises(EvidenceError):
        verify_fork(PROOF, log=impostor.key)
    document = {**json.loads(PROOF), "second": forged.encode().decode()}
    with pytest.raises(EvidenceError):
        verify_fork(
            json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n",
            log=LOG.key,
        )


def test_every_changed_bit_is_found() -> None:
    for place in range(len(PROOF)):
        for bit in range(8):
            changed = bytearray(PROOF)
            changed[place] ^= 1 << bit
            with pytest.raises(EvidenceError):
                verify_fork(bytes(changed), log=LOG.key)
        with pytest.raises(EvidenceError):
            verify_fork(PROOF[:place], log=LOG.key)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_proof(data: bytes) -> None:
    for text in (data, PROOF + data[:1] + b" ", PROOF[:40] + data + PROOF[60:]):
        with pytest.raises(EvidenceError):
            verify_fork(text, log=LOG.key)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b" " * (LARGEST_PROOF + 1),
        b"{}",
        b"null",
        b'{"first":1,"format":"presspool-fork-proof/1","second":"x"}\n',
        b'{"first":"\\ud800","format":"presspool-fork-proof/1","second":"\\ud800"}\n',
        PROOF.replace(b"proof/1", b"proof/2"),
    ],
)
def test_what_is_not_a_fork_proof(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        verify_fork(data, log=LOG.key)
