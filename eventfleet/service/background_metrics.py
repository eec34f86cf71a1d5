"""BackgroundMetrics: a process's background tasks that fail, and gaps, read by Prometheus."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.service.metric_definitions import BACKGROUND_FAILING, BACKGROUND_FAILURES, GAPS
from eventfleet.service.metric_families import number_family
from eventfleet.stores.background_task import BackgroundTask, background_tasks
from eventfleet.stores.gaps import gaps


class BackgroundMetrics(Collector):
    """The failures by task, of the tasks that run at the reading."""

    def collect(self) -> Iterator[Metric]:
        failures = [([task.name], task.failures) for task in background_tasks()]
        yield number_family(BACKGROUND_FAILURES, failures)
        failing = [([task.name], _failing_seconds(task)) for task in background_tasks()]
        yield number_family(BACKGROUND_FAILING, failing)
        yield number_family(GAPS, [([], sum(gap.times for gap in gaps()))])


def _failing_seconds(task: BackgroundTask) -> float:
    since = task.failing_since
    return (datetime.now(UTC) - since).total_seconds() if since else 0.0
