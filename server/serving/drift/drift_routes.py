"""`GET /drift`: figures of what is asked, for whoever is at this machine.

Invariant: a caller from elsewhere gets none, whatever key it has, and nor does one behind a proxy
that says so: figures of readers' own inputs leave a house by an outlet's ledger alone. A proxy of
this machine that tells nothing of itself looks like this machine; the guide says to keep `/drift`
from it.

Example: `add_drift_routes(app, watch)`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from fastapi import FastAPI, Request

from presspool.server.serving.drift.drift_watch import DriftWatch
from presspool.server.serving.shelf.call_errors import CallError

PROXIED = re.compile("forwarded|via|x-real-ip|x-forwarded-.*")


def add_drift_routes(app: FastAPI, watch: DriftWatch | None) -> None:
    """Put the route into an application; None where no reference was given."""

    @app.get("/drift")
    async def drift(request: Request) -> dict[str, Any]:
        if not is_here(request):
            raise CallError(
                403,
                "figures of what is asked stay on this machine: ask from it, through no proxy. "
                "Counts that may leave are those of `presspool outlet count`, with noise",
            )
        if watch is None:
            raise CallError(404, "nothing to compare with: this server has no --reference")
        return watch.document


def is_here(request: Request) -> bool:
    """Whether a call comes from this machine, and for nobody else."""
    if request.client is None or any(map(PROXIED.fullmatch, request.headers)):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
