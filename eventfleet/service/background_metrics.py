"""BackgroundMetrics: the failures of a process's background tasks, read by Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from eventfleet.stores.background_task import background_tasks


class BackgroundMetrics(Collector):
    """The failures by task, of the tasks that run at the reading."""

    def collect(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "eventfleet_background_failures", "Failures of background tasks", labels=["task"]
        )
        for task in background_tasks():
            failures.add_metric([task.name], task.failures)
        yield failures
