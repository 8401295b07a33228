"""One update on its way in: counted, hashed and staged chunk by chunk.

Invariants:
    * No more is held than `BATCH_BYTES`, and no more is taken than the header declares.
    * What is staged becomes an update only as a whole, with the digest that was declared.

Example: `upload.add(chunk)` for each chunk, `upload.finish()`, and `upload.close()` whatever comes.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from presspool.common.base.errors import AdmissionError
from presspool.common.wire.envelope import CHUNK_BYTES, Signed, UpdateHeader

if TYPE_CHECKING:
    from presspool.server.transport.mailbox import Mailbox

BATCH_BYTES = 8 * CHUNK_BYTES  # staged in one transaction, and the most that an upload holds


class Upload:
    """One update on its way in; to be closed whatever happens.

    Attributes:
        header: what the outlet declared.
        signed: the header's exact bytes.
        id: owner of its chunks.
        kept: whether it has become the task's update.
    """

    def __init__(self, mailbox: Mailbox, header: UpdateHeader, signed: Signed) -> None:
        self.header, self.signed, self.id = header, signed, secrets.token_hex(16)
        self.kept = False
        self._mailbox, self._hash = mailbox, hashlib.sha256()
        self._batch: dict[int, bytes] = {}
        self._chunks = self._bytes = self._held = 0

    def add(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises:
            AdmissionError: no chunk, or more than was declared.
        """
        if not 0 < len(chunk) <= CHUNK_BYTES:
            self._refuse("malformed")
        if self._bytes + len(chunk) > self.header.bytes:
            self._refuse("too-large")
        self._hash.update(chunk)
        self._batch[self._chunks] = chunk
        self._chunks, self._bytes = self._chunks + 1, self._bytes + len(chunk)
        self._held += len(chunk)
        if self._held >= BATCH_BYTES:
            self._mailbox.stage(self.id, self._batch)
            self._batch, self._held = {}, 0

    @property
    def whole(self) -> bool:
        """Whether as much has come as was declared."""
        return self._bytes == self.header.bytes

    def finish(self) -> None:
        """The body is over: keep the update, durably.

        Raises:
            AdmissionError: it is not what was declared, or the task no longer waits for it.
        """
        if not self.whole:
            self._refuse("truncated")
        if "sha256:" + self._hash.hexdigest() != self.header.body:
            self._refuse("wrong-digest")
        self._mailbox.complete(self, self._batch)

    def close(self) -> None:
        """Throw away what was staged, unless it has become an update."""
        if not self.kept and self._chunks:
            self._mailbox.discard(self.id)

    def _refuse(self, code: str) -> None:
        self._mailbox.refuse(self.header.outlet, code, self.header)
        raise AdmissionError(code, "refused", where=self.header.outlet)
