"""What a process measures of its work, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from eventfleet.roles.role import ChunkReport
from eventfleet.service.decider_metrics import DeciderMetrics

WHERE = ("domain", "role")
EACH = ("domain", "role", "partition")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
REASONS = 100
OTHER = "other"
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
    "nudged": "Aggregates whose events were put and not placed, produced again",
}


class Metrics:
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.counted = {name: self._counter(name, text) for name, text in COUNTED.items()}
        self.rejected = self._counter("rejected", "Commands rejected", (*WHERE, "reason"))
        self.notices = self._counter("notices", "Notices told to those who wait for events", ())
        self.notices_lost = self._counter("notices_lost", "Notices that could not be told", ())
        self.tallies = DeciderMetrics()
        self._registry.register(self.tallies)
        self.rebalances = self._counter("rebalances", "Times partitions were assigned")
        self.fenced = self._counter("fenced", "Partitions taken over by another owner")
        self.retries = self._counter("retries", "Partitions opened again after a fault")
        self.assigned = self._gauge("assigned_partitions", "Partitions assigned", WHERE)
        self.lag = self._gauge("lag", "Offsets of the source that wait", EACH)
        self.commit_age = self._gauge(
            "last_commit_age_seconds", "Since a chunk was done or there was none", EACH
        )
        self.seconds = Histogram(
            "eventfleet_chunk_seconds",
            "Seconds for one chunk",
            WHERE,
            buckets=SECONDS,
            registry=self._registry,
        )

    def of(self, domain: str, role: str) -> "Meter":
        """The instruments as one role of one domain uses them."""
        return Meter(self, domain, role)

    def page(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = WHERE) -> Counter:
        return Counter(f"eventfleet_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"eventfleet_{name}", text, labels, registry=self._registry)


class Meter:
    """Counts the work of one role of one domain; `total` is what its chunks and ticks came to."""

    def __init__(self, metrics: Metrics, domain: str, role: str) -> None:
        self.total = ChunkReport()
        self._metrics = metrics
        self._where = (domain, role)
        self._reasons: set[str] = set()
        counters = (metrics.rebalances, metrics.fenced, metrics.retries)
        for counter in (*metrics.counted.values(), *counters):
            counter.labels(*self._where)

    def assigned(self, partitions: int) -> None:
        """A rebalance gave us so many."""
        self._metrics.rebalances.labels(*self._where).inc()
        self._metrics.assigned.labels(*self._where).set(partitions)

    def watch(self, partition: int, lag: Callable[[], float], age: Callable[[], float]) -> None:
        """Ask these of a partition at each reading, until `forget`."""
        self._metrics.lag.labels(*self._where, partition).set_function(lag)
        self._metrics.commit_age.labels(*self._where, partition).set_function(age)

    def forget(self, partition: int) -> None:
        """The partition is no longer ours."""
        for gauge in (self._metrics.lag, self._metrics.commit_age):
            gauge.remove(*self._where, partition)

    def chunk(self, seconds: float, report: ChunkReport) -> None:
        """A chunk was done."""
        self._metrics.seconds.labels(*self._where).observe(seconds)
        self.add(report)

    def add(self, report: ChunkReport) -> None:
        """What came of a chunk or a tick."""
        self.total += report
        for name, counter in self._metrics.counted.items():
            if amount := getattr(report, name):
                counter.labels(*self._where).inc(amount)
        for reason, amount in report.reasons.items():
            self._metrics.rejected.labels(*self._where, self._named(reason)).inc(amount)

    def _named(self, reason: str) -> str:
        """The reason, or OTHER: a rule may put amounts into its reasons, without end."""
        if reason not in self._reasons and len(self._reasons) < REASONS:
            self._reasons.add(reason)
        return reason if reason in self._reasons else OTHER

    def fenced(self) -> None:
        """A partition was taken over."""
        self._metrics.fenced.labels(*self._where).inc()

    def retried(self) -> None:
        """A partition will be opened again."""
        self._metrics.retries.labels(*self._where).inc()
