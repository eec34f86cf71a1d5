"""DeciderMetrics: the counts of the deciders of a process, read by Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from eventfleet.deciders import manager, marker_decider
from eventfleet.states.snapshot_saver import SnapshotSaver

LABELS = ["domain"]


class DeciderMetrics(Collector):
    """The statistics by domain: of marker deciders, of the managers of synchronous domains, and of
    the snapshots that managers and queriers save."""

    def __init__(self) -> None:
        self.markers: dict[str, marker_decider.MarkerStatistics] = {}
        self.managers: dict[str, tuple[manager.ManagerStatistics, SnapshotSaver]] = {}
        self.queriers: dict[str, SnapshotSaver] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self._markers()
        yield from self._managers()
        yield from self._savers()

    def _markers(self) -> Iterator[Metric]:
        rounds = SummaryMetricFamily(
            "eventfleet_marker_round_seconds", "Rounds of commands over markers", labels=LABELS
        )
        lookups = _counter("marker_lookups", "Ids looked up in the store for markers")
        finished = _counter("stale_notes_finished", "Events of others brought to their end")
        for domain, statistics in self.markers.items():
            rounds.add_metric([domain], statistics.rounds, statistics.seconds)
            lookups.add_metric([domain], statistics.lookups)
            finished.add_metric([domain], statistics.finished)
        yield from (rounds, lookups, finished)

    def _managers(self) -> Iterator[Metric]:
        again = _counter("decided_again", "Commands decided again because a version was taken")
        unpublished = _counter("unpublished", "Commands accepted whose events wait for the sweep")
        for domain, (statistics, _) in self.managers.items():
            again.add_metric([domain], statistics.conflicts)
            unpublished.add_metric([domain], statistics.unpublished)
        yield from (again, unpublished)

    def _savers(self) -> Iterator[Metric]:
        saved = _counter("states_saved", "States saved as snapshots behind answers")
        dropped = _counter("states_dropped", "States not saved behind answers")
        savers = [(domain, saver) for domain, (_, saver) in self.managers.items()]
        savers += self.queriers.items()
        for domain in dict(savers):
            of_domain = [saver for name, saver in savers if name == domain]
            saved.add_metric([domain], sum(saver.saved for saver in of_domain))
            dropped.add_metric([domain], sum(saver.dropped for saver in of_domain))
        yield from (saved, dropped)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"eventfleet_{name}", text, labels=LABELS)
