"""ProcessMetrics: what each process shows of itself, its tasks, calls to servers and caches."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.service.metric_definitions import (
    BACKGROUND_FAILING,
    BACKGROUND_FAILURES,
    BUILD,
    CACHE_HITS,
    CACHE_MISSES,
    GAPS,
    SERVER_ERRORS,
    SERVER_SECONDS,
    TOPIC_FAULTS,
)
from eventfleet.service.metric_families import histogram_family, number_family
from eventfleet.states.lru_cache import all_cache_statistics
from eventfleet.stores.background_task import BackgroundTask, background_tasks
from eventfleet.stores.gaps import gaps
from eventfleet.stores.server_calls import server_calls
from eventfleet.stores.topic_faults import topic_faults

UNKNOWN_VERSION = "unknown"


class ProcessMetrics(Collector):
    """The build, the calls to servers, the hits of caches, the failures of background tasks that
    run, gaps and faults of topics, read at each scrape."""

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
        tasks = background_tasks()
        yield number_family(BACKGROUND_FAILURES, [([task.name], task.failures) for task in tasks])
        failing = [([task.name], _failing_seconds(task)) for task in tasks]
        yield number_family(BACKGROUND_FAILING, failing)
        yield number_family(GAPS, [([], sum(gap.times for gap in gaps()))])
        faults = {(fault.domain, fault.topic): 1.0 for fault in topic_faults()}
        yield number_family(TOPIC_FAULTS, faults.items())


def _failing_seconds(task: BackgroundTask) -> float:
    since = task.failing_since
    return (datetime.now(UTC) - since).total_seconds() if since else 0.0


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
    return registry
