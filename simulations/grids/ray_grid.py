"""A Flower `Grid` of Ray actors: many outlets on one machine, or on a cluster of them.

Each actor is a worker as `LocalGrid` has them: it loads the base model once and serves one group of
outlets after another, with the same fixed number of threads. It reads settings and records where it
is; what travels is a task's content, which is put into Ray's object store once and fetched once by
a node, and each outlet's answer.

Invariants:
    * The same messages give the same replies as on a `LocalGrid`, with any number of actors, and
      whatever dies (`--deterministic`).
    * An actor that dies, alone or with its node, is replaced, and its outlets' work is done again
      from the same messages: so often, and then it is an error. What a ledger charged for the first
      time stays charged; a round that it has bound is refused there and not trained twice.
    * Nodes that join take actors that wait for a free core; one that lacks a file or has another
      version is refused by name.
    * Records that a URL names are read by an actor of a node that reaches them, and go nowhere.
    * Leaving the block ends the actors, and a Ray that this grid has started.

Example: `with RayGrid(configs, workers=2) as grid: server_app(grid, context)`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict

from presspool.common.base.errors import InputError, PressPoolError
from presspool.common.wire.flower import stamp
from presspool.common.wire.run_grid import RUN_ID
from presspool.simulations.grids.local_grid import answered, prepare_worker
from presspool.simulations.grids.ray_cluster import (
    LOOKS,
    NodeFacts,
    at,
    check_on_nodes,
    facts,
    gpus_here,
    imported,
    joined,
    require_gpus,
    require_nodes,
)
from presspool.simulations.grids.simulation_grid import Check, Place, SimulationGrid

log = logging.getLogger(__name__)

MOST_TRIES = 4  # of one outlet's work, and of one worker's start
LOOK_AGAIN = 5.0  # seconds after which it is looked whether anything can still happen


@dataclass(kw_only=True)
class _Work:
    """A group's messages on their way: everything but their content, and where that lies."""

    envelopes: list[Message]
    content: Any
    settings: list[Path]
    tries: int = 0

    @property
    def names(self) -> list[str]:
        """Whose work it is."""
        return [path.stem for path in self.settings]

    @property
    def outlets(self) -> str:
        """The same in words."""
        return ", ".join(self.names)


class OutletServer:
    """What runs in an actor.

    Args:
        level: of its log.
    """

    def __init__(self, level: int) -> None:
        prepare_worker(level)

    def look(self, outlets: Mapping[str, Path]) -> NodeFacts:
        """What the actor's node says of itself."""
        return facts(outlets)

    def serve(
        self, envelopes: list[Message], content: RecordDict, settings: list[Path]
    ) -> list[Message]:
        """The outlets' answers to messages whose one content came by itself."""
        for envelope in envelopes:
            envelope.content = content
        return answered(envelopes, settings)


