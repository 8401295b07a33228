"""What an outlet needs to work, checked one by one, with what to do about it.

Each check stands alone: a wrong clock does not hide a full disk. Nothing is trained, nothing is
spent, and of the data only its readability is looked at.

Example: `all(check.good for check in examine(Path("/var/lib/presspool"), now=time.time()))`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from presspool.client.agent import real_settings
from presspool.client.budget import Budget
from presspool.client.identity import Identity
from presspool.client.policy import read_policy
from presspool.common.certificates import DAY
from presspool.common.errors import PressPoolError
from presspool.common.tables import read_table
from presspool.common.tls import channel

LEAST_BYTES = 1 << 30
CALL_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        good: whether it is as it must be.
        found: what was found.
        advice: what to do where it is not good.
    """

    name: str
    good: bool
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


def examine(home: Path, *, now: float) -> list[Check]:
    """All checks, in the order in which they are worth mending.

    Args:
        home: the outlet's folder.
        now: POSIX seconds of this computer's clock.
    """
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("disk", lambda: _disk(home)),
        ("identity", lambda: _identity(home, now)),
        ("coordinator", lambda: _coordinator(home)),
        ("settings, policy and ledger", lambda: _settings(home)),
        ("data", lambda: _data(home)),
        ("engine", _engine),
        ("versions", _versions),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except PressPoolError as error:
        first, *_ = str(error).splitlines()
        got = "" if error.got is None else f" {error.got}"
        return Check(name=name, good=False, found=first + got, advice=error.advice)


def _disk(home: Path) -> Check:
    free = shutil.disk_usage(home).free
    return Check(
        name="disk", good=free >= LEAST_BYTES, found=f"{free / 1e9:.1f} GB free",
        advice=f"make room: adapters and ledger want {LEAST_BYTES / 1e9:.0f} GB",
    )  # fmt: skip


def _identity(home: Path, now: float) -> Check:
    """A certificate that is not yet or no longer valid is most often a wrong clock."""
    facts = Identity.read(home).facts
    days = (facts.ends - now) / DAY
    good = facts.begins <= now < facts.ends
    until = f"for {days:.1f} days more" if good else "later" if days > 0 else "no more"
    return Check(
        name="clock and certificate", good=good,
        found=f"by this computer's clock the certificate is valid {until}",
        advice="set the clock; if it is right, ask the coordinator for a new invitation",
    )  # fmt: skip


def _coordinator(home: Path) -> Check:
    """A call over mutual TLS; gRPC's own health service answers."""
    identity = Identity.read(home)
    with channel(identity.address, identity.credential, root=identity.root) as link:
        try:
            health_pb2_grpc.HealthStub(link).Check(
                health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            said = f"{error.code().name}: {(error.details() or '')[:120]!a}"
            return Check(
                name="coordinator", good=False, found=f"{identity.address} does not answer: {said}",
                advice="see that outgoing connections to it are allowed, then ask its operator",
            )  # fmt: skip
    return Check(name="coordinator", good=True, found=f"{identity.address} answers over TLS")


def _settings(home: Path) -> Check:
    settings = real_settings(home)
    assert settings.ledger is not None
    assert settings.policy is not None
    with Budget.open(settings.ledger, policy=read_policy(settings.policy)) as budget:
        book = budget.book
        used = book.spent / book.room(book.caps.epsilon_max)
    return Check(name="policy and ledger", good=True, found=f"{used:.0%} of the filter is used")


def _data(home: Path) -> Check:
    """Only that the columns can be read: what is in them is for `outlet check-data`."""
    settings = real_settings(home)
    names = settings.columns.model_dump()
    read_table(settings.data, names)
    return Check(name="data", good=True, found=f"{settings.data.name} has its columns")


def _engine() -> Check:
    """The proof that stands before every run, on the default base model."""
    from presspool.client.selftest import prove
    from presspool.common.contract import EXAMPLE, parse_contract
    from presspool.common.models import build
    from presspool.common.run_file import freeze

    contract = freeze(parse_contract(json.loads(EXAMPLE)))
    prove(build(contract), contract)
    found = f"clips, draws noise and trains as it must, on {contract.model.id}"
    return Check(name="engine", good=True, found=found)


def _versions() -> Check:
    names = ("presspool", "torch", "flwr", "opacus", "grpcio")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return Check(name="versions", good=True, found=found)
