"""The Prometheus metrics of a worker process."""

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.roles.parking import Parking
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_statistics import ViewStatistics
from eventfleet.service import metric_definitions as definitions
from eventfleet.service.metric_definitions import MetricDefinition
from eventfleet.service.metric_families import histogram_family, number_family
from eventfleet.service.process_metrics import process_registry
from eventfleet.stores.histogram import Histogram
from eventfleet.stores.readiness_report import ReadinessReason, second
from eventfleet.topics.record import LogRecord

COUNTED = definitions.COUNTED
MAX_REASONS = 100
OTHER_REASON = "other"


class RoleHistograms:
    """How the chunks and records of one role of one domain are distributed."""

    def __init__(self) -> None:
        self.chunk_seconds = Histogram(definitions.CHUNK.bounds)
        self.chunk_records = Histogram(definitions.RECORDS.bounds)
        self.commit_seconds = Histogram(definitions.COMMIT.bounds)
        self.event_age = Histogram(definitions.EVENT_AGE.bounds)


class Metrics(Collector):
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = process_registry()
        self._registry.register(self)
        self._histograms: dict[tuple[str, str], RoleHistograms] = {}
        self._views: dict[str, ViewStatistics] = {}
        self._parkings: dict[tuple[str, str, int], Parking] = {}
        self.counted = {name: self._counter(each) for name, each in definitions.COUNTERS.items()}
        self.rejected = self._counter(definitions.REJECTED)
        self.by_rule = self._counter(definitions.SNAPSHOTS_BY_RULE)
        self.notices = self._counter(definitions.NOTICES)
        self.notices_lost = self._counter(definitions.NOTICES_LOST)
        self.rebalances = self._counter(definitions.REBALANCES)
        self.fenced = self._counter(definitions.FENCED)
        self.retries = self._counter(definitions.RETRIES)
        self.assigned = self._gauge(definitions.ASSIGNED)
        self.lag = self._gauge(definitions.LAG)
        self.lag_seconds = self._gauge(definitions.LAG_SECONDS)
        self.commit_age = self._gauge(definitions.COMMIT_AGE)
        self.stopped = self._gauge(definitions.STOPPED)
        self.parked = self._gauge(definitions.PARKED)

    def register(self, collector: Collector) -> None:
        """Add the metrics of another part of the process."""
        self._registry.register(collector)

    def of(self, domain: str, role: str) -> "Meter":
        """The metrics of one role of one domain."""
        return Meter(self, domain, role)

    def histograms(self, domain: str, role: str) -> RoleHistograms:
        """The histograms of one role of one domain, which all its partitions share."""
        return self._histograms.setdefault((domain, role), RoleHistograms())

    def watch_parking(self, domain: str, role: str, partition: int, parking: Parking) -> None:
        """Read at each rendering what a role parks in a partition."""
        self.parked.labels(domain, role, partition).set_function(lambda: len(parking.aggregates))
        self._parkings[domain, role, partition] = parking

    def forget_parking(self, domain: str, role: str, partition: int) -> None:
        self._parkings.pop((domain, role, partition), None)

    def parked_aggregates(self) -> list[ReadinessReason]:
        """A reason for each partition in which a role parks aggregates."""
        return [
            ReadinessReason(
                kind="parked",
                reason=f"{role} of {domain}, partition {partition} parks "
                f"{len(parking.aggregates)} aggregates, among them {each.aggregate_id!r} "
                f"at version {each.first}: {each.reason}",
                domain=domain,
                role=role,
                partition=partition,
                since=second(each.parked_at),
            )
            for (domain, role, partition), parking in sorted(
                self._parkings.items(), key=lambda known: known[0]
            )
            if (each := next(iter(parking.aggregates.values()), None))
        ]

    def held_builds(self) -> list[ReadinessReason]:
        """A reason for each partition in which a build of a view is held."""
        return [
            ReadinessReason(
                kind="held",
                reason=f"view {build.view} of {domain}, partition {partition}: its next build is "
                f"not made live: it {build.held}",
                domain=domain,
                role="project",
                partition=partition,
            )
            for domain, views in sorted(self._views.items())
            for partition, builds in sorted(views.builds.items())
            for build in builds
            if build.held
        ]

    def views(self, domain: str) -> ViewStatistics:
        """The statistics of a domain's views, which all its partitions share."""
        return self._views.setdefault(domain, ViewStatistics())

    def render(self) -> bytes:
        """Render all values in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        by_role = self._histograms.items()
        yield histogram_family(definitions.CHUNK, [(k, h.chunk_seconds) for k, h in by_role])
        yield histogram_family(definitions.RECORDS, [(k, h.chunk_records) for k, h in by_role])
        yield histogram_family(definitions.COMMIT, [(k, h.commit_seconds) for k, h in by_role])
        yield histogram_family(definitions.EVENT_AGE, [(k, h.event_age) for k, h in by_role])
        yield from self._collect_views()

    def _collect_views(self) -> Iterator[Metric]:
        by_domain = list(self._views.items())
        rows = [((d, name), n) for d, views in by_domain for name, n in views.rows.items()]
        builds = [
            ((domain, build.view, build.kind, str(partition)), build)
            for domain, views in by_domain
            for partition, found in views.builds.items()
            for build in found
        ]
        yield number_family(definitions.VIEW_ROWS, rows)
        yield number_family(definitions.VIEW_READY, [(k, float(b.ready)) for k, b in builds])
        yield number_family(definitions.VIEW_BEHIND, [(k, b.behind) for k, b in builds])

    def _counter(self, each: MetricDefinition) -> Counter:
        return Counter(each.name, each.help, each.labels, registry=self._registry)

    def _gauge(self, each: MetricDefinition) -> Gauge:
        return Gauge(each.name, each.help, each.labels, registry=self._registry)


class Meter:
    """Counts the work of one role of one domain; `total` sums its chunks and ticks.

    `fields` are those of log lines about it.
    """

    def __init__(self, metrics: Metrics, domain: str, role: str) -> None:
        self.total = ChunkReport()
        self.title = f"{role} of {domain}"
        self.fields = {"domain": domain, "role": role}
        self._metrics, self._domain = metrics, domain
        self._labels = (domain, role)
        self._histograms = metrics.histograms(domain, role)
        self._reasons: set[str] = set()
        self._halted: Sequence[int] = ()
        counters = (metrics.rebalances, metrics.fenced, metrics.retries)
        self._counters = {n: c.labels(*self._labels) for n, c in metrics.counted.items()}
        for counter in counters:
            counter.labels(*self._labels)

    def assigned(self, partitions: int) -> None:
        """Count a rebalance, which has assigned so many partitions."""
        self._metrics.rebalances.labels(*self._labels).inc()
        self._metrics.assigned.labels(*self._labels).set(partitions)

    def watch(
        self,
        partition: int,
        lag: Callable[[], float],
        lag_seconds: Callable[[], float],
        age: Callable[[], float],
    ) -> None:
        """Read a partition's lag and age at each rendering, until `forget`."""
        labels, metrics = (*self._labels, partition), self._metrics
        metrics.lag.labels(*labels).set_function(lag)
        metrics.lag_seconds.labels(*labels).set_function(lag_seconds)
        metrics.commit_age.labels(*labels).set_function(age)
        metrics.stopped.labels(*labels).set(partition in self._halted)
        metrics.parked.labels(*labels)

    def forget(self, partition: int) -> None:
        """Drop the gauges of a partition that is no longer ours."""
        self._metrics.forget_parking(*self._labels, partition)
        m = self._metrics
        for gauge in (m.lag, m.lag_seconds, m.commit_age, m.stopped, m.parked):
            gauge.remove(*self._labels, partition)
        if partition in self._halted:
            self.stopped(partition)

    def add_chunk(
        self, seconds: float, report: ChunkReport, records: Sequence[LogRecord] = ()
    ) -> None:
        """Count a chunk that was just done."""
        histograms = self._histograms
        histograms.chunk_seconds.observe(seconds)
        histograms.chunk_records.observe(len(records))
        timestamps = [record.timestamp for record in records]
        histograms.event_age.observe_ages(timestamps, time.time_ns() // 1_000_000)
        self.add(report)

    def add(self, report: ChunkReport) -> None:
        """Add the report of a chunk or a tick."""
        self.total += report
        for name, counter in self._counters.items():
            if amount := getattr(report, name):
                counter.inc(amount)
        for reason, amount in report.reasons.items():
            self._metrics.rejected.labels(*self._labels, self._reason_label(reason)).inc(amount)
        for rule, amount in report.rules.items():
            self._metrics.by_rule.labels(self._domain, rule).inc(amount)

    def _reason_label(self, reason: str) -> str:
        """The reason, or OTHER_REASON: rules may put amounts in reasons, which have no end."""
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
        return reason if reason in self._reasons else OTHER_REASON

    def fenced(self) -> None:
        """Count a partition that another owner has taken over."""
        self._metrics.fenced.labels(*self._labels).inc()

    def stopped(self, partition: int) -> None:
        """Note that a fault has stopped the role at a partition, until `forget`."""
        self._metrics.stopped.labels(*self._labels, partition).set(1)

    def halted(self, partitions: Sequence[int]) -> None:
        """Note that the role is stopped at these partitions, for as long as the process runs."""
        self._halted = partitions
        for partition in partitions:
            self.stopped(partition)

    def retried(self) -> None:
        """Count a partition that is opened again after a fault."""
        self._metrics.retries.labels(*self._labels).inc()
