"""Signed notes: the format's published examples, and everything that must be refused."""

from __future__ import annotations

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency.notes import (
    COSIGNATURE,
    LARGEST_NOTE,
    LATEST_TIME,
    NOTE,
    Note,
    Signature,
    Signer,
    VerifierKey,
    parse_key,
    parse_note,
    verified,
)

# The example of C2SP signed-note.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2"
    "ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# The example of golang.org/x/mod/sumdb/note, where the format began.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your "
    "problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ"
    "SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
TEXT = "first line\n\nsecond paragraph\n"
OUTLET = Signer.load("example.org/outlet", bytes(32), kind=NOTE)
WITNESS = Signer.load("example.org/peer", b"w" * 32, kind=COSIGNATURE)
SIGNED = Note(text=TEXT).signed(OUTLET.sign(TEXT), WITNESS.sign(TEXT, time=1_679_315_147))
KEYS = [OUTLET.key, WITNESS.key]


@pytest.mark.parametrize(("key", "data"), [(SPEC_KEY, SPEC_NOTE), (GO_KEY, GO_NOTE)])
def test_published_examples_verify(key: str, data: bytes) -> None:
    note = parse_note(data)
    assert parse_key(key).text == key
    assert note.encode() == data
    assert len(verified(note, [parse_key(key)])) == 1


def test_a_published_example_with_one_more_word_does_not_verify() -> None:
    with pytest.raises(EvidenceError, match="does not verify"):
        verified(parse_note(SPEC_NOTE.replace(b"an example", b"another")), [parse_key(SPEC_KEY)])


def test_a_round_trip_keeps_every_byte_and_both_signatures() -> None:
    note = parse_note(SIGNED.encode())
    assert note == SIGNED
    assert note.text == TEXT
    assert [s.name for s in verified(note, KEYS)] == ["example.org/outlet", "example.org/peer"]


def test_a_cosignature_is_over_header_time_and_text() -> None:
    signature = SIGNED.signatures[1]
    message = b"cosignature/v1\ntime 1679315147\n" + TEXT.encode()
    Ed25519PublicKey.from_public_bytes(WITNESS.key.public).verify(signature.value[8:], message)
    assert signature.time == 1_679_315_147 == int.from_bytes(signature.value[:8], "big")


def test_a_cosignatures_time_cannot_be_changed() -> None:
    signature = SIGNED.signatures[1]
    later = (signature.time + 1).to_bytes(8) + signature.value[8:]
    moved = Signature(name=signature.name, key_id=signature.key_id, value=later)
    with pytest.raises(EvidenceError, match="does not verify"):
        verified(Note(text=TEXT, signatures=(moved,)), KEYS)


@pytest.mark.parametrize("place", range(len(SIGNED.encode())))
def test_every_changed_byte_is_found_by_who_knows_both_keys(place: int) -> None:
    data = bytearray(SIGNED.encode())
    data[place] ^= 0x01
    try:
        found = verified(parse_note(bytes(data)), KEYS)
    except EvidenceError:
        return
    assert len(found) < 2, "a changed note still has both signatures"


def test_unknown_keys_are_ignored_and_known_bad_signatures_are_not() -> None:
    assert [s.name for s in verified(SIGNED, [OUTLET.key])] == ["example.org/outlet"]
    stranger = VerifierKey(name="example.org/outlet", kind=NOTE, public=WITNESS.key.public)
    with pytest.raises(EvidenceError, match="a signature of one of: example"):
        verified(SIGNED, [stranger])
    forged = Signature(name=OUTLET.key.name, key_id=OUTLET.key.id, value=bytes(64))
    with pytest.raises(EvidenceError, match="does not verify"):
        verified(SIGNED.signed(forged), KEYS)


def test_a_note_that_nobody_signed_is_not_believed() -> None:
    with pytest.raises(EvidenceError, match="nobody"):
        verified(Note(text=TEXT), KEYS)


def test_one_seed_has_other_ids_for_other_kinds_and_names() -> None:
    ids = {
        Signer.load(name, bytes(32), kind=kind).key.id
        for name in ("a", "b")
        for kind in (NOTE, COSIGNATURE)
    }
    assert len(ids) == 4


def test_a_signature_of_one_kind_is_none_of_the_other() -> None:
    twin = Signer.load("example.org/peer", b"w" * 32, kind=NOTE).key
    with pytest.raises(EvidenceError, match="a signature of one of"):
        verified(Note(text=TEXT, signatures=(SIGNED.signatures[1],)), [twin])


