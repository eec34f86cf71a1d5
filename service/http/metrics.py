"""What the service measures of its requests, for Prometheus."""

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service.tallies import Tallies

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WHERE = ("route", "method")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Anybody may make methods up."""


class HttpMetrics:
    """By route, method and status, in a registry of their own."""

    def __init__(self, in_hand: Callable[[], int], tallies: Tallies) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(tallies)
        self._requests = Counter(
            "eventfleet_http_requests",
            "Requests answered",
            (*WHERE, "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "eventfleet_http_request_seconds",
            "Seconds from a request to the end of its answer",
            WHERE,
            buckets=SECONDS,
            registry=self._registry,
        )
        self._counter = cache(self._requests.labels)
        self._timer = cache(self._seconds.labels)
        gauge = Gauge(
            "eventfleet_http_requests_in_hand", "Requests under way", registry=self._registry
        )
        gauge.set_function(in_hand)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, or its connection ended."""
        method = method if method in METHODS else OTHER
        self._counter(route, method, status).inc()
        self._timer(route, method).observe(seconds)

    def page(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)
