"""Calls as spans at a collector on loopback, and nothing of what was asked in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import grpc
import httpx2
import pytest
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_rpc import RpcCaller
from tests.fakes.served.made_servers import made_server

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.tracing import CallTraces

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="no extra `otel` here")
CANARY = "zebra-canary-3358"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """What takes spans in, as OTLP/HTTP has them."""
    taken = list[bytes]()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("word", ["not-a-url", "127.0.0.1:4318", "http://", "http://x:port", ""])
def test_what_is_no_address_of_a_collector_is_told(word: str) -> None:
    with pytest.raises(InputError, match="no address of a collector"):
        CallTraces.to(word)


def test_spans_have_the_callers_trace_and_no_text(
    tmp_path: Path, contract: Contract, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    shelf = AdapterShelf.of([("cup", made_adapter(tmp_path / "adapter", contract))])
    with caplog.at_level(logging.DEBUG), collector() as (address, taken):
        traces = CallTraces.to(address)
        headers = {
            "traceparent": f"00-{TRACE}-{PARENT}-01",
            "tracestate": f"desk={CANARY}",
            "baggage": f"text={CANARY}",
        }
        with (
            made_server(shelf, traces=traces) as server,
            httpx2.Client(base_url=server.address, headers=headers, timeout=240) as http,
        ):
            asked = {"model": "cup", "input": [CANARY, "goal"], "user": CANARY}
            assert http.post("/classify", json=asked).status_code == 200
            assert http.post(f"/{CANARY}", json={}).status_code == 404
            http.post("/classify", json={"model": CANARY, "input": CANARY})
            http.post("/classify", json=asked, headers={"traceparent": CANARY})
            with grpc.insecure_channel(server.grpc) as channel:
                over_grpc = {"model": "cup", "input": [CANARY]}
                RpcCaller(channel).ask("Classify", over_grpc, metadata=list(headers.items()))
        traces.close()
    assert CANARY.encode() not in b"".join(taken)
    assert CANARY not in "\n".join(
        one.getMessage() for one in caplog.records if not one.name.startswith("http")
    )
    spans = [
        span
        for body in taken
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [one.name for one in spans] == ["POST /classify", "POST other", *["POST /classify"] * 3]
    assert {one.trace_id.hex() == TRACE for one in spans[:3]} == {True}
    assert spans[0].parent_span_id.hex() == PARENT
    assert spans[3].trace_id.hex() != TRACE
    assert (spans[4].trace_id.hex(), spans[4].parent_span_id.hex()) == (TRACE, PARENT)
    said = {one.key: one.value for one in spans[0].attributes}
    assert said["presspool.records"].int_value == 2
    assert said["gen_ai.request.model"].string_value == "cup"
    assert said["http.response.status_code"].int_value == 200
