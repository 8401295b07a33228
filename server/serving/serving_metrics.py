"""How a server fares, as Prometheus metrics: under vLLM's names where it has one.

Invariant: labels are names of adapters that are served, templates of routes, and words of fixed
lists; nothing of a text, a key or a caller.

Example: `ServingMetrics(shelf, queue).exposition()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from presspool.server.serving.asked_calls import CallNote
    from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
    from presspool.server.serving.shelf.work_queue import WorkQueue

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_OF_MODEL = ("model_name",)


class ServingMetrics:
    """Counters of one server.

    Args:
        shelf: what is served.
        queue: where calls wait.
    """

    def __init__(self, shelf: AdapterShelf, queue: WorkQueue) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Now(shelf, queue))
        self._prompt = self._counter("vllm:prompt_tokens", "Tokens that were read.")
        self._written = self._counter("vllm:generation_tokens", "Tokens that were written.")
        self._done = self._counter("vllm:request_success", "Calls that were answered.")
        self._latency = Histogram(
            "vllm:e2e_request_latency_seconds",
            "From a call's header to the end of its answer.",
            _OF_MODEL,
            buckets=SECONDS,
            registry=self._registry,
        )
        self._rows = self._counter("presspool_records", "Records that were asked for.")
        ended = "Calls by route and by how they ended."
        self._calls = self._counter("presspool_calls", ended, ("route", "status"))

    def _counter(self, name: str, what: str, labels: Sequence[str] = _OF_MODEL) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    def count(self, told: CallNote, status: int, seconds: float) -> None:
        """A call ended."""
        self._calls.labels(told.route or "other", str(status)).inc()
        if not told.model:
            return
        self._rows.labels(told.model).inc(told.rows)
        self._prompt.labels(told.model).inc(told.prompt_tokens)
        self._written.labels(told.model).inc(told.completion_tokens)
        if status < 400:
            self._done.labels(told.model).inc()
            self._latency.labels(told.model).observe(seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)


class _Now(Collector):
    """What is true at this moment."""

    def __init__(self, shelf: AdapterShelf, queue: WorkQueue) -> None:
        self._shelf, self._queue = shelf, queue

    def collect(self) -> Iterator[Metric]:
        yield _gauge("vllm:num_requests_running", "Calls at the model.", self._queue.running)
        yield _gauge("vllm:num_requests_waiting", "Calls that wait.", self._queue.waiting)
        served = GaugeMetricFamily(
            "presspool_adapter_info",
            "Adapters that are served, 1 each.",
            labels=("model_name", "adapter", "trunk"),
        )
        for one in self._shelf:
            shared = "shared" if one.alone is None else "own"
            served.add_metric([one.name, one.provenance.adapter, shared], 1)
        yield served


def _gauge(name: str, what: str, value: float) -> Metric:
    found = GaugeMetricFamily(name, what)
    found.add_metric([], value)
    return found
