"""The adapters that are served, by their names.

Invariants:
    * An adapter is on the shelf whole or not at all; who asks for it while it is taken down is
      answered by it.
    * One is put up at a time.

Example: `AdapterShelf(SharedBase(contract), trunk).put("cup", path)`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.released.adapter_folder import read_adapter
from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.mixed_trunk import MixedTrunk
from presspool.server.serving.shelf.served_adapter import ServedAdapter
from presspool.server.serving.shelf.shared_base import SharedBase

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST = 256


class FolderSource:
    """Where an administrator's call finds an adapter: the folders inside one.

    Args:
        root: nothing outside is loaded.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def folder(self, path: str) -> Path:
        """The adapter's, whose path is relative to the root, or lies in it.

        Raises:
            InputError: there is none of that name.
        """
        found = (self._root / path).resolve() if "\0" not in path else self._root.parent
        there = os.path.isdir(found)  # noqa: PTH112  of a name that is too long `is_dir` raises
        if not found.is_relative_to(self._root) or not there:
            raise InputError("no such folder", where="lora_path", expected="one in --adapters")
        return found


class AdapterShelf:
    """One base model and the adapters on it.

    Args:
        base: the model, of which the trunk is made.

    Attributes:
        base: as given.
        trunk: what all adapters share.
        route: from the name that is asked for and a caller to the name that answers.
    """

    def __init__(self, base: SharedBase, first: Contract) -> None:
        self.base, self.trunk = base, MixedTrunk(base.headed(first))
        self.route: Callable[[str, str], str] = lambda name, _: name
        self._held: dict[str, ServedAdapter] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, paths: Sequence[tuple[str, Path]]) -> AdapterShelf:
        """A shelf with these adapters, each by its name; raises as `put`, and `read_adapter`."""
        first = read_adapter(paths[0][1]).contract
        shelf = cls(SharedBase(first), first)
        for name, path in paths:
            shelf.put(name, path)
        return shelf

    def __iter__(self) -> Iterator[ServedAdapter]:
        return iter(sorted(self._held.values(), key=lambda one: one.name))

    def put(self, name: str, path: Path, *, over: str | None = None) -> ServedAdapter:
        """Put an adapter up, in the place of another one where there is one `over`; takes seconds.

        Raises:
            InputError: a name that is none or is taken, another base model's adapter.
            FolderError: the folder contradicts itself.
            ModelError: the base model is missing.
        """
        with self._lock:
            self._check_name(name, over)
            made = ServedAdapter.load(name, read_adapter(path), self.base, self.trunk)
            others = {one: at for one, at in self._held.items() if one != over}
            self._held = others | {name: made}  # at once: callers look without the lock
            return made

    def take(self, name: str) -> ServedAdapter:
        """Take an adapter down; raises as `get`."""
        with self._lock:
            found = self.get(name)
            del self._held[name]
            return found

    def get(self, name: str) -> ServedAdapter:
        """The adapter of a name; raises `CallError`, 404 with the names there are."""
        found = self._held.get(name)
        if found is None:
            names = ", ".join(one.name for one in self) or "none"
            raise CallError(404, f"no such model; served here: {names}", param="model")
        return found

    def holds(self, name: str) -> bool:
        """Whether an adapter of this name is served."""
        return name in self._held

    def by_digest(self, adapter: str) -> ServedAdapter:
        """The adapter with these weights; raises `CallError`, 404."""
        for one in self:
            if adapter.removeprefix("sha256:") == one.provenance.adapter.removeprefix("sha256:"):
                return one
        raise CallError(404, "no such adapter is served here", param="digest")

    def _check_name(self, name: str, over: str | None) -> None:
        if not NAME.fullmatch(name) or name == self.base.model.id:
            raise InputError(
                "no name for an adapter",
                where="lora_name",
                expected="letters, digits, dots, dashes and underlines, 100 at most",
            )
        if name in self._held and name != over:
            raise InputError("the name is taken", where="lora_name", got=name)
        if len(self._held) >= MOST and over is None:
            raise InputError("the shelf is full", expected=f"at most {MOST} adapters")
