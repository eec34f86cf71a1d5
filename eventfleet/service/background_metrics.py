"""BackgroundMetrics: the failures of a process's background tasks, read by Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.service.metric_definitions import BACKGROUND_FAILURES
from eventfleet.service.metric_families import number_family
from eventfleet.stores.background_task import background_tasks


class BackgroundMetrics(Collector):
    """The failures by task, of the tasks that run at the reading."""

    def collect(self) -> Iterator[Metric]:
        failures = [([task.name], task.failures) for task in background_tasks()]
        yield number_family(BACKGROUND_FAILURES, failures)
