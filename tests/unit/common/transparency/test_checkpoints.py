"""Checkpoints and offline proofs: the format's examples, and what must be refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency.checkpoints import (
    Checkpoint,
    Proof,
    open_checkpoint,
    parse_proof,
)
from presspool.common.transparency.merkle import inclusion_proof, leaf_hash, new_nodes, root
from presspool.common.transparency.notes import COSIGNATURE, NOTE, Note, Signer, parse_note

# The example of C2SP tlog-cosignature: a checkpoint with one cosignature.
SPEC = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGz\
Gku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin\
1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""
LOG = Signer.load("example.org/outlet", bytes(32), kind=NOTE)
PEERS = [
    Signer.load(f"example.org/peer{i}", bytes([i]) * 32, kind=COSIGNATURE) for i in range(1, 4)
]
NODES: dict[tuple[int, int], bytes] = {}


def read(level: int, position: int) -> bytes:
    return NODES[level, position]


for _size in range(11):
    NODES.update(new_nodes(_size, leaf_hash(b"entry %d" % _size), read))


HEAD = Checkpoint(origin="example.org/outlet", size=11, root=root(11, read))
SIGNED = Note(text=HEAD.text).signed(
    LOG.sign(HEAD.text), *(peer.sign(HEAD.text, time=1_800_000_000) for peer in PEERS)
)
PROOF = Proof(index=6, hashes=inclusion_proof(6, 11, read), checkpoint=SIGNED, extra=b"context")
LEAF = leaf_hash(b"entry 6")


def test_the_published_checkpoint_is_read_exactly() -> None:
    note = parse_note(SPEC.encode())
    checkpoint = Checkpoint.parse(note.text)
    assert note.encode() == SPEC.encode()
    assert checkpoint.text == note.text
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert note.signatures[1].time == 1679315147  # the time of the specification's message


def test_a_proof_holds_offline_and_names_the_witnesses() -> None:
    proof = parse_proof(PROOF.encode())
    assert proof == PROOF
    assert proof.encode() == PROOF.encode()
    known = [peer.key for peer in PEERS[:2]]
    assert proof.verify(LEAF, log=LOG.key, witnesses=known) == {peer.key.name for peer in PEERS[:2]}


def test_a_proof_without_extra_data_has_no_extra_line() -> None:
    plain = replace(PROOF, extra=b"")
    assert b"extra" not in plain.encode()
    assert parse_proof(plain.encode()) == plain


def test_a_proof_holds_for_its_own_entry_only() -> None:
    for wrong in (replace(PROOF, index=5), replace(PROOF, hashes=PROOF.hashes[1:])):
        with pytest.raises(EvidenceError):
            wrong.verify(LEAF, log=LOG.key)
    with pytest.raises(EvidenceError, match="inclusion proof"):
        PROOF.verify(leaf_hash(b"entry 7"), log=LOG.key)


def test_witnesses_alone_do_not_make_a_checkpoint() -> None:
    unsigned = Note(text=HEAD.text, signatures=SIGNED.signatures[1:])
    with pytest.raises(EvidenceError, match="a signature of example"):
        open_checkpoint(unsigned, log=LOG.key, witnesses=[peer.key for peer in PEERS])


def test_a_log_cannot_sign_for_another_origin() -> None:
    other = replace(HEAD, origin="example.org/other")
    note = Note(text=other.text).signed(LOG.sign(other.text))
    with pytest.raises(EvidenceError, match="origin of checkpoint"):
        open_checkpoint(note, log=LOG.key)


def test_extension_lines_are_signed_and_kept() -> None:
    longer = replace(HEAD, extensions=("more", "lines"))
    note = Note(text=longer.text).signed(LOG.sign(longer.text))
    assert open_checkpoint(parse_note(note.encode()), log=LOG.key) == (longer, frozenset())


ROOT = SPEC.split("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        "o\n1\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n1 \n{ROOT}\n",
        f"o\n١\n{ROOT}\n",
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        "o\n1\nAAAA\n",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n{ROOT}\n\nx\n",
        f"o\n1_0\n{ROOT}\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 6", b"index 06"),
        (b"index 6", b"index"),
        (b"index 6\n", b""),
        (b"extra ", b"extra  "),
        (b"extra Y", b"extra !"),
        (b"index 6\n", b"index 6\nAAAA\n"),
        (b"index 6\n", b"index 6\n" + b"AAAA\n" * 80),
        (b"\n\n", b"\n"),
        (b"index 6\n", b"index 6\nindex 6\n"),
        (b"extra Y29udGV4dA==", b"extra "),
    ],
)
def test_what_is_not_a_proof_is_refused(old: bytes, new: bytes) -> None:
    data = PROOF.encode().replace(old, new, 1)
    assert data != PROOF.encode()
    with pytest.raises(EvidenceError):
        parse_proof(data)


@given(st.data())
def test_edited_proofs_never_crash_and_never_change_meaning(data: st.DataObject) -> None:
    whole = PROOF.encode()
    at, cut = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 4))
    edited = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + cut :]
    witnesses = [peer.key for peer in PEERS]
    try:
        proof = parse_proof(edited)
        seen = proof.verify(LEAF, log=LOG.key, witnesses=witnesses)
    except EvidenceError:
        return
    # What nobody signed may change: the extra bytes, and lines by keys that nobody knows.
    assert (proof.index, proof.hashes, proof.checkpoint.text) == (6, PROOF.hashes, HEAD.text)
    assert seen <= {peer.key.name for peer in PEERS}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_proof(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_proof(b"c2sp.org/tlog-proof@v1\nindex 0\n" + data[: len(data) // 2])
    with pytest.raises(EvidenceError):
        parse_proof(data)


@given(st.text(max_size=120))
def test_arbitrary_text_is_refused_or_read_back_the_same(text: str) -> None:
    with contextlib.suppress(EvidenceError):
        assert Checkpoint.parse(text).text == text


def test_a_root_of_another_length_is_refused() -> None:
    with pytest.raises(EvidenceError, match="root hash"):
        Checkpoint(origin="o", size=0, root=b"short")


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_the_format_cannot_hold_is_refused(size: int) -> None:
    with pytest.raises(EvidenceError, match="tree size"):
        Checkpoint(origin="o", size=size, root=bytes(32))
