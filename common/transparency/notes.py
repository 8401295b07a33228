r"""Signed notes: text with Ed25519 signature lines, and the keys that make and check them.

A note is text ending in a newline, an empty line, then lines "— name base64(key id ‖ signature)".
Two kinds of key are known: `NOTE` signs the text itself (a log signs its checkpoints so), and
`COSIGNATURE` signs a time with it (a witness cosigns checkpoints so).

Invariants:
    * Parsers cap bytes and lines and raise `EvidenceError` on any bytes that are not a note.
    * One note has one encoding: `parse_note(data).encode() == data`, base64 padding bits included.
    * Nothing is believed before a known key verified it. A bad signature by a known key spoils
      the whole note; signatures of unknown keys are ignored, as rotation and witnesses need.

Source: C2SP signed-note v1.0.0; cosignature/v1 of C2SP tlog-cosignature v1.

Example:
    >>> signer = Signer.generate("example.org/outlet", kind=NOTE)
    >>> note = Note(text="An entry\n").signed(signer.sign("An entry\n"))
    >>> [s.name for s in verified(parse_note(note.encode()), [parse_key(signer.key.text)])]
    ['example.org/outlet']
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from presspool.common.base.errors import EvidenceError

NOTE = 0x01  # Ed25519 over the text
COSIGNATURE = 0x04  # timestamped Ed25519 over a checkpoint
KINDS = (NOTE, COSIGNATURE)
# The format asks for 16 signatures of nearly 5 kB (other notes may carry post-quantum ones).
LARGEST_NOTE = 1 << 17
MOST_LINES = 1024
MOST_SIGNATURES = 64
LONGEST_NAME = 255
LATEST_TIME = 2**63 - 1
_SIGNATURE_LINE = re.compile("— ([^ ]+) ([A-Za-z0-9+/]+={0,2})")
_KEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, kw_only=True)
class VerifierKey:
    """A name and a public key that may sign notes in its name.

    Attributes:
        name: whose key; no white space, no plus sign.
        kind: `NOTE` or `COSIGNATURE`.
        public: the 32 bytes of an Ed25519 public key (RFC 8032).

    Raises:
        EvidenceError: a name that the format forbids, or another kind or length of key.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in KINDS:
            raise EvidenceError(
                "kind of key", expected="1 (Ed25519) or 4 (cosignature)", got=self.kind
            )
        if len(self.public) != 32:
            raise EvidenceError("public key", expected="32 bytes", got=f"{len(self.public)} bytes")

    @property
    def id(self) -> bytes:
        """The first 4 bytes of SHA-256(name ‖ newline ‖ kind ‖ public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._material()).digest()[:4]

    @property
    def text(self) -> str:
        """The key as one word: name+hex(id)+base64(kind ‖ public key)."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(self._material()).decode()}"

    def _material(self) -> bytes:
        return bytes([self.kind]) + self.public


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature line: a claim until `verified`.

    Attributes:
        name: of the key.
        key_id: 4 bytes.
        value: 64 bytes for a `NOTE` key, 8 bytes of time before them for a `COSIGNATURE` key.
    """

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line without its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.value).decode()}"

    @property
    def time(self) -> int:
        """POSIX seconds of a cosignature."""
        return int.from_bytes(self.value[:8])


@dataclass(frozen=True, kw_only=True)
class Note:
    """A text and its signature lines, none of them verified.

    Raises:
        EvidenceError: a text that cannot be a note's.
    """

    text: str
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.endswith("\n"):
            raise EvidenceError("note", expected="a text that ends in a newline")
        if any(c < " " and c != "\n" for c in self.text):
            raise EvidenceError("note", expected="no control characters but newlines")

    def signed(self, *signatures: Signature) -> Note:
        """This note with more signature lines; one already there is not repeated."""
        fresh = [s for s in signatures if s not in self.signatures]
        return replace(self, signatures=(*self.signatures, *fresh))

    def encode(self) -> bytes:
        """The note as UTF-8."""
        lines = "".join(s.line + "\n" for s in self.signatures)
        return f"{self.text}\n{lines}".encode()


@dataclass(frozen=True, kw_only=True)
class Signer:
    """A private key with the name it signs for; never printed.

    Attributes:
        key: its public half.
    """

    key: VerifierKey
    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str, *, kind: int) -> Signer:
        """A new key from the system's generator."""
        return cls.load(name, Ed25519PrivateKey.generate().private_bytes_raw(), kind=kind)

    @classmethod
    def load(cls, name: str, seed: bytes, *, kind: int) -> Signer:
        """The key of 32 secret bytes.

        A cosigning key must not be shared between names: its message does not hold the name.
        """
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes_raw()
        return cls(key=VerifierKey(name=name, kind=kind, public=public), _private=private)

    def __repr__(self) -> str:
        return f"Signer({self.key.text})"

    def sign(self, text: str, *, time: int | None = None) -> Signature:
        """Sign a note's text; a cosigning key needs the time (POSIX seconds), the other none."""
        if (time is None) != (self.key.kind == NOTE):
            raise EvidenceError("a time is signed by cosigning keys, and by no others")
        if time is None:
            stamp, message = b"", text.encode()
        else:
            message = cosignature_message(text, time)
            stamp = time.to_bytes(8)
        value = stamp + self._private.sign(message)
        return Signature(name=self.key.name, key_id=self.key.id, value=value)


