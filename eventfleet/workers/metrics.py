"""The Prometheus metrics of a worker process."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from eventfleet.roles.role import ChunkReport
from eventfleet.service.background_metrics import BackgroundMetrics

ROLE_LABELS = ("domain", "role")
PARTITION_LABELS = ("domain", "role", "partition")
CHUNK_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAX_REASONS = 100
OTHER_REASON = "other"
COUNTED = {
    "stored": "Events stored",
    "repeated": "Repeats of events dropped, and of commands answered",
    "dead_letters": "Records put among the dead letters",
    "superseded": "Superseded events put among the dead letters",
    "emitted": "Records emitted",
    "snapshots": "Snapshots saved",
    "too_large": "Snapshots not saved because the state is too large",
    "accepted": "Commands accepted",
    "conflicts": "Commands given up because others changed the aggregate each time",
    "failed": "Commands on which the domain's own code raised",
    "nudged": "Aggregates whose events were put and not placed, produced again",
}


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(BackgroundMetrics())
        self.counted = {name: self._counter(name, text) for name, text in COUNTED.items()}
        self.rejected = self._counter("rejected", "Commands rejected", (*ROLE_LABELS, "reason"))
        self.notices = self._counter("notices", "Stage notices published", ())
        self.notices_lost = self._counter("notices_lost", "Stage notices not published", ())
        self.rebalances = self._counter("rebalances", "Times partitions were assigned")
        self.fenced = self._counter("fenced", "Partitions taken over by another owner")
        self.retries = self._counter("retries", "Partitions opened again after a fault")
        self.assigned = self._gauge("assigned_partitions", "Partitions assigned", ROLE_LABELS)
        self.lag = self._gauge("lag", "Offsets of the source that wait", PARTITION_LABELS)
        self.commit_age = self._gauge(
            "last_commit_age_seconds", "Since a chunk was done or there was none", PARTITION_LABELS
        )
        self.stopped = self._gauge(
            "stopped", "1 where a fault has stopped the role at a partition", PARTITION_LABELS
        )
        self.seconds = Histogram(
            "eventfleet_chunk_seconds",
            "Seconds for one chunk",
            ROLE_LABELS,
            buckets=CHUNK_SECONDS_BUCKETS,
            registry=self._registry,
        )

    def register(self, collector: Collector) -> None:
        """Add the metrics of another part of the process."""
        self._registry.register(collector)

    def of(self, domain: str, role: str) -> "Meter":
        """The metrics of one role of one domain."""
        return Meter(self, domain, role)

    def render(self) -> bytes:
        """Render all values in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ROLE_LABELS) -> Counter:
        return Counter(f"eventfleet_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"eventfleet_{name}", text, labels, registry=self._registry)


class Meter:
    """Counts the work of one role of one domain; `total` sums its chunks and ticks."""

    def __init__(self, metrics: Metrics, domain: str, role: str) -> None:
        self.total = ChunkReport()
        self.title = f"{role} of {domain}"
        self._metrics = metrics
        self._labels = (domain, role)
        self._reasons: set[str] = set()
        counters = (metrics.rebalances, metrics.fenced, metrics.retries)
        for counter in (*metrics.counted.values(), *counters):
            counter.labels(*self._labels)

    def assigned(self, partitions: int) -> None:
        """Count a rebalance, which has assigned so many partitions."""
        self._metrics.rebalances.labels(*self._labels).inc()
        self._metrics.assigned.labels(*self._labels).set(partitions)

    def watch(self, partition: int, lag: Callable[[], float], age: Callable[[], float]) -> None:
        """Read a partition's lag and age at each rendering, until `forget`."""
        self._metrics.lag.labels(*self._labels, partition).set_function(lag)
        self._metrics.commit_age.labels(*self._labels, partition).set_function(age)
        self._metrics.stopped.labels(*self._labels, partition).set(0)

    def forget(self, partition: int) -> None:
        """Drop the gauges of a partition that is no longer ours."""
        for gauge in (self._metrics.lag, self._metrics.commit_age, self._metrics.stopped):
            gauge.remove(*self._labels, partition)

    def add_chunk(self, seconds: float, report: ChunkReport) -> None:
        """Count a chunk that was done."""
        self._metrics.seconds.labels(*self._labels).observe(seconds)
        self.add(report)

    def add(self, report: ChunkReport) -> None:
        """Add the report of a chunk or a tick."""
        self.total += report
        for name, counter in self._metrics.counted.items():
            if amount := getattr(report, name):
                counter.labels(*self._labels).inc(amount)
        for reason, amount in report.reasons.items():
            self._metrics.rejected.labels(*self._labels, self._reason_label(reason)).inc(amount)

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

    def retried(self) -> None:
        """Count a partition that is opened again after a fault."""
        self._metrics.retries.labels(*self._labels).inc()
