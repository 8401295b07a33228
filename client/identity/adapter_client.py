"""The outlet's calls to the Adapters service: which runs are complete, and what they came to.

Invariants:
    * A run's parts are asked for by its contract's digest and a number; no name comes back that is
      taken for a file's.
    * Nothing is read beyond a cap, and nothing here is believed: `presspool.client.agent.
      adapter_fetching` holds it against the log.

Example: `link.part(contract, AdapterClient.STATE, most=1 << 20)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from presspool.client.identity.coordinator_client import Line
from presspool.common.base.errors import EvidenceError
from presspool.common.proto import pool_pb2 as messages
from presspool.common.proto.pool_pb2_grpc import AdaptersStub

CALL_SECONDS, PART_SECONDS = 60.0, 3600.0
MOST_RUNS = 256
_RUN, _DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class OfferedRun:
    """A complete run, as the coordinator says.

    Attributes:
        run: its id there; for people.
        contract: its contract's digest.
        ended: POSIX seconds.
    """

    run: str
    contract: str
    ended: float


class AdapterClient:
    """Calls to one coordinator.

    Args:
        address: its host and port, for messages.
        dial: makes a channel.
    """

    CONTRACT, STATE = messages.RUN_PART_CONTRACT, messages.RUN_PART_STATE
    RESULT, CARD = messages.RUN_PART_RESULT, messages.RUN_PART_CARD

    def __init__(self, address: str, dial: Callable[[], grpc.Channel]) -> None:
        self._line = Line(address, dial)

    def runs(self) -> list[OfferedRun]:
        """The complete runs that this outlet is part of, newest first.

        Raises:
            EvidenceError: what came is no such list.
            LinkError: trying again may help.
            AdmissionError: the coordinator refuses this outlet.
        """
        with self._line.calling() as channel:
            stub: Any = AdaptersStub(channel)  # type: ignore[no-untyped-call]
            found = stub.List(messages.ListRequest(), timeout=CALL_SECONDS).runs
        if len(found) > MOST_RUNS or not all(map(_is_well_formed, found)):
            raise EvidenceError(
                "not a list of runs",
                where=self._line.address,
                expected=f"at most {MOST_RUNS} runs with an id and a digest each",
            )
        return [
            OfferedRun(run=one.run, contract=one.contract, ended=max(0.0, one.ended))
            for one in found
        ]

    def part(self, contract: str, part: messages.RunPart, *, most: int) -> bytes:
        """A part of a run; empty where it has none.

        Args:
            contract: digest of the run's.
            part: which.
            most: bytes that it may have.

        Raises:
            EvidenceError: it has more; what came was thrown away.
            LinkError: also in the middle.
            AdmissionError: the coordinator refuses: no such run of this outlet, say.
        """
        asked, data = messages.FetchRequest(contract=contract, part=part), bytearray()
        with self._line.calling() as channel:
            stub: Any = AdaptersStub(channel)  # type: ignore[no-untyped-call]
            for chunk in stub.Fetch(asked, timeout=PART_SECONDS):
                data += chunk.data
                if len(data) > most:  # leaving the block hangs up
                    raise EvidenceError(
                        "more than this part of the run can have",
                        where=f"{self._line.address}, {messages.RunPart.Name(part)}",
                        expected=f"at most {most} bytes",
                        got=f"{len(data)} bytes, and more to come",
                        advice="nothing was kept; ask the coordinator's operator",
                    )
        return bytes(data)

    def close(self) -> None:
        """Hang up."""
        self._line.close()


def _is_well_formed(one: Any) -> bool:
    return bool(_RUN.fullmatch(one.run) and _DIGEST.fullmatch(one.contract) and one.ended >= 0)