def cosignature_message(text: str, time: int) -> bytes:
    """What a cosigner signs: a header line, a time line and the checkpoint's whole text.

    Raises:
        EvidenceError: a time that the format cannot hold.
    """
    if not 0 <= time <= LATEST_TIME:
        raise EvidenceError("cosignature time", expected=f"0 to {LATEST_TIME}", got=time)
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def verified(note: Note, keys: Iterable[VerifierKey]) -> tuple[Signature, ...]:
    """The note's signatures by known keys, each checked; those of unknown keys are left out.

    Raises:
        EvidenceError: a known key's signature is wrong, or no known key signed.
    """
    known = {(key.name, key.id): key for key in keys}
    found = [s for s in note.signatures if (s.name, s.key_id) in known]
    for signature in found:
        _check(signature, note.text, known[signature.name, signature.key_id])
    if not found:
        raise EvidenceError(
            "note",
            expected="a signature of one of: " + ", ".join(sorted(n for n, _ in known)),
            got="signatures of " + (", ".join(s.name for s in note.signatures) or "nobody"),
        )
    return tuple(found)


def parse_note(data: bytes) -> Note:
    """Read a note; nothing in it is verified yet.

    Raises:
        EvidenceError: not a note, or beyond the caps on bytes, lines and signatures.
    """
    text = decode_text(data, what="note")
    body, separator, tail = text.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise EvidenceError("note", expected="a text, an empty line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise EvidenceError("signatures", expected=f"at most {MOST_SIGNATURES}", got=len(lines))
    return Note(text=body + "\n", signatures=tuple(_parse_signature(line) for line in lines))


def parse_key(text: str) -> VerifierKey:
    """Read a verifier key and check its id.

    Raises:
        EvidenceError: not a key of a known kind, or its id does not belong to it.
    """
    match = _KEY.fullmatch(text)
    if len(text) > 2 * LONGEST_NAME or not match:
        raise EvidenceError("verifier key", expected="name+8 hex digits+base64")
    material = decode_base64(match[3], what="verifier key")
    key = VerifierKey(name=match[1], kind=material[0], public=material[1:])
    if key.id.hex() != match[2]:
        raise EvidenceError("id of verifier key", expected=key.id.hex(), got=match[2])
    return key


def check_name(name: str) -> None:
    """Raise `EvidenceError` unless `name` may name a key."""
    bad = any(c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name)
    if bad or not 0 < len(name) <= LONGEST_NAME:
        raise EvidenceError(
            "key name",
            expected=f"1 to {LONGEST_NAME} characters without spaces or '+'",
            got=ascii(name),
        )


def decode_text(data: bytes, *, what: str) -> str:
    """The UTF-8 text of evidence within the caps, without control characters.

    Raises:
        EvidenceError: too long, too many lines, or not such a text.
    """
    if len(data) > LARGEST_NOTE or data.count(b"\n") > MOST_LINES:
        raise EvidenceError(what, expected=f"at most {LARGEST_NOTE} bytes and {MOST_LINES} lines")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise EvidenceError(what, expected="UTF-8") from None
    if any(c < " " and c != "\n" for c in text):
        raise EvidenceError(what, expected="no control characters but newlines")
    return text


def decode_base64(text: str, *, what: str) -> bytes:
    """Standard base64 with padding, in its one canonical spelling.

    Raises:
        EvidenceError: anything else.
    """
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters outside ASCII
        raise EvidenceError(what, expected="base64") from None
    if not value or base64.b64encode(value).decode() != text:
        raise EvidenceError(what, expected="base64 in canonical spelling")
    return value


def _parse_signature(line: str) -> Signature:
    match = _SIGNATURE_LINE.fullmatch(line)
    if not match:
        raise EvidenceError("signature line", expected="— name base64", got=ascii(line[:80]))
    check_name(match[1])
    value = decode_base64(match[2], what="signature")
    if len(value) < 5:
        raise EvidenceError("signature", expected="a key id of 4 bytes and a signature")
    return Signature(name=match[1], key_id=value[:4], value=value[4:])


def _check(signature: Signature, text: str, key: VerifierKey) -> None:
    stamp = 8 if key.kind == COSIGNATURE else 0
    if len(signature.value) != stamp + 64:
        raise EvidenceError("signature", where=key.name, expected=f"{stamp + 64} bytes")
    message = cosignature_message(text, signature.time) if stamp else text.encode()
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature.value[stamp:], message)
    except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no public key
        raise EvidenceError("signature does not verify", where=key.name) from None
