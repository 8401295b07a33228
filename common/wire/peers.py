"""Who witnesses whom: the names and keys under which an outlet signs and cosigns heads.

Two outlets' operators compare one fingerprint, by telephone or in person, before either counts the
other's cosignatures. It covers the outlet's name, its witness key and its ledger's key: 80 bits, so
that nobody in between can make other keys with the same one.

Example:
    >>> keys = PeerKeys.made("daily-bugle", witness=b"w" * 32, log=b"l" * 32)
    >>> keys.witness.name, keys.fingerprint
    ('presspool/daily-bugle', 'DP4C-XXXI-7IDY-WCWH')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import rfc8785

from presspool.common.base.errors import EvidenceError
from presspool.common.pki.keys import fingerprint
from presspool.common.transparency import notes


def origin_of(outlet: str) -> str:
    """The name of an outlet's ledger and of its witness."""
    return f"presspool/{outlet}"


@dataclass(frozen=True, kw_only=True)
class PeerKeys:
    """An outlet's public keys for heads.

    Attributes:
        outlet: as the pool calls it.
        witness: cosigns other logs' heads.
        log: signs the heads of its own ledger.

    Raises:
        EvidenceError: keys of another name or kind.
    """

    outlet: str
    witness: notes.VerifierKey
    log: notes.VerifierKey

    def __post_init__(self) -> None:
        kinds = ((self.witness, notes.COSIGNATURE), (self.log, notes.NOTE))
        for key, kind in kinds:
            if (key.name, key.kind) != (origin_of(self.outlet), kind):
                raise EvidenceError(
                    "key of a peer",
                    where=ascii(self.outlet),
                    got=key.text,
                    expected=f"kind {kind}, {origin_of(self.outlet)}",
                )

    @classmethod
    def made(cls, outlet: str, *, witness: bytes, log: bytes) -> Self:
        """The keys of an outlet from their 32 bytes each."""
        name = origin_of(outlet)
        return cls(
            outlet=outlet,
            witness=notes.VerifierKey(name=name, kind=notes.COSIGNATURE, public=witness),
            log=notes.VerifierKey(name=name, kind=notes.NOTE, public=log),
        )

    @classmethod
    def parse(cls, outlet: str, *, witness: str, log: str) -> Self:
        """The keys from their texts; raises `EvidenceError` where they are none."""
        return cls(outlet=outlet, witness=notes.parse_key(witness), log=notes.parse_key(log))

    @property
    def fingerprint(self) -> str:
        """What two outlets' operators compare."""
        body = {"outlet": self.outlet, "witness": self.witness.text, "log": self.log.text}
        return fingerprint("presspool/peer/v1", rfc8785.dumps(body))
