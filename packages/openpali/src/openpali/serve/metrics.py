"""What Prometheus reads from ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openpali.serve.scheduler import Scheduler
from openpali.serve.tickets import Ticket

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one server. :meth:`finished` sees each request that has ended."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "openpali_http_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self._ended = Counter("openpali_generations", "Requests that ended, by how", ["how"], registry=registry)
        self._tokens = Counter("openpali_generated_tokens", "Tokens written, EOS included", registry=registry)
        self._first = Histogram(
            "openpali_first_token_seconds", "To the first token", buckets=_SECONDS, registry=registry
        )
        self._whole = Histogram("openpali_answer_seconds", "To the answer", buckets=_SECONDS, registry=registry)

    def watch(self, scheduler: Scheduler) -> None:
        """Show the state of a scheduler."""
        self._registry.register(_State(scheduler))

    def finished(self, ticket: Ticket) -> None:
        """Count a request that has ended."""
        error = ticket.future.exception()
        self._ended.labels("answered" if error is None else type(error).__name__).inc()
        if error is None:
            self._tokens.inc(sum(len(each.log_probs) for each in ticket.future.result()))
            self._first.observe(ticket.first_token - ticket.submitted)
            self._whole.observe(ticket.finished - ticket.submitted)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _State(Collector):
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        scheduler = self._scheduler
        yield GaugeMetricFamily("openpali_waiting_requests", "Requests that wait for slots", scheduler.waiting)
        yield GaugeMetricFamily("openpali_used_slots", "Hypotheses that are decoded", scheduler.used)
        yield GaugeMetricFamily("openpali_slots", "Hypotheses that can be decoded together", scheduler.slots)
        cache = scheduler.features
        yield GaugeMetricFamily("openpali_image_cache_bytes", "Visual tokens that are kept", cache.size)
        yield CounterMetricFamily("openpali_image_cache_hits", "Images that were embedded before", cache.hits)
        yield CounterMetricFamily("openpali_image_cache_misses", "Images that had to be embedded", cache.misses)
