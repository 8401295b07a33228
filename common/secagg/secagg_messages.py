"""The messages of a secure sum: plain frozen values, each with exactly one form in bytes.

Bytes are a tag with the kind and version, then the fields in the order in which they are written
here: whole numbers in 4 bytes, big-endian; text and bytes behind their length; names with bytes
behind their count, in ascending order.

Invariants:
    * `from_bytes(m.to_bytes()) == m`, and no other bytes are taken for `m`.
    * Who sent a message does not stand in it: that is said by the certificate of the connection.
    * A message's `repr` says its kind, round and attempt. What it carries is never printed.

Example:
    >>> masked = MaskedInput(context=bytes(32), round=2, attempt=1, values=b"....")
    >>> masked, MaskedInput.from_bytes(masked.to_bytes(), most=200) == masked
    (MaskedInput(round=2, attempt=1), True)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from presspool.common.base.errors import EvidenceError

Named = tuple[tuple[str, bytes], ...]
"""Names with bytes, in ascending order of the names."""
Octets = bytes | memoryview
"""A vector's bytes, which are not copied when they are read."""

CONSENT_TAG = "presspool/secagg/survivors/v1"
CHECK_BYTES = 32
_NUMBER = 4  # bytes


def named(parts: Mapping[str, bytes]) -> Named:
    """A mapping in the order in which it travels."""
    return tuple(sorted(parts.items()))


def packed(*values: int | str | Octets | Named) -> bytes:
    """The bytes of some fields, one behind the other; what is hashed and signed is built so too."""
    return b"".join(map(_field, values))


def seed_check(context: bytes, round: int, attempt: int, seed: bytes) -> bytes:
    """What is told of a seed of 256 random bits: enough to know it again, and not to find it."""
    fields = packed("presspool/secagg/seed-check/v1", context, round, attempt, seed)
    return hashlib.sha256(fields).digest()


def _field(value: int | str | Octets | Named) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(_NUMBER, "big")
    if isinstance(value, tuple):
        return _field(len(value)) + b"".join(packed(name, part) for name, part in value)
    raw = value.encode() if isinstance(value, str) else value
    return _field(len(raw)) + raw


@dataclass(frozen=True, repr=False)
class SecaggMessage:
    """What all messages have.

    Attributes:
        context: 32 bytes that name the run (`SecaggPlan.context`) or, once the keys are known, the
            run with these keys (`PairKeys.session`).
    """

    context: bytes

    def __repr__(self) -> str:
        shown = (f.name for f in fields(self) if f.type == "int")
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in shown)})"

    @classmethod
    def tag(cls) -> str:
        """What the bytes begin with."""
        return f"presspool/secagg/{cls.__name__}/v1"

    def to_bytes(self) -> bytes:
        """The message as it travels."""
        return packed(self.tag(), *(getattr(self, f.name) for f in fields(self)))

    @classmethod
    def from_bytes(cls, data: bytes, *, most: int) -> Self:
        """The message that has these bytes.

        Args:
            data: what came.
            most: bytes that are read (`SecaggPlan.message_bytes`).

        Raises:
            EvidenceError: longer than that, of another kind, or not in its only form.
        """
        if len(data) > most:
            raise EvidenceError(
                "too long", where=cls.__name__, expected=f"{most} bytes or fewer", got=len(data)
            )
        try:
            reader = _Reader(data)
            if reader.text() != cls.tag():
                raise ValueError("a message of another kind")
            found = cls(**{f.name: reader.field(str(f.type)) for f in fields(cls)})
            if reader.at != len(data):
                raise ValueError("bytes behind the end")
        except ValueError:  # whose words may quote what came
            raise EvidenceError("malformed", where=cls.__name__) from None
        return found


