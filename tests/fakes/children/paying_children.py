"""Outlets with a policy, a real ledger and a bad day, as processes without a model.

Their trainer takes the very steps of `presspool.client.client_app` around a made-up gradient, and
draws its noise anew each time, so that a round that is trained twice has two answers. Beside the
ledger each outlet writes down, durably and before it happens:

    OUTLET.trained    "step ROUND STEP" for each private step
    OUTLET.sent       "ROUND DIGEST FAILURE" for each time that a reply goes to the link

What goes wrong by the outlet's own doing hangs on seed, outlet and round alone.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.fakes.children.pool_children import (
    PAUSE,
    _append,
    _log,
    run_until_signalled,
    wait_for_release,
)
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_outlets import new_ledger, policy_body
from tests.fakes.made_pool import made_outlet
from tests.fakes.made_runs import STATE, Arrays, toml

from presspool.client.agent import assembly
from presspool.client.agent import home as homes
from presspool.client.agent.agent import Agent, Backoff, Trainer
from presspool.client.agent.spool import Spool
from presspool.client.consent.meter import Meter
from presspool.client.enforcement import RealGate, opened
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.settings import OutletSettings
from presspool.client.release import kept_reply
from presspool.client.release.release import release
from presspool.client.round import Round
from presspool.common.base.errors import GuardError, LinkError
from presspool.common.contract.contract import Contract
from presspool.common.wire.envelope import Signed, UpdateHeader, read_header
from presspool.common.wire.update import AdapterUpdate


@dataclass(frozen=True, kw_only=True)
class Mishaps:
    """How likely what goes wrong at an outlet is, in each round.

    Attributes:
        seed: of all draws.
        late: of training for `late_seconds`.
        late_seconds: longer than the phase.
        twice: of sending an update twice.
        receipt: of losing the receipt of an update that arrived.
    """

    seed: int = 0
    late: float = 0.0
    late_seconds: float = 0.0
    twice: float = 0.0
    receipt: float = 0.0

    def happens(self, what: str, outlet: str, round: int) -> bool:
        """Whether a mishap falls on this outlet in this round."""
        draw = random.Random(f"{self.seed} {what} {outlet} {round}").random()
        return draw < float(getattr(self, what))


def new_home(folder: Path, name: str, contract: Contract, *, epsilon: float) -> Path:
    """An outlet's home with settings, policy and a ledger that holds so much."""
    home = folder / name
    home.mkdir()
    rules = policy_body(contract, max_rounds=500)
    (home / "policy.toml").write_text(toml(rules))
    (home / "outlet.toml").write_text(
        f'name = "{name}"\ndata = "none"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
    )
    new_ledger(home / "ledger.db", epsilon=epsilon)
    return home


def outlet(folder: Path, name: str, address: str, mishaps: Mishaps) -> None:
    """Work until killed or asked to end."""
    _log(folder / f"{name}.log")
    made, home = Certificates.read(folder), folder / name
    settings = homes.settings_in(home)
    with Spool.open(home / homes.WORK) as spool:
        run_until_signalled(
            Agent(
                identity=made_outlet(name),
                spool=spool,
                link=_UnluckyLink(folder, name, address, mishaps, made),
                trainer=_trainer(folder, settings, mishaps),
                position=assembly._position(home),
                backoff=Backoff(first=0.05, most=0.5),
            )
        )


class _UnluckyLink(CoordinatorClient):
    """A link that says what is sent, and on which updates go twice or receipts get lost."""

    def __init__(
        self, folder: Path, name: str, address: str, mishaps: Mishaps, made: Certificates
    ) -> None:
        super().__init__(address, lambda: made.dial(address, name))
        self._file, self._name, self._mishaps = folder / f"{name}.sent", name, mishaps
        self._lost: set[str] = set()

    def deliver(self, signed: Signed, chunks: Iterable[bytes]) -> None:
        header = read_header(UpdateHeader, signed.body)
        body = list(chunks)
        _append(self._file, f"{header.round} {header.body} {header.failure}")
        super().deliver(signed, body)
        if self._mishaps.happens("twice", self._name, header.round):
            super().deliver(signed, body)
        first = header.task not in self._lost
        if first and self._mishaps.happens("receipt", self._name, header.round):
            self._lost.add(header.task)
            raise LinkError("the receipt is lost")


def _trainer(folder: Path, settings: OutletSettings, mishaps: Mishaps) -> Trainer:
    """The steps of `presspool.client.client_app.work`, but for the model's."""

    def train(asked: Round, kept: Path) -> bytes:
        wait_for_release(folder, asked)
        with opened(settings) as gate:
            assert isinstance(gate, RealGate)
            try:
                gate.allow(asked)
            except GuardError as refused:
                known = kept_reply.handed_out_before(kept, gate.bound(asked))
                if known is None or refused.code not in ("round-released", "run-over"):
                    raise
                return known
            with gate.budget.round(
                asked.contract, number=asked.number, adapter=asked.base
            ) as meter:
                return _answer(asked, folder, settings, mishaps, meter, kept)

    return train


def _answer(
    asked: Round,
    folder: Path,
    settings: OutletSettings,
    mishaps: Mishaps,
    meter: Meter,
    kept: Path,
) -> bytes:
    for count in range(meter.taken + 1, meter.last + 1):
        meter.step(count)
        _append(folder / f"{settings.name}.trained", f"step {asked.number} {count}")
    late = mishaps.happens("late", settings.name, asked.number)
    time.sleep(mishaps.late_seconds if late else PAUSE)
    update = AdapterUpdate(
        outlet=settings.name,
        round=asked.number,
        contract=asked.contract.digest,
        base=asked.base,
        delta=_fresh_noise(),
    )
    data = release(update, asked.contract, lambda change: change)
    kept_reply.keep_and_bind(data, meter.bind, kept)
    return data


def _fresh_noise() -> Arrays:
    draw = np.random.default_rng(int.from_bytes(os.urandom(16)))
    return {name: draw.standard_normal(a.shape, np.float32) for name, a in STATE.items()}
