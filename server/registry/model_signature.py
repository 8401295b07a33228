"""Signatures of entries in the OpenSSF Model Signing format, by the library that defines it.

A signature covers every file of an entry's folder, `entry.json` among them: a Sigstore bundle with
an in-toto statement of their digests, signed by a key that lies in a file. No network is asked.

Invariant: a signature that holds speaks of exactly the files that are there, no more and no fewer.

Source: github.com/ossf/model-signing-spec, v1.0; the package `model-signing`.

Example: `sign(folder, key=keys.signing)`, later `verify(folder, bundle, public=keys.public)`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from presspool.common.base.errors import EvidenceError
from presspool.common.base.extras import from_extra

_MISSING = "no way to sign, or to check a signature"
LARGEST = 1 << 20  # bytes of a signature; one of 64 files has 20 thousand
_FALSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, InvalidSignature)


def sign(folder: Path, *, key: Path) -> bytes:
    """A signature of all files in a folder.

    Args:
        folder: whose last name becomes the subject's.
        key: a file with a P-256 private key, PEM.

    Raises:
        InputError: the package is not installed.
    """
    with from_extra("registry", _MISSING), tempfile.TemporaryDirectory() as place:
        from model_signing import signing

        there = Path(place) / "signature"
        signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, there)
        return there.read_bytes()


def verify(folder: Path, signature: bytes, *, public: str) -> None:
    """Return if a key signed exactly the files that are in a folder.

    Args:
        folder: the files.
        signature: what `sign` gave.
        public: the key's public half, PEM.

    Raises:
        EvidenceError: it did not.
        InputError: the package is not installed.
    """
    with from_extra("registry", _MISSING), tempfile.TemporaryDirectory() as place:
        from model_signing import verifying

        there, key = Path(place) / "signature", Path(place) / "public.pem"
        there.write_bytes(signature)
        key.write_text(public)
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, there)
        except _FALSE as error:
            raise EvidenceError(
                "the signature does not hold",
                where=folder.name,
                expected="the registry's signature over exactly these files",
                got=str(error)[:300] or "another key's, or other content",
                advice="do not use this adapter",
            ) from None
