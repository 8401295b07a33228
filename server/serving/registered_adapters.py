"""Adapters out of a registry, checked and laid out for as long as they are served, and followed.

Invariants:
    * Nothing is served of which `presspool adapters verify` would not say that it holds.
    * What the operator knows of the registry from elsewhere comes before what it says of itself.
    * Without a choice it is what is in production, also when that changes: a candidate is served by
      its name alone.
    * What is retired for good is served no more once the registry was looked at again; one that
      cannot be read, that has other keys, or whose log does not go on as it began, changes nothing
      and is said.

Example: `with registered("/srv/registry", []) as found: ServingPlan(adapters=found.adapters, …)`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from presspool.common.base.errors import EvidenceError, InputError, PressPoolError
from presspool.server.registry.adapter_registry import AdapterRegistry, open_registry
from presspool.server.registry.registry_verdict import hand_out, require_known
from presspool.server.registry.stage_log import FOLDER
from presspool.server.registry.stage_records import Shelved
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.served_adapter import ServedAdapter

log = logging.getLogger(__name__)
Loaded = Callable[[ServedAdapter], None]


class RegisteredAdapters:
    """What is served of a registry.

    Args:
        registry: open, and known.
        asked: as of `registered`.
        place: where adapters are laid out.

    Attributes:
        adapters: names and folders, to begin with.
    """

    def __init__(self, registry: AdapterRegistry, asked: Sequence[str], place: Path) -> None:
        self._registry, self._place, self._in_production = registry, place, not asked
        chosen = _chosen(registry, asked)
        self._served = {one.name: one for one in chosen}
        self.adapters = [self._laid_out(registry, one) for one in chosen]

    @contextmanager
    def followed(self, shelf: AdapterShelf, loaded: Loaded, seconds: float) -> Iterator[None]:
        """Look at the registry every so many seconds, for as long as the block lasts."""
        over = threading.Event()

        def work() -> None:
            while not over.wait(seconds):
                try:
                    self.look(shelf, loaded)
                except Exception as error:  # noqa: BLE001  whatever it is, the next look may do
                    log.warning("the registry cannot be followed: %s", error)

        threading.Thread(target=work, name="registry", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def look(self, shelf: AdapterShelf, loaded: Loaded) -> None:
        """Have a shelf hold what the registry says now.

        Args:
            shelf: made of `adapters`.
            loaded: told of what is put up.

        Raises:
            PressPoolError: as `registered`, and as `AdapterShelf.put`, of one adapter; all others
                are followed.
        """
        before = self._registry
        if len(before.store.names(FOLDER)) == before.shelves.size:
            return
        now = open_registry(before.store.url)
        if now.about != before.about:  # else who stores it could sign the same log anew
            raise EvidenceError(
                "another registry than the one that is served",
                where=before.store.url,
                expected=before.about.log,
                got=now.about.log,
                advice="ask its operator, by another way than this registry",
            )
        if before.log.head:
            now.log.require_continues(before.log.head, whose="the served")
        for name, one in self._served.items():
            if now.shelves.entries[one.entry].ended and shelf.holds(name):
                shelf.take(name)  # before anything that may fail
        faults = [*self._moved(now, shelf, loaded), *self._added(now, shelf, loaded)]
        if faults:  # the next look tries again
            raise faults[0]
        self._registry = now

    def _moved(
        self, now: AdapterRegistry, shelf: AdapterShelf, loaded: Loaded
    ) -> Iterator[PressPoolError]:
        """Follow what is served, each for itself; what kept one from it."""
        for name, one in [*self._served.items()]:
            there = now.shelves.entries[one.entry]
            try:
                if there.ended or (self._in_production and there.stage != "production"):
                    self._replace(name, there, now, shelf, loaded)
                elif there.overrides != one.overrides:  # which every answer has to tell
                    loaded(shelf.put(*self._laid_out(now, there), over=name))
                    self._served[name] = there
            except PressPoolError as error:
                yield error

    def _added(
        self, now: AdapterRegistry, shelf: AdapterShelf, loaded: Loaded
    ) -> Iterator[PressPoolError]:
        """Put up what is in use for a task or a language for which nothing was."""
        slots = {one.slot for one in self._served.values()}
        for one in _in_production(now) if self._in_production else []:
            if one.slot in slots:
                continue
            try:
                loaded(shelf.put(*self._laid_out(now, one)))
            except InputError as error:  # it is for a program of its own: another base model, say
                log.warning("%s is not served here: %s (%s)", one.title, error.what, error.got)
            except PressPoolError as error:
                yield error
            else:
                self._served[one.name] = one
                log.warning("%s is served from now on", one.title)

    def _replace(
        self, name: str, old: Shelved, now: AdapterRegistry, shelf: AdapterShelf, loaded: Loaded
    ) -> None:
        new = now.shelves.in_production(old.slot) if self._in_production else None
        if new is not None:
            loaded(shelf.put(*self._laid_out(now, new), over=name))
            self._served[new.name] = new
        elif shelf.holds(name):
            shelf.take(name)
        if new is None or new.name != name:
            del self._served[name]
        instead = new.title if new else "nothing"
        log.warning("%s is retired; served in its place: %s", old.title, instead)

    def _laid_out(self, registry: AdapterRegistry, one: Shelved) -> tuple[str, Path]:
        return one.name, hand_out(registry, one, self._place)


@contextmanager
def registered(
    url: str, asked: Sequence[str], *, known: Path | None = None, head: Path | None = None
) -> Iterator[RegisteredAdapters]:
    """A registry's adapters; their folders go with the block.

    Args:
        url: of the registry.
        asked: NAME@VERSION, NAME or digests; what is in production if empty.
        known: a copy of its `registry.json` from elsewhere; None to believe its own keys.
        head: a head of its log that somebody kept.

    Raises:
        InputError: nothing is in production, or nothing is called that.
        EvidenceError: the registry or an adapter is damaged, or is not what was signed; it has
            other keys than the known ones.
        RollbackError: its log does not continue the head.
        FolderError, StorageError: there is no registry, or it cannot be reached.
    """
    registry = open_registry(url)
    require_known(registry, about=known, head=head)
    with TemporaryDirectory(prefix="presspool-serve-") as place:
        yield RegisteredAdapters(registry, asked, Path(place))


def _chosen(registry: AdapterRegistry, asked: Sequence[str]) -> list[Shelved]:
    shelves = registry.shelves
    if asked:
        return [shelves.find(which) for which in asked]
    used = _in_production(registry)
    if not used:
        raise InputError(
            "nothing is in production",
            where=registry.store.url,
            expected="an adapter in production, or one by its name",
            advice="presspool adapters promote WHICH, or name what is to be served",
        )
    return used


def _in_production(registry: AdapterRegistry) -> list[Shelved]:
    return [one for one in registry.shelves.entries.values() if one.stage == "production"]
