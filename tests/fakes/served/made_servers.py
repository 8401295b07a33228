"""A server of adapters in this process, on loopback, as `presspool serve` starts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from presspool.common.audit.dashboard.serving import SOCKETS, Serving, names, taken
from presspool.server.serving.access_keys import AccessKeys
from presspool.server.serving.drift.drift_watch import DriftWatch
from presspool.server.serving.masking import Masking
from presspool.server.serving.request_gate import Draining
from presspool.server.serving.rpc.rpc_port import RpcPort
from presspool.server.serving.serving_app import create_app, queue_of
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf, FolderSource
from presspool.server.serving.shelf.work_queue import WorkQueue
from presspool.server.serving.tracing import CallTraces
from presspool.server.serving.trials import AdapterTrial


@dataclass(frozen=True, kw_only=True)
class MadeServer:
    """A server at work."""

    address: str
    grpc: str
    shelf: AdapterShelf
    queue: WorkQueue
    draining: Draining


@contextmanager
def made_server(
    shelf: AdapterShelf,
    *,
    keys: Path | None = None,
    root: Path | None = None,
    masking: Masking | None = None,
    trials: Sequence[AdapterTrial] = (),
    traces: CallTraces | None = None,
    page: bool = False,
    drift: DriftWatch | None = None,
) -> Iterator[MadeServer]:
    """Serve a shelf for as long as the block lasts."""
    listener = taken("127.0.0.1", 0, an_address=SOCKETS)
    queue, draining = queue_of(shelf, drift), Draining()
    port = listener.getsockname()[1]
    app = create_app(
        shelf,
        queue,
        draining,
        source=FolderSource(root) if root else None,
        keys=AccessKeys(keys) if keys else None,
        hosts=names(port, "127.0.0.1", "localhost"),
        masking=masking or Masking(None),
        trials=trials,
        traces=traces,
        page=page,
        drift=drift,
    )
    rpc = RpcPort(app, draining, address=("127.0.0.1", 0), host=f"127.0.0.1:{port}")
    with Serving(app, listener, connections=SOCKETS, beside=rpc):
        yield MadeServer(
            address=f"http://127.0.0.1:{port}",
            grpc=rpc.address,
            shelf=shelf,
            queue=queue,
            draining=draining,
        )
    queue.close()
