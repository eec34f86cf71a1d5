"""Metrics of the service's requests for Prometheus; families are built at each scrape."""

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

from eventfleet.service.background_metrics import BackgroundMetrics
from eventfleet.service.decider_metrics import DeciderMetrics

BUCKET_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    float("inf"),
)
LABELS = ("route", "method")
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"
"""Replaces other methods: callers could invent any number of label values."""


class Histogram:
    """Durations of the requests of one route and method: their sum and a count per bucket."""

    def __init__(self) -> None:
        self.sum_seconds = 0.0
        self.counts = [0] * len(BUCKET_SECONDS)

    def observe(self, seconds: float) -> None:
        self.sum_seconds += seconds
        self.counts[bisect_left(BUCKET_SECONDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Returns cumulative counts by upper bound, as Prometheus expects them."""
        return [*zip(map(floatToGoString, BUCKET_SECONDS), accumulate(self.counts), strict=True)]


class HttpMetrics(Collector):
    """Counts and durations by route, method and status, in a registry of its own."""

    def __init__(self, active_requests: Callable[[], int], deciders: DeciderMetrics) -> None:
        self._active_requests = active_requests
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._registry = CollectorRegistry()
        self._registry.register(deciders)
        self._registry.register(BackgroundMetrics())
        self._registry.register(self)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Records a request that was answered or whose connection ended."""
        method = method if method in KNOWN_METHODS else OTHER_METHOD
        self._requests[route, method, status] += 1
        histogram = self._histograms.get((route, method))
        if histogram is None:
            histogram = self._histograms[route, method] = Histogram()
        histogram.observe(seconds)

    def render(self) -> bytes:
        """Returns all values in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "eventfleet_http_requests", "Requests answered", labels=(*LABELS, "status")
        )
        for (route, method, status), count in self._requests.items():
            requests.add_metric((route, method, str(status)), count)
        seconds = HistogramMetricFamily(
            "eventfleet_http_request_seconds",
            "Seconds from a request to the end of its response",
            labels=LABELS,
        )
        for labels, histogram in self._histograms.items():
            seconds.add_metric(labels, histogram.buckets(), histogram.sum_seconds)
        active = GaugeMetricFamily("eventfleet_http_requests_in_hand", "Requests in progress")
        active.add_metric((), self._active_requests())
        yield from (requests, seconds, active)