class _Reader:
    """Fields from bytes, one after the other; `ValueError` where there is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = memoryview(data), 0

    def field(self, kind: str) -> Any:
        read = {"int": self.number, "bytes": self.raw, "Octets": self.octets, "Named": self.pairs}
        return read[kind]()

    def number(self) -> int:
        return int.from_bytes(self._take(_NUMBER), "big")

    def octets(self) -> memoryview:
        return self._take(self.number())

    def raw(self) -> bytes:
        return bytes(self.octets())

    def text(self) -> str:
        return self.raw().decode()

    def pairs(self) -> Named:
        found = tuple((self.text(), self.raw()) for _ in range(self.number()))
        if found != named(dict(found)):
            raise ValueError("names twice, or in another order")
        return found

    def _take(self, size: int) -> memoryview:
        taken = self._data[self.at : self.at + size]
        if len(taken) != size:
            raise ValueError("cut off")
        self.at += size
        return taken


@dataclass(frozen=True, repr=False)
class CohortKeys(SecaggMessage):
    """Coordinator to outlets, once a run: whose sums these are, and by which keys they sign.

    Attributes:
        context: digest of the run's contract.
        keys: outlet to public key (Ed25519).
    """

    keys: Named

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of the message."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    def before(self, rest: bytes) -> bytes:
        """These keys and what is kept with them, as one piece."""
        return packed(self.to_bytes()) + rest

    @classmethod
    def apart(cls, kept: bytes) -> tuple[Self, bytes]:
        """Keys and rest of what `before` made; raises `EvidenceError` where it is none."""
        start = _NUMBER + int.from_bytes(kept[:_NUMBER], "big")
        return cls.from_bytes(kept[_NUMBER:start], most=len(kept)), kept[start:]


@dataclass(frozen=True, repr=False)
class KeyAdvert(SecaggMessage):
    """Outlet to coordinator, once a run: its public key (X25519), signed by its own key."""

    key: bytes
    signature: bytes


@dataclass(frozen=True, repr=False)
class Roster(SecaggMessage):
    """Coordinator to outlets, once a run: each outlet's key, with the signature behind it."""

    adverts: Named


@dataclass(frozen=True, repr=False)
class TurnMessage(SecaggMessage):
    """A message of one attempt at one round; both are counted from 1."""

    round: int
    attempt: int


@dataclass(frozen=True, repr=False)
class ShareBundle(TurnMessage):
    """Outlet to coordinator: shares for every other outlet, each sealed for it alone.

    Attributes:
        self_check: SHA-256 over the self-mask's seed, by which false shares of it are found out.
        pair_seeds: the sender's pair seeds of this attempt, sealed under a key that is shared out.
        sealed: recipient to its shares of the self-mask's seed and of that key.
    """

    self_check: bytes
    pair_seeds: bytes
    sealed: Named


@dataclass(frozen=True, repr=False)
class Bundles(TurnMessage):
    """Coordinator to outlets: what everybody in U₁ sealed, of which each takes its own.

    Attributes:
        bundles: outlet to its `ShareBundle`.
    """

    bundles: Named

    def delivery(self, name: str, *, most: int) -> Delivery:
        """What the others sealed for an outlet.

        Args:
            name: the outlet's.
            most: bytes of a bundle that are read (`SecaggPlan.message_bytes`).

        Raises:
            EvidenceError: a bundle is none, or has nothing for it; or it is not in U₁ itself.
        """
        if name not in dict(self.bundles):
            raise EvidenceError("without this outlet", where="Bundles")
        sealed: dict[str, bytes] = {}
        for sender, raw in self.bundles:
            parts = dict(ShareBundle.from_bytes(raw, most=most).sealed)
            if sender != name and name not in parts:
                raise EvidenceError("nothing for this outlet", where=f"ShareBundle of {sender}")
            sealed |= {sender: parts[name]} if sender != name else {}
        return Delivery(self.context, self.round, self.attempt, named(sealed))


@dataclass(frozen=True, repr=False)
class Delivery(TurnMessage):
    """Coordinator to an outlet: what the others sealed for it; their names and its own are U₁."""

    sealed: Named


@dataclass(frozen=True, repr=False)
class MaskedInput(TurnMessage):
    """Outlet to coordinator: y, the masked integers, little-endian."""

    values: Octets


@dataclass(frozen=True, repr=False)
class SurvivorSet(TurnMessage):
    """Coordinator to outlets: U, first without signatures, then with them.

    Attributes:
        survivors: name to signature, or to nothing where that outlet has not signed.
    """

    survivors: Named

    def agreement(self, sharers: Iterable[str]) -> bytes:
        """What is signed of U₁ and U, in this run and attempt."""
        first, second = dict.fromkeys(sharers, b""), dict.fromkeys(dict(self.survivors), b"")
        return packed(self.context, self.round, self.attempt, named(first), named(second))


@dataclass(frozen=True, repr=False)
class Consent(TurnMessage):
    """Outlet to coordinator: its signature on U₁ and U."""

    signature: bytes


@dataclass(frozen=True, repr=False)
class Reveal(TurnMessage):
    """Outlet to coordinator: one share for each outlet of U₁, of one kind or of the other.

    Attributes:
        self_shares: of the seeds of the self-masks of U.
        pair_shares: of the keys to the pair seeds of those in U₁ and not in U.
    """

    self_shares: Named
    pair_shares: Named
