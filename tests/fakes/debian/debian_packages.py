"""Debian's packages that tests need: installed where the tests run as root on Debian.

Example: `install("libfaketime", unless=lambda: LIBRARY.exists())`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path


def install(package: str, *, unless: Callable[[], object]) -> None:
    """Install a package, if this may be done here; whether it is there now, says `unless`.

    Workers take turns: beside another one apt gives up, and half of a package is no package.
    """
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        return
    with (Path(tempfile.gettempdir()) / "presspool-tests-packages").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if unless():
            return
        subprocess.run(
            [
                *("apt-get", "--option", "DPkg::Lock::Timeout=600"),
                *("install", "--yes", "--no-install-recommends", package),
            ],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            timeout=1200,
            check=False,
        )
