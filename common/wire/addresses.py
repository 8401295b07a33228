r"""Where a pool is dialled after it has moved: a statement that its contract key signed.

Two lines: canonical JSON and the signature in hexadecimal. Who holds an older statement takes a
later one only. A false address gains nothing but a failed connection: the certificate that answers
there has to be the pool's root's, for that very name.

Example:
    >>> key = SigningKey(bytes(32))
    >>> said = Addresses(root="0" * 64, moves=1, addresses=("new.example.org:7443", "old:7443"))
    >>> Addresses.open(said.signed(key), root="0" * 64, key=key.public) == said
    True
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.pki.keys import SigningKey, verify
from presspool.common.pki.tls import split_address

TAG: Final = "presspool/addresses/v1"
MOST_ADDRESSES = 8
LARGEST = 1 << 14  # bytes


class Addresses(BaseModel):
    """A statement.

    Attributes:
        root: sha256 of the pool's root certificate (DER), hexadecimal.
        moves: a larger one is later; 0 would be a pool that never moved.
        addresses: "HOST:PORT" each, to be tried in this order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["presspool-addresses/1"] = "presspool-addresses/1"
    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
    moves: Annotated[int, Field(ge=1, lt=2**40)]
    addresses: Annotated[
        tuple[Annotated[str, Field(max_length=300)], ...],
        Field(min_length=1, max_length=MOST_ADDRESSES),
    ]

    def signed(self, key: SigningKey) -> bytes:
        """The statement as it travels."""
        body = rfc8785.dumps(self.model_dump(mode="json"))
        return body + b"\n" + key.sign(TAG, body).hex().encode() + b"\n"

    @classmethod
    def open(cls, data: bytes, *, root: str, key: bytes) -> Self:
        """The statement of a pool's root and contract key.

        Raises:
            EvidenceError: it is none, or another pool's.
        """
        body, _, line = data[:LARGEST].partition(b"\n")
        try:
            verify(key, TAG, body, bytes.fromhex(line.decode()))
            found = cls.model_validate(json.loads(body))
            for address in found.addresses:
                split_address(address, where="addresses")
        except (ValueError, ValidationError, InputError, RecursionError):
            raise EvidenceError("not a statement of where the pool is") from None
        if found.root != root:
            raise EvidenceError("a statement of another pool", expected=root, got=found.root)
        return found
