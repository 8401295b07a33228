"""Virtual environments for simulators that do not go together with PressPool's own libraries.

Each is a folder with what a simulator needs besides what this Python already has, torch among it:
its module path goes on with this process's.

Invariants:
    * Nothing is installed into PressPool's own environment, and torch is never fetched.
    * A room is used again as long as the simulator's version and this Python are the same.

Example: ``python = room("pfl", cache_folder())``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

from presspool.common.base.errors import InputError

log = logging.getLogger(__name__)

ROOMS = {"pfl": "pfl==0.6.0", "nvflare": "nvflare==2.9.0"}
DONE = "installed.txt"


def cache_folder() -> Path:
    """Where rooms are kept if nothing else is said."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "presspool" / "simulators"


def room(name: str, folder: Path) -> Path:
    """The Python that has a simulator; made if it is not there yet.

    Args:
        name: a key of `ROOMS`.
        folder: where rooms are kept.

    Raises:
        InputError: it cannot be installed.
    """
    home, wanted = folder / name, f"{ROOMS[name]} on Python {sys.version} at {sys.prefix}"
    python, done = home / "bin" / "python", home / DONE
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    log.warning("%s is installed into %s", ROOMS[name], home)
    venv.create(home, clear=True, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "ours.pth").write_text("\n".join(paths), encoding="utf-8")
    _install(python, home, ROOMS[name])
    done.write_text(wanted, encoding="utf-8")
    return python


def _install(python: Path, home: Path, what: str) -> None:
    pins = home / "pins.txt"
    pins.write_text(f"torch=={version('torch')}\n", encoding="utf-8")
    words = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    asked = [str(python), *words, "--constraint", str(pins), what]
    found = subprocess.run(asked, check=False, capture_output=True, text=True)  # noqa: S603
    if found.returncode:
        lines = found.stderr.strip().splitlines() or ["no message"]
        raise InputError(
            f"{what} cannot be installed",
            where=str(home),
            got=lines[-1],
            advice="look whether packages can be fetched here, or leave it out with --only",
        )
