"""The same sum with the parts of Flower's SecAgg+, as a peer in the measurement.

Its own functions do the work, in the order of its `secaggplus_mod` and `SecAggPlusWorkflow`: fresh
keys, shares, masks, unmasking. Every outlet is paired with every other, as in our protocol, and the
inputs are integers already, so nothing is quantised. Serialisation is counted by its size alone.

Invariant: the sum is checked by the caller; what Flower's masks lack against an active coordinator,
and the 32 bits of their seeds, is said in docs/adr/0011-secure-aggregation.md and not mended here.

Example: `flower_sum({"a": x, "b": y, "c": z}, gone=set(), threshold=2)`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    encrypt,
    generate_shared_key,
)
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
)
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from numpy.typing import NDArray

Vector = NDArray[np.int64]
_RANGE = 1 << 32


@dataclass
class _Client:
    """One outlet's keys and shares of a round, as SecAgg+ has them."""

    seed: bytes = field(default_factory=lambda: os.urandom(32))
    pairs: tuple[tuple[bytes, bytes], ...] = field(default_factory=lambda: (_pair(), _pair()))
    seed_shares: list[bytes] = field(default_factory=list)
    key_shares: list[bytes] = field(default_factory=list)


def flower_sum(
    inputs: Mapping[str, Vector], *, gone: Collection[str], threshold: int
) -> tuple[NDArray[np.signedinteger], int]:
    """The sum modulo 2³² of those who are not gone, and the bytes that travelled."""
    clients = {name: _Client() for name in inputs}
    sent = sum(_share(clients, name, threshold) for name in clients)
    total = np.zeros_like(next(iter(inputs.values())))
    for name in inputs.keys() - gone:
        total += _masked(clients, name, inputs[name])
        sent += total.nbytes
    for name, client in clients.items():
        kept = client.key_shares if name in gone else client.seed_shares
        secret = combine_shares(kept[:threshold])
        if name not in gone:
            total -= _stream(secret, len(total))
            continue
        for peer in inputs.keys() - gone:
            total -= _between(clients, peer, name, secret, len(total))
    return (total % _RANGE).astype("<u4").view("<i4"), sent


def _pair() -> tuple[bytes, bytes]:
    secret, public = generate_key_pairs()
    return private_key_to_bytes(secret), public_key_to_bytes(public)


def _share(clients: Mapping[str, _Client], name: str, threshold: int) -> int:
    """Share out both secrets, sealed for each peer; bytes, up and down, and twice when revealed."""
    client, count = clients[name], len(clients)
    client.seed_shares = create_shares(client.seed, threshold, count)
    client.key_shares = create_shares(client.pairs[0][0], threshold, count)
    sent = 0
    for at, peer in enumerate(clients):
        parts = (client.seed_shares[at], client.key_shares[at])
        shared = _exchange(client.pairs[1][0], clients[peer].pairs[1][1])
        sent += 2 * len(encrypt(shared, share_keys_plaintext_concat(at, at, *parts)))
        sent += len(parts[0])
    return sent


def _masked(clients: Mapping[str, _Client], name: str, values: Vector) -> Vector:
    total = values + _stream(clients[name].seed, len(values))
    for peer in clients:
        if peer != name:
            total += _between(clients, name, peer, clients[peer].pairs[0][0], len(values))
    return total % _RANGE


def _between(
    clients: Mapping[str, _Client], name: str, peer: str, secret: bytes, size: int
) -> Vector:
    """What `name` adds for the pair, from the peer's secret: the exchange has one result."""
    mask = _stream(_exchange(secret, clients[name].pairs[0][1]), size)
    return mask if name > peer else -mask


def _exchange(secret: bytes, public: bytes) -> bytes:
    return generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(public))


def _stream(seed: bytes, size: int) -> Vector:
    return pseudo_rand_gen(seed, _RANGE, [(size,)])[0]
