r"""An invitation's token: one line of text that carries all that an outlet needs to join a pool.

``presspool-invitation-1.BODY.CHECK``: BODY is base64url of canonical JSON, CHECK the first hex
digits of its SHA-256, so that a line that was cut or mistyped is told from a refused one. White
space, as mail programs put into long lines, does not matter.

The token is a secret until it is used, though whoever steals it still joins nothing: the operators
compare a fingerprint of the outlet's keys. What it pins (root, contract key, log key) comes over
the channel that it came over, so that one should be authentic: signed mail, or by hand.

Example: `Token.parse(token.encode()) == token`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.contract.contract_schema import Name
from presspool.common.pki.certificates import (
    Credential,
    certificate_from_der,
    certificate_to_der,
    from_der,
    to_der,
)
from presspool.common.pki.tls import split_address
from presspool.common.transparency.notes import parse_key

PREFIX: Final = "presspool-invitation-1."
LARGEST_TOKEN = 1 << 14  # characters; ours have some 2,500
_CHECK_DIGITS = 12
_ADVICE = "copy the whole line again, or ask the coordinator's operator for a new token"

_Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Base64 = Annotated[str, Field(pattern="^[A-Za-z0-9+/]+={0,2}$", max_length=4096)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1]
    pool: Name
    address: Annotated[str, Field(max_length=300)]
    outlet: Name
    invitation: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    expires: Annotated[int, Field(ge=0, lt=1 << 40)]
    root: _Base64
    contract_key: _Hex
    log_key: Annotated[str, Field(max_length=1024)]
    certificate: _Base64
    key: _Base64


@dataclass(frozen=True, kw_only=True)
class Token:
    """What an invitation says.

    Attributes:
        pool: the pool's name.
        address: where the coordinator is dialled, "HOST:PORT".
        outlet: the name that the invitation is bound to.
        invitation: its id.
        expires: POSIX seconds by which the outlet must have asked.
        root: the pool's root certificate, PEM.
        contract_key: the coordinator's Ed25519 public key for tasks, 32 bytes.
        log_key: verifier key of the coordinator's log (C2SP signed-note).
        credential: the invitation's certificate and key.
    """

    pool: str
    address: str
    outlet: str
    invitation: str
    expires: int
    root: bytes
    contract_key: bytes
    log_key: str
    credential: Credential

    def __repr__(self) -> str:
        return f"Token({self.outlet} at {self.address}, {self.invitation})"

    def encode(self) -> str:
        """The token as one line, without a newline."""
        certificate, key = to_der(self.credential)
        body = rfc8785.dumps(
            {
                "version": 1,
                "pool": self.pool,
                "address": self.address,
                "outlet": self.outlet,
                "invitation": self.invitation,
                "expires": self.expires,
                "root": _base64(certificate_to_der(self.root)),
                "contract_key": self.contract_key.hex(),
                "log_key": self.log_key,
                "certificate": _base64(certificate),
                "key": _base64(key),
            }
        )
        return f"{PREFIX}{base64.urlsafe_b64encode(body).decode()}.{_check(body)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token in a text.

        Raises:
            InputError: it is none, or was cut or changed.
        """
        try:
            found = _Body.model_validate(json.loads(_body(text)))
            split_address(found.address, where="token")
            parse_key(found.log_key)
            return cls(
                pool=found.pool,
                address=found.address,
                outlet=found.outlet,
                invitation=found.invitation,
                expires=found.expires,
                root=certificate_from_der(_bytes(found.root)),
                contract_key=bytes.fromhex(found.contract_key),
                log_key=found.log_key,
                credential=from_der(_bytes(found.certificate), _bytes(found.key)),
            )
        except (ValueError, ValidationError, EvidenceError, RecursionError):
            raise InputError(
                "a token of another version, or a false one",
                where="token",
                advice="see that both sides have the same PressPool",
            ) from None


def _body(text: str) -> bytes:
    """The token's JSON, once its checksum holds."""
    line = "".join(text[: 2 * LARGEST_TOKEN].split())
    if not line.startswith(PREFIX) or len(line) > LARGEST_TOKEN:
        raise InputError(
            "not a token",
            where="token",
            expected=f"a line that begins {PREFIX}",
            got=ascii(line[:30]),
            advice=_ADVICE,
        )
    coded, _, check = line.removeprefix(PREFIX).partition(".")
    try:
        body = base64.b64decode(coded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        body = b""
    if _check(body) != check:
        raise InputError(
            "the token was cut short or changed",
            where="token",
            expected=f"a line that ends in a dot and {_CHECK_DIGITS} digits that fit",
            advice=_ADVICE,
        )
    return body


def _check(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:_CHECK_DIGITS]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
