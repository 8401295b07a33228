"""Another clock for a process, below Python and gRPC: Debian's libfaketime, by LD_PRELOAD.

Where the tests run as root on Debian the package is installed if it is missing; elsewhere the tests
skip, and say why.

Example: `subprocess.run(command, env={**os.environ, **clock("-3600s")})`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def clock(offset: str) -> dict[str, str]:
    """The environment in which the time is so far off; "" for the true time.

    Args:
        offset: as libfaketime reads it: "+3600s", or "@2000-01-01 00:00:00".
    """
    if not offset:
        return {}
    return {"LD_PRELOAD": str(_library()), "FAKETIME": offset}


def _library() -> Path:
    if not _installed() and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        subprocess.run(
            ["apt-get", "install", "--yes", "--no-install-recommends", "libfaketime"],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            timeout=600,
            check=False,
        )
    if not (found := _installed()):
        pytest.skip("no libfaketime here: install Debian's package libfaketime")
    return found[0]


def _installed() -> list[Path]:
    return sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
