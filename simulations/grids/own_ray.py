"""A Ray of this process alone: on the loopback address, and given the time that it needs.

Ray gives its node half a minute for its start, and leaves its processes behind when that is over. A
machine whose cores are taken by other work needs longer: Python starts three times in it.

Example: `start_own(ray, workers=2, gpus=0, folder="/tmp/private")`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from presspool.common.base.errors import PressPoolError

STARTS = 180  # seconds in which a Ray of our own is there


def start_own(ray: Any, *, workers: int, gpus: int, folder: str | None) -> None:
    """Start and join it.

    Args:
        ray: the module.
        workers: cores that it gives away.
        gpus: of this machine.
        folder: a private one: to its files Ray lets everybody in.

    Raises:
        PressPoolError: it did not start.
    """
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(STARTS))
    try:
        with _patient():
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=gpus,
                include_dashboard=False,
                logging_level=logging.ERROR,
                _temp_dir=f"{folder}/ray",
                # Else workers step back behind all other work (nice 15).
                _system_config={"worker_niceness": 0},
            )
    except Exception as error:  # Ray's own for this is a plain one
        raise PressPoolError(
            "Ray does not start on this machine",
            where="[simulation] grid",
            got=" ".join(str(error).split()),
            advice='see that memory and processes are free, or say grid = "local"',
        ) from error


@contextmanager
def _patient() -> Iterator[None]:
    """Have Ray ask longer whether its node is there; its limit is a number in its code."""
    from ray._private import services

    once = services.get_node
    services.get_node = _asked_again(once)
    try:
        yield
    finally:
        services.get_node = once


def _asked_again(once: Callable[..., Any]) -> Callable[..., Any]:
    def get_node(*asked: Any) -> Any:
        until = time.monotonic() + STARTS
        while True:
            try:
                return once(*asked)
            except RuntimeError:  # its word for: not there yet
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    return get_node
