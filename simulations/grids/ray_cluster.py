"""This process's part in a Ray cluster: one that it joins, or one of its own on this machine.

Invariants:
    * Nothing waits for ever: an address is asked whether it answers before Ray is, which would
      wait for minutes and then end the process.
    * A Ray of our own listens on the loopback address alone, reports to nobody, keeps its files in
      a private folder, and is gone when the block is left; one that was joined goes on.
    * `ray` is imported here when it is used, and nowhere when it is not.

Example: ``with joined(Place(), workers=2) as ray: ray.put(1)``.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import presspool
from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import InputError
from presspool.common.base.extras import from_extra
from presspool.common.data.remote_file import RemoteFile
from presspool.simulations.grids.own_ray import start_own
from presspool.simulations.grids.simulation_grid import Check, Place

ANSWERS = 10.0  # seconds in which a cluster says that it is there
LOOKS = 120.0  # seconds in which its nodes say what they have; Python starts on them first
WHERE = "--ray-address"
Paths = Mapping[str, Path]  # outlet to its settings


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a node says of itself.

    Attributes:
        node: its host, and its number in the cluster.
        python: version.
        presspool: version.
        key: its number in the cluster.
        missing: outlets of which it cannot read a file, and the file.
        elsewhere: outlets whose records a URL names and it cannot reach.
    """

    node: str
    python: str
    presspool: str
    key: str
    missing: Mapping[str, str]
    elsewhere: frozenset[str]

    def require_fit(self) -> None:
        """Raise `InputError` where this node cannot work for this process."""
        versions = {
            "Python": (platform.python_version(), self.python),
            "PressPool": (presspool.__version__, self.presspool),
        }
        for name, (ours, theirs) in versions.items():
            if ours != theirs:
                raise InputError(
                    f"another version of {name}",
                    where=f"Ray node {self.node}",
                    expected=f"{ours}, as here",
                    got=theirs,
                    advice="install the same on every node",
                )
        for outlet, path in self.missing.items():
            raise InputError(
                f"{outlet} has a file that this node cannot read",
                where=f"Ray node {self.node}",
                expected=path,
                advice="put run folder and data where every node sees them under the same path",
            )


def facts(outlets: Paths) -> NodeFacts:
    """What the node says on which this is called.

    Args:
        outlets: whose files are looked for; their records are not read.
    """
    import ray

    context = ray.get_runtime_context()
    return NodeFacts(
        node=f"{platform.node()} ({context.get_node_id()[:8]})",
        key=context.get_node_id(),
        python=platform.python_version(),
        presspool=presspool.__version__,
        missing={name: gone for name, path in outlets.items() if (gone := _unreadable(path))},
        elsewhere=frozenset(name for name, path in outlets.items() if not _reached(path)),
    )


@contextmanager
def joined(place: Place, *, workers: int) -> Iterator[Any]:
    """The module `ray`, connected to the place's cluster.

    Raises:
        InputError: no Ray here, no cluster there, another version, or too few GPUs.
    """
    ray = imported(place)
    if place.address is not None:
        _require_answer(place.address)
    if ray.is_initialized():
        raise InputError("this process works on a Ray cluster already", where=WHERE)
    at_term = signal.getsignal(signal.SIGTERM)
    folder = None if place.address else tempfile.mkdtemp()
    try:
        _connect(ray, place, workers, folder)
        yield ray
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_term)  # Ray had taken it
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def require_nodes(ray: Any, place: Place, outlets: Paths) -> list[NodeFacts]:
    """Ask every node that could have a worker whether it can work; returns what they say.

    Raises:
        InputError: one cannot, or does not answer; no node reaches an outlet's records.
    """
    able = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _able(node, place)]
    look = ray.remote(num_cpus=0, max_retries=0)(facts)
    asked = [look.options(scheduling_strategy=at(node)).remote(outlets) for node in able]
    if not asked:
        raise InputError(
            "no node that could have a worker",
            where=WHERE,
            expected=f"a node with a core and {place.gpus:g} GPUs",
        )
    found = _answers(ray, asked)
    for one in found:
        one.require_fit()
    for outlet in sorted(frozenset.intersection(*(one.elsewhere for one in found))):
        raise InputError(
            f"no node reaches the records of {outlet}",
            where=WHERE,
            expected=read_settings(outlets[outlet]).file,
            got=f"asked {', '.join(one.node for one in found)}",
            advice="see that [simulation] data and credentials are right on the node that has them",
        )
    return found


