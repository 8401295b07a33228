"""A round's answer on its way from the ledger to whoever carries it: its exact bytes are on disk.

The bytes are kept, then their digest is bound in the ledger, then they are handed out. A kill
between the last two would lose a round that is paid for; so the app that is asked for a bound round
again hands out the kept bytes, if they are the bound ones.

Invariants:
    * What is bound was kept before: from the release intent on no kill loses the answer.
    * What is handed out again has the digest that the ledger bound to this very run and round.
      Bytes that were kept and never bound are worth nothing: the round is trained anew.

Example: `return hand_out(reply, meter.bind, file)`; `handed_out_before(file, digest)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message, RecordDict

from presspool.common.pki.keys import write_secret
from presspool.common.wire.envelope import body_digest
from presspool.common.wire.flower import from_bytes, to_bytes

ANSWER_FILE = "answer-file"  # of a node's configuration, which is the outlet's own


def file_of(context: Context) -> Path | None:
    """Where this node keeps the answer to the task that it has; None where it keeps none."""
    found = context.node_config.get(ANSWER_FILE)
    return None if found is None else Path(str(found))


def hand_out(reply: Message, bind: Callable[[bytes], str], file: Path | None) -> Message:
    """Keep and bind the reply's exact bytes; the reply may leave when this returns.

    Args:
        reply: with the content that is to leave.
        bind: writes the release intent.
        file: where to keep the bytes, readable by this user alone.

    Raises:
        StorageError: the disk refuses; nothing may leave.
        GuardError: other bytes are bound.
        PlanError: the round did not take exactly its steps.
    """
    data = to_bytes(reply.content)
    if file is not None:
        write_secret(file, data)
    bind(data)
    return reply


def handed_out_before(file: Path | None, digest: str) -> RecordDict | None:
    """The content that is bound by this digest ("" for none), if its bytes were kept."""
    if file is None or not digest or not file.exists():
        return None
    data = file.read_bytes()
    if body_digest(data) != digest:
        return None
    content = from_bytes(data)
    return content if to_bytes(content) == data else None  # what leaves are those bytes