class RayGrid(SimulationGrid):
    """Ray actors behind Flower's Grid; arguments as for every `SimulationGrid`."""

    def _set_up(self) -> None:
        self._nodes = {node: path.resolve() for node, path in self._nodes.items()}
        self._workers = max(1, self._workers)
        self._count, self._failed, self._since = 0, 0, 0.0
        self._paths = _by_name(self._nodes.values())
        self._waiting: deque[_Work] = deque()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._working: dict[Any, tuple[Any, _Work]] = {}
        self._nodes_said: list[NodeFacts] = []
        self._elsewhere: dict[Any, frozenset[str]] = {}
        self._replies: dict[str, Message] = {}
        self._open = ExitStack()
        self._ray = self._place.joined or self._open.enter_context(
            joined(self._place, workers=self._workers)
        )
        needs = {"num_cpus": 1, "num_gpus": self._place.gpus, "max_restarts": 0}
        self._kind = self._ray.remote(**needs)(OutletServer)

    @classmethod
    def check(cls, place: Place, *, workers: int) -> None:
        """Look whether Ray is here, with enough GPUs where it is one of this machine's."""
        imported(place)
        if place.address is None:
            require_gpus(gpus_here() if place.gpus else 0, place, workers=workers)

    @classmethod
    @contextmanager
    def at(cls, place: Place, *, workers: int) -> Iterator[Place]:
        """The place, checked; a cluster is joined once, and its nodes fit."""
        with super().at(place, workers=workers):
            if place.address is None:
                yield place
                return
            with joined(place, workers=workers) as ray:
                require_nodes(ray, place, {})
                yield replace(place, joined=ray)

    @classmethod
    def look(cls, place: Place, outlets: Sequence[Path], check: Check) -> None:
        """Ask the nodes of a cluster; what lies under a path was read here."""
        if place.joined is None:
            super().look(place, outlets, check)
            return
        paths = _by_name(path.resolve() for path in outlets)
        nodes = require_nodes(place.joined, place, paths)
        check_on_nodes(place.joined, nodes, paths, check)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Put each content into the object store once and hand out; returns the messages' ids."""
        if not (self._starting or self._idle or self._working):
            self._begin()
        ids: list[str] = []
        stored = dict[int, tuple[RecordDict, Any]]()
        parts = 2 * self._workers if self._workers > 1 else 1  # who is done early finds more to do
        for key, same in groupby(list(messages), key=lambda message: id(message.content)):
            alike = list(same)
            if key not in stored:
                content = alike[0].content
                stored[key] = content, self._ray.put(content)
            ids += self._stamped(alike)
            for near in self._by_reach(alike):
                for group in self._groups(near, parts=parts):
                    self._waiting.append(self._work(group, stored[key][1]))
        self._hand_out()
        return ids

    def _stamped(self, messages: Sequence[Message]) -> list[str]:
        for message in messages:
            self._count += 1
            stamp(message, f"{RUN_ID}-{self._count}")
        return [message.metadata.message_id for message in messages]

    def _by_reach(self, messages: Sequence[Message]) -> Iterable[list[Message]]:
        """Messages of outlets whose records the same nodes reach, side by side."""
        near = dict[tuple[bool, ...], list[Message]]()
        for message in messages:
            name = self._nodes[message.metadata.dst_node_id].stem
            near.setdefault(tuple(name in n.elsewhere for n in self._nodes_said), []).append(
                message
            )
        return near.values()

    def _work(self, group: list[Message], content: Any) -> _Work:
        envelopes = [
            Message(content=RecordDict(), metadata=message.metadata)  # type: ignore[call-overload]
            for message in group
        ]
        settings = [self._nodes[message.metadata.dst_node_id] for message in group]
        return _Work(envelopes=envelopes, content=content, settings=settings)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, in the order of `message_ids`."""
        while self._go_on(0):
            pass
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Hand out messages and wait for all replies, returned in the order of the messages.

        Raises:
            PressPoolError: an outlet's worker, or every worker, died again and again.
            InputError: a node lacks an outlet's file or has another version.
            TimeoutError: `timeout` seconds have passed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        ids = list(self.push_messages(messages))
        missing = set(ids)
        while missing:
            if end is not None and time.monotonic() > end:
                raise TimeoutError
            self._go_on(LOOK_AGAIN if end is None else min(LOOK_AGAIN, end - time.monotonic()))
            for _ in missing & self._replies.keys():
                self._on_reply()
            missing -= self._replies.keys()
        return [self._replies.pop(i) for i in ids]

    def close(self) -> None:
        """End the actors at once, and Ray where this grid started it."""
        actors = [*self._starting.values(), *self._idle, *(a for a, _ in self._working.values())]
        self._starting, self._idle, self._working = {}, [], {}
        self._waiting.clear()
        with self._open:
            for actor in actors:
                self._ray.kill(actor)

    def _begin(self) -> None:
        self._nodes_said = require_nodes(self._ray, self._place, self._paths)
        for _ in range(self._workers):
            self._start()

    def _start(self, node: str | None = None) -> None:
        kind = self._kind.options(scheduling_strategy=at(node)) if node else self._kind
        actor = kind.remote(logging.getLogger("presspool").getEffectiveLevel())
        self._look(actor)
        self._since = time.monotonic()

    def _look(self, actor: Any) -> None:
        self._starting[actor.look.remote(self._paths)] = actor

    def _hand_out(self) -> None:
        for work in list(self._waiting):
            if actor := next((a for a in self._idle if self._reaches(a, work)), None):
                self._idle.remove(actor)
                self._waiting.remove(work)
                answer = actor.serve.remote(work.envelopes, work.content, work.settings)
                self._working[answer] = actor, work
        if self._waiting and self._idle and not self._starting:
            self._move(self._waiting[0])

    def _reaches(self, actor: Any, work: _Work) -> bool:
        return self._elsewhere[actor].isdisjoint(work.names)

    def _move(self, work: _Work) -> None:
        """Let an actor that has nothing to do make room for one where the work's records are."""
        able = [n.key for n in self._nodes_said if n.elsewhere.isdisjoint(work.names)]
        if able and not any(self._reaches(actor, work) for actor, _ in self._working.values()):
            self._ray.kill(self._idle.pop())
            self._start(able[0])

    def _go_on(self, seconds: float) -> bool:
        """Wait so long for anything to happen, and act on it; returns whether it did."""
        asked = [*self._starting, *self._working]
        done, _ = self._ray.wait(asked, timeout=max(0.0, seconds)) if asked else ([], [])
        for answer in done:
            self._ready(answer) if answer in self._starting else self._answered(answer)
        self._hand_out()
        if not done:
            self._require_hope()
        return bool(done)

    def _ready(self, answer: Any) -> None:
        actor = self._starting.pop(answer)
        try:
            said: NodeFacts = self._ray.get(answer)
            said.require_fit()
        except (self._ray.exceptions.RayError, InputError) as error:
            self._failed += 1
            if self._failed >= MOST_TRIES * self._workers:
                raise _given_up("a worker", self._failed, error) from None
            self._replace(actor)
            return
        self._failed = 0
        self._elsewhere[actor] = said.elsewhere
        self._idle.append(actor)

    def _answered(self, answer: Any) -> None:
        actor, work = self._working.pop(answer)
        try:
            replies: list[Message] = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            work.tries += 1
            log.warning(
                "a worker died in the work of %s; it is done again by another", work.outlets
            )
            self._waiting.appendleft(work)
            self._replace(actor)
            if work.tries >= MOST_TRIES:
                raise _given_up(f"the worker of {work.outlets}", work.tries, error) from None
            return
        self._idle.append(actor)
        for envelope, reply, path in zip(work.envelopes, replies, work.settings, strict=True):
            self._replies[envelope.metadata.message_id] = reply
            if reply.has_error() and self._place.address:
                code = reply.error.reason
                log.warning("%s answers %s; why stands in Ray's logs of its node", path.stem, code)

    def _replace(self, actor: Any) -> None:
        self._ray.kill(actor)  # it may be unreachable and not dead
        for other in self._idle:  # what took this one may have taken them too
            self._look(other)
        self._idle = []
        self._start()

    def _require_hope(self) -> None:
        """Raise where no worker works, and none has started for long."""
        if self._waiting and not self._working and time.monotonic() - self._since > LOOKS:
            raise PressPoolError(
                "no worker can start",
                where="Ray",
                expected=f"a free core and {self._place.gpus:g} free GPUs on one node",
                got=f"none in {LOOKS:g} seconds",
                advice="wait until the cluster has room, then continue with --resume",
            )


def _by_name(outlets: Iterable[Path]) -> dict[str, Path]:
    return {path.stem: path for path in outlets}


def _given_up(who: str, times: int, error: Exception) -> PressPoolError:
    if isinstance(error, InputError):  # the node says what it lacks
        return error
    return PressPoolError(
        f"{who} died {times} times",
        where="Ray",
        got=type(error).__name__,
        advice="often too little memory: try fewer --workers, then continue with --resume",
    )
