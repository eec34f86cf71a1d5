"""DeciderMetrics: the counts of the deciders of a process, read by Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from eventfleet.deciders import manager, marker_decider
from eventfleet.service.metric_definitions import (
    DECIDED_AGAIN,
    MARKER_LOOKUPS,
    MARKER_RESULTS,
    MARKER_ROUNDS,
    NOTES_FINISHED,
    STATES_DROPPED,
    STATES_SAVED,
    UNPUBLISHED,
)
from eventfleet.service.metric_families import domain_family, number_family, summary_family
from eventfleet.states.snapshot_saver import SnapshotSaver


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
        markers = self.markers.items()
        rounds = [([domain], each.rounds, each.seconds) for domain, each in markers]
        yield summary_family(MARKER_ROUNDS, rounds)
        yield domain_family(MARKER_LOOKUPS, {domain: each.lookups for domain, each in markers})
        yield domain_family(NOTES_FINISHED, {domain: each.finished for domain, each in markers})
        yield number_family(
            MARKER_RESULTS,
            [
                ((domain, status.value), count)
                for domain, each in markers
                for status, count in each.results.items()
            ],
        )

    def _managers(self) -> Iterator[Metric]:
        counts = {domain: statistics for domain, (statistics, _) in self.managers.items()}
        again = {domain: each.conflicts for domain, each in counts.items()}
        unpublished = {domain: each.unpublished for domain, each in counts.items()}
        yield domain_family(DECIDED_AGAIN, again)
        yield domain_family(UNPUBLISHED, unpublished)

    def _savers(self) -> Iterator[Metric]:
        savers = [(domain, saver) for domain, (_, saver) in self.managers.items()]
        savers += self.queriers.items()
        saved, dropped = dict.fromkeys(dict(savers), 0), dict.fromkeys(dict(savers), 0)
        for domain, saver in savers:
            saved[domain] += saver.saved
            dropped[domain] += saver.dropped
        yield domain_family(STATES_SAVED, saved)
        yield domain_family(STATES_DROPPED, dropped)