def at(node: str) -> Any:
    """Ray's word for: on this node, and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def check_on_nodes(ray: Any, nodes: Sequence[NodeFacts], outlets: Paths, check: Check) -> None:
    """Have each outlet's records checked by the first node that reaches them.

    Raises:
        InputError: what `check` raised there.
    """
    asked = {
        name: ray.remote(num_cpus=0)(_checked)
        .options(scheduling_strategy=at(next(n.key for n in nodes if name not in n.elsewhere)))
        .remote(check, path)
        for name, path in outlets.items()
    }
    for name, answer in asked.items():
        if said := ray.get(answer):
            raise InputError(f"{name} cannot be trained:\n{said}", where=WHERE)


def _checked(check: Check, settings: Path) -> str:
    """What is wrong with an outlet's records, in words; "" for nothing."""
    try:
        check(settings)
    except InputError as error:
        return str(error)
    return ""


def require_gpus(there: float, place: Place, *, workers: int) -> None:
    """Raise `InputError` where workers together ask for more GPUs than there are."""
    if place.gpus * workers > there:
        raise InputError(
            "more GPUs than there are",
            where="[simulation] gpus_per_worker",
            expected=f"at most {there:g} for {workers} workers together",
            got=f"{place.gpus:g} each",
            advice="lower it, or give fewer --workers",
        )


def imported(place: Place) -> Any:
    """The module `ray`, set up for a place; raises `InputError` where it is not installed."""
    loopback = place.address is None or _host(place.address).is_loopback
    # Ray reads these when it is imported, and its processes when they start. The first keeps it on
    # the loopback address, for which it would else take the machine's.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0" if loopback else "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with from_extra("ray", "no Ray here", where="[simulation] grid"):
        import ray
        from ray._private import ray_constants
    ray_constants.ENABLE_RAY_CLUSTER = not loopback  # where it was imported before
    return ray


def _connect(ray: Any, place: Place, workers: int, folder: str | None) -> None:
    if place.address is None:
        gpus = gpus_here() if place.gpus else 0
        require_gpus(gpus, place, workers=workers)
        start_own(ray, workers=workers, gpus=gpus, folder=folder)
        return
    try:
        # Logs of outlets stay on their nodes: they may quote records.
        ray.init(address=place.address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            "the Ray cluster there does not take this process",
            where=f"{WHERE} {place.address}",
            expected="the cluster's versions, and a machine that is one of its nodes",
            got=" ".join(str(error).split()),
        ) from None
    require_gpus(ray.cluster_resources().get("GPU", 0.0), place, workers=workers)


def gpus_here() -> int:
    """GPUs of this machine that may be used."""
    import torch

    return torch.cuda.device_count()


def _require_answer(address: str) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=ANSWERS
            )
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return  # a cluster with tokens: Ray itself knows them
            raise InputError(
                "no Ray cluster answers there",
                where=f"{WHERE} {address}",
                got=error.code().name.lower().replace("_", " "),
                advice="give the address that ray start --head printed, as 10.0.0.5:6379",
            ) from None


@dataclass(frozen=True)
class _Host:
    name: str

    @property
    def is_loopback(self) -> bool:
        return self.name in ("localhost", "::1", "[::1]") or self.name.startswith("127.")


def _host(address: str) -> _Host:
    name, _, port = address.rpartition(":")
    if "/" in address or not name or not port.isdigit():
        raise InputError(
            "not the address of a Ray cluster",
            where=WHERE,
            expected="HOST:PORT, as ray start --head prints it",
            got=address,
            advice="type the command on a machine of the cluster; ray:// is not offered",
        )
    return _Host(name)


def _able(node: Mapping[str, Any], place: Place) -> bool:
    has = node["Resources"]
    return bool(has.get("CPU", 0) >= 1 and has.get("GPU", 0) >= place.gpus)


def _answers(ray: Any, asked: Sequence[Any]) -> list[NodeFacts]:
    try:
        found: list[NodeFacts] = ray.get(list(asked), timeout=LOOKS)
    except (ray.exceptions.RayError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            "a node of the Ray cluster cannot look for this run's files",
            where=WHERE,
            expected="PressPool of this version on every node",
            got=lines[-1].strip(),
            advice="install it there, or take the node out",
        ) from None
    return found


def _unreadable(settings: Path) -> str:
    """The first of an outlet's files that this node cannot read; "" where it can."""
    if not os.access(settings, os.R_OK):
        return str(settings)
    data = read_settings(settings).file
    return "" if isinstance(data, RemoteFile) or os.access(data, os.R_OK) else str(data)


def _reached(settings: Path) -> bool:
    """Whether records that a URL names are there for this node; those of a path are."""
    try:
        data = read_settings(settings).file
        return not isinstance(data, RemoteFile) or data.is_file()
    except InputError:
        return False
