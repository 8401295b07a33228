"""An agent with the real app that dies at a step around its answer's way to the coordinator.

Steps, in their order: `trained`, `kept`, `bound`, `sealed`, `delivered`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.fakes.made_certificates import Certificates
from tests.fakes.made_pool import made_outlet

from presspool.client import client_app
from presspool.client.agent import assembly
from presspool.client.agent import home as homes
from presspool.client.agent.agent import Agent, Backoff
from presspool.client.agent.spool import Spool
from presspool.client.consent.meter import Meter
from presspool.client.identity.coordinator_client import CoordinatorClient
from presspool.client.identity.settings import read_settings
from presspool.client.release import kept_reply

STEPS = ("trained", "kept", "bound", "sealed", "delivered")
_PLACES: dict[str, tuple[Any, str]] = {
    "trained": (client_app, "release"),
    "kept": (kept_reply, "write_secret"),
    "bound": (Meter, "bind"),
    "sealed": (Spool, "seal"),
    "delivered": (CoordinatorClient, "deliver"),
}


def work(folder: Path, home: Path, address: str, step: str, occurrence: int) -> None:
    """Work as an agent does, until killed right after a step's n-th occurrence."""
    torch.set_num_threads(1)
    if step:
        place, name = _PLACES[step]
        setattr(place, name, _dying_after(getattr(place, name), occurrence))
    made, settings = Certificates.read(folder), read_settings(home / homes.SETTINGS)
    with Spool.open(home / homes.WORK) as spool:
        Agent(
            identity=made_outlet(settings.name),
            spool=spool,
            link=CoordinatorClient(address, lambda: made.dial(address, settings.name)),
            trainer=assembly._trainer(home, loopback=assembly._is_loopback(address)),
            position=assembly._position(home),
            backoff=Backoff(first=0.05, most=0.5),
        ).run()


def _dying_after(real: Callable[..., Any], occurrence: int) -> Callable[..., Any]:
    seen = 0

    def last(*args: Any, **more: Any) -> Any:
        nonlocal seen
        done = real(*args, **more)
        seen += 1
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return last
