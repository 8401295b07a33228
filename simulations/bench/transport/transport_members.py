"""The members of `presspool bench transport`'s pool, and the contract that nobody trains by.

Example: `members = {name: prepared(folder / name, root, key) for name in names(8)}`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from presspool.client.identity.identity import identity_folder
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.pki.certificates import Credential, issue_outlet, make_key, make_request
from presspool.common.pki.keys import SigningKey
from presspool.common.wire.flower import node_of


@dataclass(frozen=True)
class BenchOutlet:
    """A member, as the service sees it."""

    name: str
    update_key: bytes
    peer_key: bytes


def contract_of(outlets: list[str]) -> Contract:
    """A contract that nobody trains by; every outlet must answer."""
    nothing = "sha256:" + "0" * 64
    return parse_contract(
        {
            "name": "bench",
            "seed": 0,
            "model": {"id": "none", "weights": nothing, "tokenizer": nothing},
            "task": {"labels": ["a", "b"], "max_length": 8},
            "adapter": {"rank": 2, "alpha": 4, "targets": ["query"]},
            "federation": {"rounds": 1000, "local_steps": 1, "quorum": len(outlets)},
            "outlets": dict.fromkeys(outlets, 100),
            "privacy": {
                "noise_multiplier": 1.0,
                "clip": 1.0,
                "records_per_reader": 1,
                "sampling_rate": 0.01,
            },
            "optimizer": {"learning_rate": 0.5},
        }
    )


def names(count: int) -> list[str]:
    """So many names, in the order of their nodes."""
    return sorted((f"outlet-{number}" for number in range(count)), key=node_of)


def prepared(home: Path, root: Credential, contract_key: SigningKey) -> BenchOutlet:
    """Write what an outlet's process needs; returns the member."""
    home.mkdir()
    tls, update, witness = make_key(), SigningKey.generate(), SigningKey.generate()
    (home / "root.pem").write_bytes(root.certificate)
    pem = issue_outlet(root, home.name, make_request(tls), now=time.time())
    (home / "certificate.pem").write_bytes(pem)
    (home / "tls.key").write_bytes(tls)
    (home / "contract.pub").write_bytes(contract_key.public)
    update.write(home / "update.key")
    identity_folder(home).mkdir()
    witness.write(identity_folder(home) / "witness.key")
    return BenchOutlet(home.name, update.public, witness.public)
