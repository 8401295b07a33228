"""A caller of the gRPC port, by the code that is made of serving.proto."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from presspool.server.serving.rpc import serving_pb2_grpc
from presspool.server.serving.rpc.rpc_calls import SERVICE


class RpcCaller:
    """Calls methods by name with what a route reads as JSON.

    Args:
        channel: to the port.
        key: of the caller, if it has one.
    """

    def __init__(self, channel: grpc.Channel, key: str | None = None) -> None:
        self._stub = serving_pb2_grpc.ServingStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def begin(self, method: str, body: dict[str, Any], **more: Any) -> Any:
        """A call under way."""
        message = ParseDict(body, GetMessageClass(SERVICE.methods_by_name[method].input_type)())
        ask = getattr(self._stub, method)
        begin = ask if method.endswith("Stream") else ask.future
        return begin(message, **{"metadata": self._metadata, "timeout": 240, **more})

    def ask(self, method: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        """An answer as JSON has it; raises `grpc.RpcError`."""
        return said(self.begin(method, body, **more).result())

    def refused(self, method: str, body: dict[str, Any], **more: Any) -> tuple[str, str]:
        """The code and the words with which a call is refused."""
        error = self.begin(method, body, **more).exception()
        return error.code().name, error.details()


def said(message: Any) -> dict[str, Any]:
    """A message as JSON has it."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found
