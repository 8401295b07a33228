"""Calls as OpenTelemetry spans, to a collector that the operator names (the extra `otel`).

Invariants:
    * A span has what the access log has, and the caller's trace and span ids; of what a caller may
      write freely (`tracestate`, `baggage`, paths, texts) it has nothing.
    * A collector that is slow or away delays no call: spans wait in a bounded queue, and are lost.

Example: `CallTraces.to("http://127.0.0.1:4318").ended(note, 200, 0.012)`.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from presspool.common.base.errors import InputError
from presspool.common.base.extras import from_extra
from presspool.server.serving.asked_calls import CallNote


class CallTraces:
    """What makes spans of calls.

    Args:
        provider: OpenTelemetry's, with where spans go.
    """

    def __init__(self, provider: Any) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("presspool.serving")

    @classmethod
    def to(cls, collector: str) -> CallTraces:
        """Spans for a collector's address, as `http://127.0.0.1:4318`, over OTLP/HTTP.

        Raises:
            InputError: no address of a collector, or the extra is missing.
        """
        try:
            found = urlsplit(collector)
            good = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
        except ValueError:  # no port, or half of an IPv6 address
            good = False
        if not good:
            raise InputError(
                "no address of a collector",
                where="--otlp",
                expected="http://HOST:PORT, or https://HOST:PORT",
                got=ascii(collector),
            )
        with from_extra("otel", "no OpenTelemetry here", where="--otlp"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        provider = TracerProvider(resource=Resource.create({"service.name": "presspool"}))
        exporter = OTLPSpanExporter(endpoint=f"{collector.rstrip('/')}/v1/traces", timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    def ended(self, note: CallNote, status: int, seconds: float) -> None:
        """A call's answer was sent."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": note.traceparent})
        end = time.time_ns()
        route = note.route or "other"
        span = self._tracer.start_span(
            f"{note.method} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            start_time=end - int(seconds * 1e9),
            attributes={
                "http.request.method": note.method,
                "http.route": route,
                "http.response.status_code": status,
                "presspool.key": note.key,
                "presspool.records": note.rows,
                "presspool.model_seconds": note.job.seconds if note.job else 0.0,
                "gen_ai.request.model": note.model,
                "gen_ai.usage.input_tokens": note.prompt_tokens,
                "gen_ai.usage.output_tokens": note.completion_tokens,
            },
        )
        span.end(end)

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()
