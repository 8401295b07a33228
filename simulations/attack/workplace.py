"""The folder that an attack works in: one attack at a time, and nothing of real readers stays.

::

    audit.json                       what is attacked, and the seed of the attacker's coins
    malicious-noise/ ...             an arm each: the outlet's files and its rounds so far
    attack.json, attack.html         the result

Invariants:
    * A folder that holds anything else is never touched.
    * What an attack on real readers wrote is removed however it ends: result, error, Ctrl-C,
      SIGTERM or SIGHUP, also several. After SIGKILL or a power cut the next attack in the folder
      removes it.

Example: `with at_work(Path("runs/attack"), own=False): ...`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from presspool.common.base.errors import FolderError
from presspool.common.base.files import private_folder
from presspool.common.base.locks import locked
from presspool.common.base.stopping import interrupted, undisturbed

ABOUT, LOCK = "audit.json", "lock"


@contextmanager
def at_work(folder: Path, *, own: bool) -> Iterator[None]:
    """Hold a new folder, or that of an earlier attack; its owner's alone.

    Args:
        folder: made where it is not there.
        own: real readers' records are written into it, so it is removed at the end.

    Raises:
        FolderError: it holds something else, or another attack works in it.
        StorageError: the disk refuses.
    """
    _require_ours(folder)
    private_folder(folder)
    busy = FolderError(
        "another attack works here",
        where=str(folder),
        advice="wait for it, or choose another --out",
    )
    with locked(folder / LOCK, busy=busy), interrupted():
        if _of_real_readers(folder):  # its process was killed; such an attack is never continued
            _empty(folder)
        try:
            yield
        finally:
            if own:
                with undisturbed():
                    shutil.rmtree(folder)


def _require_ours(folder: Path) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (folder.exists() and not folder.is_dir()) or (found - {LOCK} and ABOUT not in found):
        raise FolderError(
            "the folder holds something else",
            where=str(folder),
            expected="a new or empty folder, or that of this audit",
            advice="choose another --out",
        )


def _of_real_readers(folder: Path) -> bool:
    path = folder / ABOUT
    try:
        return path.exists() and bool(json.loads(path.read_bytes())["own"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FolderError(
            "cannot read what was attacked here", where=str(path), advice="choose another --out"
        ) from None


def _empty(folder: Path) -> None:
    """Remove all but the lock; what says whose records these are goes last."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == ABOUT):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
