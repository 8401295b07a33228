"""The Adapters service: what a complete run came to, for the outlets that its contract names.

A part of a run is asked for by the contract's digest and a number, so no name of a file travels.
The adapter travels as its bare arrays: each outlet builds the folder around them itself
(`presspool.client.agent.adapter_fetching`), and believes them only as the consortium log bears out.

Invariants:
    * A run is shown to members that its contract names, dropped ones too, since their readers paid;
      to anybody else it is as if it were not there.
    * One adapter at a time is held in memory, however many outlets fetch it.

Example: `AdapterService(runs, home, member=…, record=mailbox.refuse).register(server)`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from safetensors.numpy import save

from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.base.errors import AdmissionError, FolderError
from presspool.common.contract.contract import Contract
from presspool.common.proto import pool_pb2 as messages
from presspool.common.proto.pool_pb2_grpc import AdaptersServicer, add_AdaptersServicer_to_server
from presspool.common.runs.result_file import RESULT_FILE
from presspool.common.runs.run_folder import RunFolder
from presspool.common.wire.envelope import CHUNK_BYTES
from presspool.server.coordinator.run_queue import Runs, Submitted
from presspool.server.rounds import round_checkpoint as checkpoints
from presspool.server.transport.call_limits import Calls, Limits, Named

log = logging.getLogger(__name__)

MOST_RUNS = 256


class AdapterService(AdaptersServicer):
    """Serves complete runs to their outlets.

    Args:
        runs: the coordinator's.
        home: the folder that has their folders.
        member: whose call this is; raises `AdmissionError` for anybody but a member.
        record: told of refusals.
        limits: of each member.
    """

    def __init__(
        self,
        runs: Runs,
        home: Path,
        *,
        member: Callable[[grpc.ServicerContext], Named],
        record: Callable[[str, str], None],
        limits: Limits | None = None,
    ) -> None:
        self._runs, self._home = runs, home
        self.calls = Calls(member, record=record, limits=limits or Limits())
        self._lock = threading.Lock()
        self._contracts: dict[str, Contract] = {}  # of runs by id; a run's never changes
        self._state: tuple[str, bytes] = "", b""  # the last that was asked for

    def register(self, server: grpc.Server) -> None:
        """Let a server serve this."""
        add_AdaptersServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """End the watch."""
        self.calls.close()

    def List(  # noqa: N802
        self,
        request: messages.ListRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> messages.ListReply:
        """See pool.proto."""
        with self.calls.refusing(context), self.calls.open(context) as stream:
            found = [
                messages.FinishedRun(run=run.id, contract=run.contract, ended=run.ended)
                for run in self._finished(stream.member.name)
            ]
            return messages.ListReply(runs=found[:MOST_RUNS])

    def Fetch(  # noqa: N802
        self, request: messages.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.Chunk]:
        """See pool.proto."""
        with self.calls.refusing(context), self.calls.open(context) as stream:
            finished = self._finished(stream.member.name)
            run = next((run for run in finished if run.contract == request.contract), None)
            if run is None:
                raise AdmissionError("wrong-contract", "no such run", where=stream.member.name)
            data = memoryview(self._part(run, request.part))
            for start in range(0, len(data), CHUNK_BYTES):
                stream.moved()
                self.calls.count(stream)
                yield messages.Chunk(data=bytes(data[start : start + CHUNK_BYTES]))

    def _finished(self, outlet: str) -> list[Submitted]:
        """The complete runs of an outlet, newest first."""
        found = [run for run in self._runs.all() if run.state == "complete"]
        found.sort(key=lambda run: run.ended or 0.0, reverse=True)
        return [run for run in found if self._names(run, outlet)]

    def _names(self, run: Submitted, outlet: str) -> bool:
        """Whether a run's contract names an outlet; of a run whose folder is gone, nobody."""
        try:
            return outlet in self._contract(run).outlets
        except FolderError as error:
            if self.calls.told("gone", run.id):
                log.warning("the adapter of %s cannot be fetched: %s", run.id, error)
            return False

    def _contract(self, run: Submitted) -> Contract:
        if run.id not in self._contracts:
            self._contracts[run.id] = self._folder(run).read_contract()
        return self._contracts[run.id]

    def _folder(self, run: Submitted) -> RunFolder:
        return RunFolder(self._home / "runs" / run.id)

    def _part(self, run: Submitted, part: messages.RunPart) -> bytes:
        folder = self._folder(run)
        if part == messages.RUN_PART_CONTRACT:
            return self._contract(run).canonical()
        if part == messages.RUN_PART_STATE:
            return self._arrays(run, folder)
        files = {
            messages.RUN_PART_RESULT: folder.path / RESULT_FILE,
            messages.RUN_PART_CARD: folder.adapter / CARD_FILE,
        }
        if part not in files:
            raise AdmissionError("malformed", "no such part", where=run.id)
        return files[part].read_bytes() if files[part].exists() else b""

    def _arrays(self, run: Submitted, folder: RunFolder) -> bytes:
        """The adapter after the last round, encoded once for all who fetch it."""
        with self._lock:
            if self._state[0] != run.id:
                point = checkpoints.load(folder.checkpoint, digest=run.contract)
                if point is None:
                    raise AdmissionError("unavailable", "no checkpoint", where=run.id)
                self._state = run.id, save(dict(point.state))
            return self._state[1]
