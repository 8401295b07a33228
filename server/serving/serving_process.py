"""A server from its command line to its end.

Invariants:
    * Nothing listens before every adapter is in place.
    * A stop loses no call that was taken in: they are answered first, for `drain` seconds at most.

Example: `with serving(plan) as served: served.wait()`.
"""

from __future__ import annotations

import gc
import ipaddress
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import grpc

from presspool.common.audit.dashboard.serving import SOCKETS, Serving, taken
from presspool.common.audit.dashboard.serving import names as addresses
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.stopping import until_signalled
from presspool.common.pki.certificates import (
    INVITATION,
    certificate_from_der,
    read_certificate,
)
from presspool.common.pki.https import server_context
from presspool.common.released.adapter_folder import read_adapter
from presspool.server.serving.access_keys import AccessKeys
from presspool.server.serving.drift.drift_watch import DriftWatch
from presspool.server.serving.masking import Masking
from presspool.server.serving.registered_adapters import RegisteredAdapters
from presspool.server.serving.request_gate import Draining
from presspool.server.serving.rpc.rpc_port import RpcPort
from presspool.server.serving.serving_app import create_app, queue_of
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf, FolderSource
from presspool.server.serving.tracing import CallTraces
from presspool.server.serving.trials import AdapterTrial

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})=(.+)", re.DOTALL)
LINGER = 0.5  # seconds in which callers that keep a connection are told that the server stops
_TIDYING = 5.0
SWITCH = 0.0005  # seconds after which a thread lets another one have Python
FOLLOWED = 30.0  # seconds after which a registry is looked at again


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """What a port shows, and whom it lets in.

    Attributes:
        certificate: the port's, PEM; None for no TLS.
        key: its private key, PEM.
        root: who signs callers' certificates, PEM, a pool's root say; None to ask for none.
        plain: whether somebody vouches for the network before a port without TLS.
    """

    certificate: Path | None = None
    key: Path | None = None
    root: Path | None = None
    plain: bool = False

    def context(self) -> ssl.SSLContext | None:
        """For connections; None without TLS.

        Raises:
            InputError: half of it, or a file that cannot be used.
        """
        if self.certificate is None or self.key is None:
            if self.certificate or self.key or self.root:
                raise InputError(
                    "half of what TLS needs",
                    where="--tls-cert",
                    expected="--tls-cert and --tls-key",
                )
            return None
        try:
            root = None if self.root is None else self.root.read_bytes()
        except OSError as error:
            raise InputError(
                "cannot be read", where="--tls-ca", got=f"{self.root}: {error.strerror}"
            ) from None
        return server_context(self.certificate, self.key, root=root)

    def credentials(self) -> grpc.ServerCredentials | None:
        """The same for gRPC, of files that `context` could use; None without TLS."""
        if self.certificate is None or self.key is None:
            return None
        pair = self.key.read_bytes(), self.certificate.read_bytes()
        root = self.root.read_bytes() if self.root else None
        return grpc.ssl_server_credentials([pair], root, require_client_auth=root is not None)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server at work.

    Attributes:
        address: of HTTP.
        grpc: HOST:PORT of gRPC; "" without it.
        models: names of the adapters.
        wait: until the end.
    """

    address: str
    grpc: str
    models: Sequence[str]
    wait: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class ServingPlan:
    """What a command line asks for.

    Attributes:
        adapters: names and folders.
        host: address of this machine.
        port: 0 for a free one.
        grpc_port: likewise, of gRPC; None for none.
        keys: file of callers' keys; None lets everybody in who reaches the port.
        root: folder of further adapters, if any may come.
        drain: seconds that a stop waits.
        masking: what masks what is asked.
        tls: files of certificates.
        trials: adapters beside others.
        traces: what makes spans of calls, if anything.
        page: whether a browser gets a page to ask by.
        reference: public file that what is asked is held against, if any.
        registered: what of `adapters` comes from a registry that is followed, if anything.

    Raises:
        InputError: nothing to serve, a name twice, an open port without keys or TLS, certificates
            that cannot be used.
    """

    adapters: Sequence[tuple[str, Path]]
    host: str
    port: int
    keys: Path | None
    root: Path | None
    drain: float
    masking: Masking
    tls: TlsFiles
    grpc_port: int | None = None
    trials: Sequence[AdapterTrial] = ()
    traces: CallTraces | None = None
    page: bool = False
    reference: Path | None = None
    registered: RegisteredAdapters | None = None

    def __post_init__(self) -> None:
        if not self.adapters:
            raise InputError(
                "nothing to serve",
                expected="adapters' folders, or --registry",
                advice="presspool serve RUN",
            )
        names = [name for name, _ in self.adapters]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(
                "two adapters of one name",
                got=", ".join(sorted(twice)),
                advice="give names: NAME=FOLDER",
            )
        if not _loopback(self.host):
            _check_guarded(self.host, keyed=self.keys is not None, tls=self.tls)
        self.tls.context()


def _check_guarded(host: str, *, keyed: bool, tls: TlsFiles) -> None:
    """Raises `InputError` for a port that others can reach, and nothing guards."""
    if not keyed and tls.root is None:
        raise InputError(
            "a port that others can reach asks for keys",
            where="--host",
            got=host,
            expected="127.0.0.1, or --keys, or --tls-ca",
            advice="make a key with `presspool serve-key NAME --keys keys.json`",
        )
    if tls.certificate is None and not tls.plain:
        raise InputError(
            "keys and texts would cross the network for all to read",
            where="--host",
            got=host,
            expected="--tls-cert and --tls-key",
            advice="or say --plain, where a proxy of your house ends TLS before this port",
        )


@contextmanager
def serving(plan: ServingPlan) -> Iterator[Served]:
    """Serve for as long as the block lasts.

    Raises:
        InputError: a file of keys that cannot be read, a port that cannot be listened at; as
            `create_app`.
    """
    # Else who reads and answers calls waits 5 ms for Python, each time that the model has it.
    sys.setswitchinterval(SWITCH)
    keys, tls = AccessKeys(plan.keys) if plan.keys else None, plan.tls.context()
    listener = taken(plan.host, plan.port, an_address=SOCKETS)
    port = listener.getsockname()[1]
    shelf = AdapterShelf.of(plan.adapters)
    drift = DriftWatch.of(plan.reference, shelf) if plan.reference else None
    queue, draining = queue_of(shelf, drift), Draining()
    hosts, admit = addresses(port, plan.host, "localhost"), _calls if plan.tls.root else None
    app = create_app(
        shelf,
        queue,
        draining,
        source=FolderSource(plan.root) if plan.root else None,
        keys=keys,
        hosts=None if plan.tls.root else hosts,
        masking=plan.masking,
        trials=plan.trials,
        traces=plan.traces,
        page=plan.page,
        drift=drift,
    )
    rpc = None
    if plan.grpc_port is not None:
        rpc = RpcPort(
            app,
            draining,
            address=(plan.host, plan.grpc_port),
            host=min(hosts),
            tls=plan.tls.credentials(),
            admit=admit,
        )
    gc.collect()
    gc.freeze()  # else a collection looks at all that was loaded, for 0.4 s in mid-call
    grace = plan.drain + LINGER + _TIDYING
    tell = drift.follow_loaded if drift else lambda _: None
    with (
        plan.registered.followed(shelf, tell, FOLLOWED) if plan.registered else nullcontext(),
        until_signalled(grace=grace) as signalled,
        Serving(
            app,
            listener,
            tls=tls,
            admit=admit,
            connections=SOCKETS,
            beside=rpc,
        ) as server,
    ):

        def stop() -> None:
            draining.drain(plan.drain)
            time.sleep(LINGER)
            server.stop()

        signalled.then(stop)
        scheme = "https" if tls else "http"
        yield Served(
            address=f"{scheme}://{plan.host}:{port}",
            grpc=rpc.address if rpc else "",
            models=[one.name for one in shelf],
            wait=server.wait,
        )
    gc.unfreeze()
    queue.close()
    plan.masking.close()
    if plan.traces:
        plan.traces.close()


def _calls(certificate: bytes) -> bool:
    """Whether a client may call: all whom the authority vouches for, but a pool's invitations."""
    try:
        return read_certificate(certificate_from_der(certificate)).kind != INVITATION
    except EvidenceError:
        return False


def named(typed: str) -> tuple[str, Path]:
    """The name and the folder that somebody typed; a folder alone has its run's name."""
    if found := _NAMED.fullmatch(typed):
        return found[1], Path(found[2])
    path = Path(typed)
    return read_adapter(path).contract.name, path


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
