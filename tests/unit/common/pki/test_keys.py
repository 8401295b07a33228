"""Keys sign what they are asked to and nothing else, and stay their owner's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.fakes.instruments.full_disk import full_disk

from presspool.common.base.errors import EvidenceError, InputError, StorageError
from presspool.common.pki.keys import (
    SigningKey,
    fingerprint,
    key_id,
    read_secret,
    same_fingerprint,
    verify,
    write_secret,
)

TAG = "presspool/test/v1"
# RFC 8032, section 7.1, test 2.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


def test_a_public_key_is_the_one_of_the_standard() -> None:
    assert SigningKey(SECRET).public == PUBLIC


@pytest.mark.parametrize(
    ("tag", "body"),
    [("presspool/other/v1", b"body"), (TAG, b"bodx"), (TAG, b""), (TAG + "\0body", b"")],
)
def test_a_signature_is_none_of_another_tag_or_body(tag: str, body: bytes) -> None:
    key = SigningKey.generate()
    signature = key.sign(TAG, b"body")
    verify(key.public, TAG, b"body", signature)
    with pytest.raises(EvidenceError):
        verify(key.public, tag, body, signature)


@pytest.mark.parametrize("bit", [0, 255, 256, 511])
def test_a_flipped_bit_in_a_signature_is_noticed(bit: int) -> None:
    key = SigningKey.generate()
    signature = bytearray(key.sign(TAG, b"body"))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        verify(key.public, TAG, b"body", bytes(signature))


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (b"", bytes(64)),
        (bytes(31), bytes(64)),
        (PUBLIC, b""),
        (PUBLIC, bytes(65)),
        (bytes(32), bytes(64)),
    ],
)
def test_malformed_keys_and_signatures_are_evidence_errors(public: bytes, signature: bytes) -> None:
    with pytest.raises(EvidenceError):
        verify(public, TAG, b"body", signature)


def test_a_key_comes_back_from_its_file_which_only_its_owner_may_read(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.write(tmp_path / "a.key")
    assert SigningKey.read(tmp_path / "a.key") == key
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "a.key"]


def test_a_key_that_others_may_read_is_refused_and_the_cure_named(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    SigningKey.generate().write(path)
    path.chmod(0o640)
    with pytest.raises(InputError, match=f"chmod 600 {path}"):
        SigningKey.read(path)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff\xfe"])
def test_a_file_that_holds_no_key_is_refused_without_showing_it(
    tmp_path: Path, content: bytes
) -> None:
    write_secret(tmp_path / "a.key", content)
    with pytest.raises(InputError, match="not a private key"):
        SigningKey.read(tmp_path / "a.key")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.key"):
        read_secret(tmp_path / "a.key")


def test_printing_a_key_shows_its_id_only() -> None:
    key = SigningKey(SECRET)
    assert repr(key) == f"SigningKey({key_id(PUBLIC)})"
    assert SECRET.hex() not in repr(key)


def test_a_full_disk_leaves_the_old_key(tmp_path: Path) -> None:
    key = SigningKey.generate()
    key.write(tmp_path / "a.key")
    with full_disk(room=10), pytest.raises(StorageError):
        SigningKey.generate().write(tmp_path / "a.key")
    assert SigningKey.read(tmp_path / "a.key") == key


def test_a_fingerprint_is_for_people_to_compare() -> None:
    shown = fingerprint("presspool/test/v1", PUBLIC)
    assert [len(part) for part in shown.split("-")] == [4, 4, 4, 4]
    assert same_fingerprint(shown, shown.lower().replace("-", " "))
    assert not same_fingerprint(shown, fingerprint("presspool/other/v1", PUBLIC))
    assert not same_fingerprint(shown, shown[:-1])
