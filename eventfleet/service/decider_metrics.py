"""What the deciders of a process have done, for Prometheus: asked at each reading."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from eventfleet.deciders import manager, marker_decider
from eventfleet.states.snapshot_saver import SnapshotSaver

WHERE = ["domain"]


class DeciderMetrics(Collector):
    """By domain: markings of asynchronous ones, managers of synchronous ones."""

    def __init__(self) -> None:
        self.of: dict[str, marker_decider.MarkerStatistics] = {}
        self.managers: dict[str, tuple[manager.ManagerStatistics, SnapshotSaver]] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self._markings()
        yield from self._managers()

    def _markings(self) -> Iterator[Metric]:
        rounds = SummaryMetricFamily(
            "eventfleet_marker_round_seconds", "Rounds of commands over markers", labels=WHERE
        )
        lookups = _counter("marker_lookups", "Ids looked up in the store for markers")
        finished = _counter("stale_notes_finished", "Events of others brought to their end")
        for domain, tally in self.of.items():
            rounds.add_metric([domain], tally.rounds, tally.seconds)
            lookups.add_metric([domain], tally.lookups)
            finished.add_metric([domain], tally.finished)
        yield from (rounds, lookups, finished)

    def _managers(self) -> Iterator[Metric]:
        again = _counter("decided_again", "Commands decided again because a version was taken")
        unpublished = _counter("unpublished", "Commands accepted whose events wait for the sweep")
        saved = _counter("states_saved", "States saved as snapshots behind answers")
        dropped = _counter("states_dropped", "States not saved behind answers")
        for domain, (tally, saving) in self.managers.items():
            again.add_metric([domain], tally.conflicts)
            unpublished.add_metric([domain], tally.unpublished)
            saved.add_metric([domain], saving.saved)
            dropped.add_metric([domain], saving.dropped)
        yield from (again, unpublished, saved, dropped)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"eventfleet_{name}", text, labels=WHERE)
