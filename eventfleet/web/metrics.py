"""What the service measures of its requests, for Prometheus: put together at each reading."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from eventfleet.service.decider_metrics import DeciderMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, float("inf"))
WHERE = ("route", "method")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""Anybody may make methods up."""


class Histogram:
    """How many requests of one route and method took how many seconds, and all of them together."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counts = [0] * len(SECONDS)

    def observe(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(SECONDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: each with what is in those before it."""
        return [*zip(map(floatToGoString, SECONDS), accumulate(self.counts), strict=True)]


class HttpMetrics(Collector):
    """By route, method and status, in a registry of their own."""

    def __init__(self, in_hand: Callable[[], int], tallies: DeciderMetrics) -> None:
        self._in_hand = in_hand
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._registry = CollectorRegistry()
        self._registry.register(tallies)
        self._registry.register(self)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered, or its connection ended."""
        method = method if method in METHODS else OTHER
        self._answered[route, method, status] += 1
        histogram = self._histograms.get((route, method))
        if histogram is None:
            histogram = self._histograms[route, method] = Histogram()
        histogram.observe(seconds)

    def page(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "eventfleet_http_requests", "Requests answered", labels=(*WHERE, "status")
        )
        for (route, method, status), count in self._answered.items():
            requests.add_metric((route, method, str(status)), count)
        seconds = HistogramMetricFamily(
            "eventfleet_http_request_seconds",
            "Seconds from a request to the end of its answer",
            labels=WHERE,
        )
        for where, histogram in self._histograms.items():
            seconds.add_metric(where, histogram.buckets(), histogram.seconds)
        in_hand = GaugeMetricFamily("eventfleet_http_requests_in_hand", "Requests under way")
        in_hand.add_metric((), self._in_hand())
        yield from (requests, seconds, in_hand)
