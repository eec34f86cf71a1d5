"""ProcessMetrics: what each process shows of itself, its calls to servers and its caches."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.service.background_metrics import BackgroundMetrics
from eventfleet.service.metric_definitions import (
    BUILD,
    CACHE_HITS,
    CACHE_MISSES,
    SERVER_ERRORS,
    SERVER_SECONDS,
)
from eventfleet.service.metric_families import histogram_family, number_family
from eventfleet.states.lru_cache import all_cache_statistics
from eventfleet.stores.server_calls import server_calls

UNKNOWN_VERSION = "unknown"


class ProcessMetrics(Collector):
    """The build, the calls to servers and the hits of caches, read at each scrape."""

    def __init__(self) -> None:
        self._build = package_version(), python_version()

    def collect(self) -> Iterator[Metric]:
        yield number_family(BUILD, [(self._build, 1)])
        calls = [((server, operation), each) for server, operation, each in server_calls()]
        yield histogram_family(SERVER_SECONDS, [(names, each.seconds) for names, each in calls])
        yield number_family(SERVER_ERRORS, [(names, each.errors) for names, each in calls])
        caches = list(all_cache_statistics())
        yield number_family(CACHE_HITS, [(name, each.hits) for name, each in caches])
        yield number_family(CACHE_MISSES, [(name, each.misses) for name, each in caches])


@cache
def package_version() -> str:
    """The version of the installed package; from a bare checkout it is unknown."""
    try:
        return version("eventfleet")
    except PackageNotFoundError:
        return UNKNOWN_VERSION


def process_registry() -> CollectorRegistry:
    """A registry with what every process shows; each process adds its own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ProcessMetrics())
    registry.register(BackgroundMetrics())
    return registry
