"""Another clock for a process, below Python and gRPC: Debian's libfaketime, by LD_PRELOAD.

Where the tests run as root on Debian the package is installed if it is missing; elsewhere the tests
skip, and say why.

Example: `subprocess.run(command, env={**os.environ, **clock("-3600s")})`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.debian.debian_packages import install


def clock(offset: str) -> dict[str, str]:
    """The environment in which the time is so far off; "" for the true time.

    Args:
        offset: as libfaketime reads it: "+3600s", or "@2000-01-01 00:00:00".
    """
    if not offset:
        return {}
    return {"LD_PRELOAD": str(_library()), "FAKETIME": offset}


def _library() -> Path:
    install("libfaketime", unless=_installed)
    if not (found := _installed()):
        pytest.skip("no libfaketime here: install Debian's package libfaketime")
    return found[0]


def _installed() -> list[Path]:
    return sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