def test_a_repeated_signature_is_kept_once() -> None:
    assert SIGNED.signed(OUTLET.sign(TEXT)) == SIGNED


def test_a_key_never_prints_its_secret() -> None:
    secret = Signer.load("a", b"secret" + bytes(26), kind=NOTE)
    assert "secret" not in repr(secret) + str(secret)


def test_times_belong_to_cosigning_keys_only() -> None:
    for signer, time in ((OUTLET, 5), (WITNESS, None)):
        with pytest.raises(EvidenceError, match="cosigning keys"):
            signer.sign(TEXT, time=time)
    with pytest.raises(EvidenceError, match="cosignature time"):
        WITNESS.sign(TEXT, time=LATEST_TIME + 1)


def line(name: str = "a", value: str = "AAAAAAAA") -> bytes:
    return f"— {name} {value}\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n" + line(),
        b"text\n\n" + line()[:-1],
        b"text\n\n" + line() + b"\n",
        b"text\n\n" + line() + b"no signature\n",
        b"text\n\n" + line("") + line(),
        b"text\n\n" + line("a+b"),
        b"text\n\n" + line("a b"),
        b"text\n\n" + line("a\u2003b"),
        b"text\n\n" + line("n" * 300),
        b"text\n\n" + line(value="AAAA"),
        b"text\n\n" + line(value="AAAAAAA"),
        b"text\n\n" + line(value="AAAAAAB="),
        b"text\n\n" + line().replace("—".encode(), b"-"),
        b"te\rxt\n\n" + line(),
        b"te\x00xt\n\n" + line(),
        b"te\xffxt\n\n" + line(),
        b"text\n\n" + line() * 65,
        b"t\n" * 1100 + b"\n" + line(),
        b"t" * LARGEST_NOTE + b"\n\n" + line(),
    ],
)
def test_what_is_not_a_note_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_note(data)


def test_sixteen_signatures_of_five_kilobytes_are_accepted() -> None:
    large = base64.b64encode(bytes(5000)).decode()
    assert len(parse_note(b"text\n\n" + line(value=large) * 16).signatures) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        SPEC_KEY[:-1],
        SPEC_KEY + "A",
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY.replace("530d903a", "530D903A"),
        SPEC_KEY.replace("example.com/foo", "example.com/bar"),
        SPEC_KEY.replace("example.com/foo", "example.com/\u00a0foo"),
        SPEC_KEY.replace("+Aek", "+Bek"),
        "x" * 600 + SPEC_KEY,
        "a+00000000+AQ==",
        "a+00000000+é===",
    ],
)
def test_what_is_not_a_key_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_key(text)


def test_a_point_that_is_no_public_key_verifies_nothing() -> None:
    public = b"\xff" * 32
    key = VerifierKey(name="a", kind=NOTE, public=public)
    with pytest.raises(EvidenceError, match="does not verify"):
        verified(
            Note(text=TEXT, signatures=(Signature(name="a", key_id=key.id, value=bytes(64)),)),
            [key],
        )


def test_a_signature_of_the_wrong_length_is_refused() -> None:
    short = Signature(name=OUTLET.key.name, key_id=OUTLET.key.id, value=bytes(63))
    with pytest.raises(EvidenceError, match="64 bytes"):
        verified(Note(text=TEXT, signatures=(short,)), KEYS)


@pytest.mark.parametrize("text", ["no newline", "a\tb\n", ""])
def test_texts_that_cannot_be_notes(text: str) -> None:
    with pytest.raises(EvidenceError):
        Note(text=text)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_back_the_same(data: bytes) -> None:
    try:
        note = parse_note(data)
    except EvidenceError:
        return
    assert note.encode() == data


@given(st.integers(0, len(SPEC_NOTE)), st.integers(0, 8), st.binary(max_size=8))
def test_edited_notes_never_crash_and_never_verify(at: int, cut: int, put: bytes) -> None:
    edited = SPEC_NOTE[:at] + put + SPEC_NOTE[at + cut :]
    if edited == SPEC_NOTE:
        return
    with pytest.raises(EvidenceError):
        verified(parse_note(edited), [parse_key(SPEC_KEY)])


@given(st.text(max_size=80))
def test_arbitrary_keys_are_refused_or_read_back_the_same(text: str) -> None:
    with contextlib.suppress(EvidenceError):
        assert parse_key(text).text == text
