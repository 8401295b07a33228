"""An outlet of `presspool bench transport`: the real agent, whose trainer answers with zeros.

Usage: python -m presspool.simulations.bench.transport.transport_outlet HOME ADDRESS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from presspool.client.agent.agent import Agent, Backoff
from presspool.client.agent.spool import Spool
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.release.release import release_words
from presspool.client.round import Round
from presspool.client.sums.sum_party import SumParty
from presspool.common.models.adapters import State
from presspool.common.pki.certificates import Credential
from presspool.common.pki.keys import SigningKey
from presspool.common.pki.tls import channel
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import AdapterUpdate, pack_update

READY = "ready"  # holds when the newest answer was ready


class _Identity:
    """As much of an identity as the agent asks for."""

    def __init__(self, home: Path) -> None:
        self.name = home.name
        self.update = SigningKey.read(home / "update.key")
        self.contract_key = (home / "contract.pub").read_bytes()


def work(home: Path, address: str) -> None:
    """Answer tasks until ended."""
    root = (home / "root.pem").read_bytes()
    credential = Credential(
        certificate=(home / "certificate.pem").read_bytes(), key=(home / "tls.key").read_bytes()
    )
    link = CoordinatorClient(address, lambda: channel(address, credential, root=root))
    with Spool.open(home / "work") as spool:
        Agent(
            identity=_Identity(home),
            spool=spool,
            link=link,
            trainer=lambda asked, _: _answered(home, asked),
            position=lambda _: (0, "0" * 64),
            backoff=Backoff(first=0.1, most=1.0),
        ).run()


def _answered(home: Path, asked: Round) -> bytes:
    if not asked.masked:
        return _zeros(home, asked, {n: np.zeros_like(array) for n, array in asked.state.items()})
    party = SumParty(home=home, name=home.name, peers={})
    if not asked.trains:
        return release_words(asked.task, party.say(asked), outlet=home.name, base=asked.base)
    party.require(asked)
    zeros: State = {name: np.zeros(array.shape, np.int64) for name, array in asked.state.items()}
    return _zeros(home, asked, party.seal(asked, zeros))


def _zeros(home: Path, asked: Round, delta: State) -> bytes:
    update = AdapterUpdate(
        outlet=home.name,
        round=asked.number,
        phase=asked.phase,
        contract=asked.task.digest,
        base=asked.base,
        delta=delta,
    )
    data = to_bytes(pack_update(update))
    (home / READY).write_text(str(time.monotonic()))
    return data


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2])
