"""The sha256 that names the installed package's code.

Over the files in the order of their names, each as `name`, a zero byte, and the file's own sha256;
names are relative to the package, with slashes. A wheel and a checkout of the same code agree.

Example:
    >>> len(code_digest())
    71
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import presspool

SUFFIXES = (".py", ".html", ".css", ".toml", ".proto")


def code_digest(root: Path | None = None) -> str:
    """`sha256:` of the package below `root`; of the one that runs if not given."""
    folder = root or Path(presspool.__file__).parent
    total = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        total.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{total.hexdigest()}"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for where, _, names in os.walk(folder, followlinks=True):  # a checkout has links
        for name in names:
            if name.endswith(SUFFIXES):
                path = Path(where) / name
                yield path.relative_to(folder).as_posix(), path
