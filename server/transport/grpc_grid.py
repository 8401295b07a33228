"""A Flower `Grid` of outlets that dial in: messages become signed tasks in a mailbox.

Invariants:
    * What is sent and what came back lies in the mailbox before it is acted on: a coordinator that
      was killed sends the round's messages again and finds tasks and updates where they were.
    * A phase of a round ends when every outlet that is still a member has answered, or at its
      deadline; who has not answered by then is left out of the phase and asked again in the next.
    * An answer counts if its outlet takes part when it is averaged: a member, and not dropped. Once
      the next phase was handed out, those that it was made of count, and no others: what was handed
      out stays true, whoever goes or comes back.
    * Replies come in the order of the messages, whoever answered first; their arrays stay in the
      mailbox and are read when they are asked for, so that a round needs no more memory with more
      outlets.

Example: `grid = GrpcGrid(mailbox, …)`; `presspool.server.rounds.rounds.run(grid, folder)`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flwr.app import Error, Message, RecordDict

from presspool.common.models.adapters import digest
from presspool.common.pki.keys import SigningKey, key_id
from presspool.common.wire.envelope import (
    EXTRA_BYTES,
    Signed,
    TaskHeader,
    body_digest,
    new_nonce,
    sign_task,
    task_id,
)
from presspool.common.wire.flower import from_stored, node_of, pieces_of, stamp, to_bytes
from presspool.common.wire.run_grid import LEFT_OUT, RunGrid
from presspool.common.wire.update import FAILURES, unpack_task
from presspool.server.transport.mailbox import Mailbox

log = logging.getLogger(__name__)

_ABSENT, _DROPPED = LEFT_OUT
LOOK_SECONDS = 1.0  # between two looks at who is still a member
FLOAT_BYTES = 4


class GrpcGrid(RunGrid):
    """The outlets of one run behind Flower's Grid.

    Args:
        mailbox: where tasks go and updates come in.
        run: the run's id.
        key: the coordinator's contract key.
        outlets: the contract's outlets.
        members: names of all outlets that are members now.
        dropped: names of those that the operator left out of this run, members or not.
        phase: seconds that outlets have for each phase of a round.
        keys: the members' public keys, by which other outlets know them.
        number_bytes: of a number in an answer; in a task it has 4.
        on_reply: called after each reply, for progress.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        run: str,
        key: SigningKey,
        outlets: Iterable[str],
        members: Callable[[], Collection[str]],
        phase: float,
        keys: Callable[[], Mapping[str, bytes]] = dict,
        number_bytes: int = FLOAT_BYTES,
        dropped: Callable[[], Collection[str]] = frozenset,
        on_reply: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._mailbox, self._id, self._key = mailbox, run, key
        self._nodes = {node_of(name): name for name in outlets}
        self._members, self._keys, self._dropped = members, keys, dropped
        self._phase, self._on_reply, self._number_bytes = phase, on_reply, number_bytes
        self._sent: dict[str, Message] = {}
        self._place = 0, 0  # round and phase that were handed out last

    @property
    def outlets(self) -> Mapping[int, str]:
        """Each outlet's node; what comes from it came with the outlet's certificate."""
        return self._nodes

    @property
    def cohort(self) -> Mapping[str, bytes]:
        """The members' keys."""
        return self._keys()

    def get_node_ids(self) -> Iterable[int]:
        """The nodes of the contract's outlets that take part now."""
        out = self._left_out()
        return [node for node, name in self._nodes.items() if name not in out]

    def went_on(self, round: int, phase: int) -> Collection[str]:
        """Those whose next task lies in the mailbox."""
        return self._mailbox.asked(self._id, round, phase + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Put one phase's messages in the mailbox; returns their tasks' ids.

        Raises:
            ValueError: a message is no training task.
            PressPoolError: the phase was handed out before with another body.
        """
        messages = list(messages)
        if not messages:
            return []
        said = self._header(messages[0].content)
        self._place = said["round"], said["phase"]
        body = to_bytes(messages[0].content)
        said |= {
            "body": body_digest(body),
            "bytes": len(body),
            "allowance": len(body) + EXTRA_BYTES + self._wider(messages[0].content),
        }
        tasks = [self._task(message, said) for message in messages]
        self._mailbox.hand_out(tasks, body)
        for message, (header, _) in zip(messages, tasks, strict=True):
            self._sent[header.task] = stamp(message, header.task)
        return [header.task for header, _ in tasks]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, in the order of `message_ids`."""
        sent = {task: self._sent[task] for task in message_ids if task in self._sent}
        return self._replies(sent)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Hand out messages and wait for the replies, returned in the order of the messages.

        Args:
            messages: of one phase.
            timeout: seconds; None for the phase that the run was given.
        """
        ids = list(self.push_messages(messages))
        self._wait(ids, self._phase if timeout is None else timeout)
        self._mailbox.close(ids)
        replies = self.pull_messages(ids)
        for task in ids:
            self._sent.pop(task, None)
        return replies

    def _header(self, content: RecordDict) -> dict[str, Any]:
        """What the headers of all outlets have in common, but for the body."""
        task = unpack_task(content)
        return {
            "key": key_id(self._key.public),
            "run": self._id,
            "contract": task.digest,
            "round": task.round,
            "phase": task.phase,
            "base": digest(task.state),
        }

    def _wider(self, content: RecordDict) -> int:
        """Bytes that an answer's arrays have more than its task's."""
        arrays = (a for record in content.array_records.values() for a in record.values())
        return sum(math.prod(a.shape) for a in arrays) * (self._number_bytes - FLOAT_BYTES)

    def _task(self, message: Message, said: dict[str, Any]) -> tuple[TaskHeader, Signed]:
        name = self._nodes[message.metadata.dst_node_id]
        task = task_id(self._id, said["round"], said["phase"], name)
        header = TaskHeader(**said, outlet=name, nonce=new_nonce(), task=task)
        return header, sign_task(header, self._key)

    def _wait(self, tasks: Sequence[str], seconds: float) -> None:
        until, told = time.monotonic() + seconds, 0
        while True:
            seen = self._mailbox.updates_changed.count
            waiting = self._mailbox.waiting(tasks)  # first, so that each one's answer is told of
            answered = self._mailbox.answered(tasks)
            for _ in range(len(answered) - told):
                self._on_reply()
            told = len(answered)
            out = self._left_out()
            missing = [t for t in tasks if t in waiting and self._name(t) not in out]
            left = until - time.monotonic()
            if not missing or left <= 0:
                break
            self._mailbox.updates_changed.wait(seen, min(left, LOOK_SECONDS))
        if missing:
            log.info("the phase is over without %s", ", ".join(map(self._name, missing)))

    def _name(self, task: str) -> str:
        return self._nodes[self._sent[task].metadata.dst_node_id]

    def _left_out(self) -> dict[str, int]:
        """The contract's outlets that do not take part now, each with its number of `LEFT_OUT`."""
        members, dropped = self._members(), self._dropped()
        return {name: _ABSENT for name in self._nodes.values() if name not in members} | {
            name: _DROPPED for name in self._nodes.values() if name in dropped
        }

    def _replies(self, sent: Mapping[str, Message]) -> Iterator[Message]:
        """What is averaged is judged when it is asked for: by who takes part then."""
        answered, out = self._mailbox.answered(sent), self._left_out()
        if went_on := self.went_on(*self._place):
            others = (name for name in self._nodes.values() if name not in went_on)
            out = {name: out.get(name, _ABSENT) for name in others}
        for task, message in sent.items():
            name = self._nodes[message.metadata.dst_node_id]
            if task in answered:
                left_out = name in out
                said = _not_counted(out[name]) if left_out else self._said(task, message, name)
                yield stamp(Message(said, reply_to=message), f"{task}-reply")

    def _said(self, task: str, sent: Message, outlet: str) -> RecordDict | Error:
        """An outlet's update, or its own word for why there is none."""
        header, body = self._mailbox.update(task)
        if header.failure is not None:
            return Error(code=header.failure, reason=FAILURES[header.failure])
        try:
            # An answer has the arrays of its task, or fewer; of what else it is, admission judges.
            return from_stored(body, most=pieces_of(sent.content))
        except ValueError:
            self._mailbox.refuse(outlet, "malformed", header)
            return Error(code=0, reason="malformed")


def _not_counted(number: int) -> Error:
    return Error(code=number, reason=LEFT_OUT[number])
