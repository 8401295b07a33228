"""`grpc.health.v1` of the gRPC port: whether the server answers, or stops.

grpcio-health's own servicer waits, before it says that a server stops, for all who watch to read.

Invariants:
    * NOT_SERVING from the moment that the server stops, whatever others read or do not.
    * Who asks for health needs no key, and takes no place of a call's.

Example: `server.add_generic_rpc_handlers([health_handlers(draining, admitted=admitted)])`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from presspool.common.audit.dashboard.serving import IDLE_SECONDS
from presspool.server.serving.request_gate import Draining
from presspool.server.serving.rpc.rpc_calls import CODES, SERVICE, cut_off

MOST: Final[Mapping[str, int]] = {"Check": 16, "Watch": 8}  # under way at once
_LOOK = 0.05  # seconds between two looks whether the server stops


def health_handlers(
    draining: Draining, *, admitted: Callable[[Mapping[str, Any]], bool]
) -> grpc.GenericRpcHandler:
    """The service's methods.

    Args:
        draining: the server's.
        admitted: whether a connection may call, by what gRPC knows of it.
    """
    under_way = Counter[str]()

    def handler(name: str) -> grpc.RpcMethodHandler:
        async def answer(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            if not admitted(context.auth_context()):
                await context.abort(CODES[403], "not a connection that may call")
            if under_way[name] >= MOST[name]:
                await context.abort(CODES[429], "too many ask for health")
            under_way[name] += 1
            try:
                await _told(context, draining, watches=name == "Watch")
            finally:
                under_way[name] -= 1

        # As a stream, else gRPC would wait for a message for as long as its caller likes.
        return grpc.stream_stream_rpc_method_handler(answer)

    service = DESCRIPTOR.services_by_name["Health"].full_name
    return grpc.method_handlers_generic_handler(service, {name: handler(name) for name in MOST})


async def _told(
    context: grpc.aio.ServicerContext[bytes, bytes], draining: Draining, *, watches: bool
) -> None:
    known, said = await _asked(context) in ("", SERVICE.full_name), ""
    if not known and not watches:
        await context.abort(CODES[404], "no such service")
    while not said or watches:
        now = "NOT_SERVING" if draining.began else "SERVING"
        now = now if known else "SERVICE_UNKNOWN"
        if now != said:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await context.write(HealthCheckResponse(status=now).SerializeToString())
            except (TimeoutError, grpc.aio.InternalError):
                await cut_off(context, "the answer was not read in time")
                return
            said = now
        elif watches:
            await asyncio.sleep(_LOOK)


async def _asked(context: grpc.aio.ServicerContext[bytes, bytes]) -> str | None:
    """Of which service; None and the end of the call where it cannot be read."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            raw = await context.read()
        if isinstance(raw, bytes):  # else its end, and no message before it
            return str(HealthCheckRequest.FromString(raw).service)
    except (TimeoutError, DecodeError):
        pass
    await context.abort(CODES[400], "the call cannot be read")
    return None
