"""Metrics of the service's requests for Prometheus; families are built at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.service.decider_metrics import DeciderMetrics
from eventfleet.service.metric_definitions import (
    COMMANDS,
    HTTP_FEEDS,
    HTTP_FEEDS_CUT,
    HTTP_IN_HAND,
    HTTP_LIMIT,
    HTTP_REQUESTS,
    HTTP_SECONDS,
)
from eventfleet.service.metric_families import histogram_family, number_family
from eventfleet.service.process_metrics import process_registry
from eventfleet.stores.histogram import Histogram
from eventfleet.web.open_feeds import OpenFeeds

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"
"""Replaces other methods: callers could invent any number of label values."""

OutcomeCounts = Mapping[str, Mapping[str, int]]
"""Commands by domain and outcome."""


class HttpMetrics(Collector):
    """Counts and durations by route, method and status, in a registry of its own."""

    def __init__(
        self,
        active_requests: Callable[[], int],
        max_requests: int,
        deciders: DeciderMetrics,
        outcomes: OutcomeCounts,
        feeds: OpenFeeds,
    ) -> None:
        self._active_requests, self._max_requests = active_requests, max_requests
        self._outcomes, self._feeds = outcomes, feeds
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._registry = process_registry()
        self._registry.register(deciders)
        self._registry.register(self)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Records a request that was answered or whose connection ended."""
        method = method if method in KNOWN_METHODS else OTHER_METHOD
        self._requests[route, method, status] += 1
        histogram = self._histograms.get((route, method))
        if histogram is None:
            histogram = self._histograms[route, method] = Histogram(HTTP_SECONDS.bounds)
        histogram.observe(seconds)

    def render(self) -> bytes:
        """Returns all values in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        requests = self._requests.items()
        yield number_family(
            HTTP_REQUESTS,
            [((route, method, str(status)), count) for (route, method, status), count in requests],
        )
        yield histogram_family(HTTP_SECONDS, self._histograms.items())
        yield number_family(HTTP_IN_HAND, [((), self._active_requests())])
        yield number_family(HTTP_LIMIT, [((), self._max_requests)])
        yield number_family(HTTP_FEEDS, [((), self._feeds.shares.held)])
        cuts = self._feeds.cuts.items()
        yield number_family(HTTP_FEEDS_CUT, [((reason,), count) for reason, count in cuts])
        commands = [
            ((domain, outcome), count)
            for domain, counts in self._outcomes.items()
            for outcome, count in counts.items()
        ]
        yield number_family(COMMANDS, commands)
