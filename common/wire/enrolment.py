"""What an outlet and the coordinator agree on when one joins: keys, proofs, fingerprint, refusals.

An outlet has four keys, one purpose each: TLS (ECDSA), updates, its ledger's log and its witness
(Ed25519). The TLS key proves possession by its certificate request, the others by signatures over
the invitation, the request and all of them, each under its own tag. What the two operators read to
each other is a fingerprint of all four: 80 bits, so that nobody who stole a token can make other
keys with the same one.

Example:
    >>> PublicKeys(tls=b"t" * 91, update=b"u" * 32, log=b"l" * 32, witness=b"w" * 32).fingerprint
    'DBDT-SS5K-DE7X-U3OA'
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import rfc8785

from presspool.common.base.errors import EvidenceError
from presspool.common.pki.certificates import requested_key
from presspool.common.pki.keys import KEY_BYTES, SigningKey, fingerprint, verify

UPDATE_PROOF: Final = "presspool/join-update-key/v1"
LOG_PROOF: Final = "presspool/join-log-key/v1"
WITNESS_PROOF: Final = "presspool/join-witness-key/v1"
RENEWAL: Final = "presspool/renewal/v1"

# All that the coordinator ever answers to a caller whom it refuses, and what it means.
ENROLMENT_REFUSALS: Final = {
    "not-a-member": ("this certificate is no member's", "ask the coordinator's operator"),
    "revoked": (
        "this outlet was revoked",
        "ask the coordinator's operator for the reason; a new token brings it back: presspool "
        "outlet join",
    ),
    "not-an-invitation": ("this certificate is no open invitation's", "ask for a new token"),
    "token-expired": ("the token has expired", "ask the coordinator's operator for a new one"),
    "token-withdrawn": ("the token was withdrawn or replaced", "use the newest token"),
    "token-used": (
        "the token was used with other keys, which may mean that it was stolen",
        "tell the coordinator's operator, and ask for a new one",
    ),
    "bad-proof": ("a key did not prove that the outlet has it", "report this as a bug"),
    "renewed-often": ("it was given several certificates today", "use the newest; ask tomorrow"),
    "internal": ("the coordinator failed", "try again; its operator finds the cause in its log"),
}


@dataclass(frozen=True, kw_only=True)
class PublicKeys:
    """The public halves of an outlet's keys.

    Attributes:
        tls: SubjectPublicKeyInfo, DER.
        update: 32 bytes.
        log: 32 bytes.
        witness: 32 bytes.
    """

    tls: bytes
    update: bytes
    log: bytes
    witness: bytes

    @property
    def fingerprint(self) -> str:
        """What the two operators compare."""
        body = {
            "tls": self.tls.hex(),
            "update": self.update.hex(),
            "log": self.log.hex(),
            "witness": self.witness.hex(),
        }
        return fingerprint("presspool/fingerprint/v1", rfc8785.dumps(body))


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """An outlet's request to join, as it travels.

    Attributes:
        request: PKCS #10, DER.
        update_key: 32 bytes.
        log_key: 32 bytes.
        witness_key: 32 bytes.
        update_proof: the update key's signature.
        log_proof: the log key's signature.
        witness_proof: the witness key's signature.
    """

    request: bytes
    update_key: bytes
    log_key: bytes
    witness_key: bytes
    update_proof: bytes
    log_proof: bytes
    witness_proof: bytes


def prove(
    invitation: str, request: bytes, *, update: SigningKey, log: SigningKey, witness: SigningKey
) -> Proofs:
    """What an outlet with these keys sends to use an invitation."""
    body = _body(invitation, request, update.public, log.public, witness.public)
    return Proofs(
        request=request,
        update_key=update.public,
        log_key=log.public,
        witness_key=witness.public,
        update_proof=update.sign(UPDATE_PROOF, body),
        log_proof=log.sign(LOG_PROOF, body),
        witness_proof=witness.sign(WITNESS_PROOF, body),
    )


def check_proofs(invitation: str, proofs: Proofs) -> PublicKeys:
    """The keys that a request proves possession of.

    Raises:
        EvidenceError: one of them does not, or two are the same key.
    """
    tls = requested_key(proofs.request)  # caps the request's size first
    keys = (proofs.update_key, proofs.log_key, proofs.witness_key)
    if any(len(key) != KEY_BYTES for key in keys):
        raise EvidenceError("public key", expected=f"{KEY_BYTES} bytes")
    if len(set(keys)) < len(keys):
        raise EvidenceError("one key for two purposes", expected="a key of its own for each")
    body = _body(invitation, proofs.request, *keys)
    verify(proofs.update_key, UPDATE_PROOF, body, proofs.update_proof)
    verify(proofs.log_key, LOG_PROOF, body, proofs.log_proof)
    verify(proofs.witness_key, WITNESS_PROOF, body, proofs.witness_proof)
    return PublicKeys(
        tls=tls, update=proofs.update_key, log=proofs.log_key, witness=proofs.witness_key
    )


def renewal_body(serial: str, request: bytes) -> bytes:
    """What the update key signs, under `RENEWAL`, to renew the certificate of that serial."""
    return rfc8785.dumps({"serial": serial, "request": hashlib.sha256(request).hexdigest()})


def _body(invitation: str, request: bytes, update: bytes, log: bytes, witness: bytes) -> bytes:
    return rfc8785.dumps(
        {
            "invitation": invitation,
            "request": hashlib.sha256(request).hexdigest(),
            "update_key": update.hex(),
            "log_key": log.hex(),
            "witness_key": witness.hex(),
        }
    )
