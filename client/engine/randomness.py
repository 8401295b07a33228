"""The outlet's secret randomness: a ChaCha20 stream keyed by the operating system.

Every private coin of an outlet (who is sampled, which records, the noise) comes from here and stays
secret. The contract's public seed never reaches this module.

Invariants:
    * A fresh 256-bit key for each `SecureRandom`, from `os.urandom`.
    * A forked process never continues its parent's stream: it draws a new key first.
    * `SecureRandom.deterministic` is the one door to reproducible noise. It is a local switch for
      tests and simulations; whatever is trained with it is not private and is labelled so.

Source: ChaCha20, RFC 8439 (through `cryptography`); used as a stream of uniform 64-bit words.

Example:
    >>> draws = SecureRandom.deterministic(7, "daily-bugle", 1).uniform(3)
    >>> bool(((0 <= draws) & (draws < 1)).all())
    True
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

KEY_BYTES = 32


class SecureRandom:
    """A cryptographically secure stream of uniform numbers.

    Attributes:
        reproducible: whether the stream can be drawn again, so that nothing made with it is
            private.
    """

    def __init__(self) -> None:
        self.reproducible = False
        self._rekey(os.urandom(KEY_BYTES))

    @classmethod
    def deterministic(cls, *seed: int | str) -> SecureRandom:
        """A reproducible stream for tests and simulations; NOT private.

        Args:
            seed: anything that should make streams differ, such as a number, outlet and round.
        """
        random = cls()
        text = "\0".join(str(part) for part in seed).encode()
        random._rekey(hashlib.sha256(b"presspool/deterministic/v1\0" + text).digest())
        random.reproducible = True
        return random

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` uniform 64-bit words, shape (count,)."""
        if os.getpid() != self._pid and not self.reproducible:
            self._rekey(os.urandom(KEY_BYTES))
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniform numbers in [0, 1) with 53 random bits, shape (count,)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def bernoulli(self, count: int, probability: float) -> NDArray[np.bool_]:
        """`count` coins that are True with `probability` (to 2⁻⁵³), shape (count,)."""
        return self.uniform(count) < probability

    def _rekey(self, key: bytes) -> None:
        # A fixed nonce is right here: each key makes one stream and is used for nothing else.
        self._pid = os.getpid()
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
