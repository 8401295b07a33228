"""The two places where we touch Flower's private parts, so that moving its pin is one file's work.

Flower builds a message from process-wide task identity (`TaskIdentity`) and leaves the message id
to its own SuperLink. A Grid of ours has no SuperLink, so it sets the identity and stamps the ids.
A contract test holds both against the pinned version.

Example: `become_server(run_id=1)`; `stamp(message, "1-7")`.
"""

from __future__ import annotations

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1


def become_server(*, run_id: int) -> None:
    """Make this process a run's server, so that it may create messages."""
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE


def stamp(message: Message, message_id: str) -> Message:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id
    return message
