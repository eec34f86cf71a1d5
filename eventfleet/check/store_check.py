"""Folds the stored events of a domain, aggregate by aggregate, beside its stored snapshots."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from eventfleet.check.fold_check import FoldCheck
from eventfleet.check.report import CheckReport, Finding, Kind, ShowProgress
from eventfleet.check.sample import sample_aggregates
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.stores.aggregate_batches import aggregate_pages, batch_aggregates, find_snapshots
from eventfleet.stores.contracts import DomainStores, Snapshot
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord

PAGE_AGGREGATES = 100
BATCH_EVENTS = 1000
UNLISTED = "stored events were not read: `eventfleet audit` says why"


class StoreCheck:
    """Checks all aggregates of a store, or a sample of them; holds some BATCH_EVENTS events."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: DomainStores,
        report: CheckReport,
        show: ShowProgress,
    ) -> None:
        self._domain, self._events, self._snapshots = domain, stores.events, stores.snapshots
        self._report, self._show = report, show
        self._fold = FoldCheck(domain, report)

    async def run(self, sample: int | None = None) -> None:
        """Fold the events of all aggregates, or of a sample of so many."""
        if sample is None:
            self._report.stored = await self._events.count()
        async for page in self._pages(sample):
            await self._check_page(page)
            self._show(self._report)
        self._report.note(UNLISTED, max(self._report.stored - self._report.events, 0))

    async def _pages(self, sample: int | None) -> AsyncIterator[list[str]]:
        if sample is None:
            async for page in aggregate_pages(self._events, PAGE_AGGREGATES):
                yield page
            return
        chosen, total = await sample_aggregates(self._events, sample)
        self._report.note(f"only {len(chosen):,} of {total:,} aggregates were checked")
        for start in range(0, len(chosen), PAGE_AGGREGATES):
            yield chosen[start : start + PAGE_AGGREGATES]

    async def _check_page(self, aggregate_ids: Sequence[str]) -> None:
        """Check some aggregates; snapshots are read before the events that they are folds of."""
        shape = self._domain.state_shape
        newest = await self._snapshots.latest(aggregate_ids, shape)
        heads = await self._events.heads(aggregate_ids)
        for batch in batch_aggregates(aggregate_ids, heads, BATCH_EVENTS):
            snapshots = {
                key: await find_snapshots(self._snapshots, newest.get(key), shape) for key in batch
            }
            events = await self._read_together(batch)
            for key in batch:
                if events is None:
                    await self._check_alone(key, snapshots[key])
                else:
                    self._check(key, snapshots[key], events.get(key, ()))

    async def _read_together(self, batch: Sequence[str]) -> dict[str, list[EventRecord]] | None:
        """Read the events of a batch by aggregate; None where they are many, or one is damaged."""
        if len(batch) == 1:
            return None
        try:
            events = await self._events.read_all(batch, BATCH_EVENTS)
        except ServerUnavailable:
            raise
        except Exception:  # one of the documents is unreadable: which one, reading alone shows
            return None
        if events is None:
            return None
        by_aggregate: dict[str, list[EventRecord]] = {}
        for event in events:
            by_aggregate.setdefault(event.aggregate_id, []).append(event)
        return by_aggregate

    def _check(
        self, aggregate_id: str, snapshots: Sequence[Snapshot], events: Sequence[EventRecord]
    ) -> None:
        self._fold.begin(aggregate_id, snapshots)
        for event in events:
            self._fold.add(event)
        self._fold.end()

    async def _check_alone(self, aggregate_id: str, snapshots: Sequence[Snapshot]) -> None:
        """Check an aggregate whose events are streamed, up to one that the store can't read."""
        self._fold.begin(aggregate_id, snapshots)
        version = 0
        try:
            async for event in self._events.read(aggregate_id):
                self._fold.add(event)
                version = event.version
        except ServerUnavailable:
            raise
        except Exception as error:
            self._fold.skip()
            detail = f"can't be read from the store: {describe_error(error)}"
            advice = "somebody has altered it: restore it, or see `eventfleet audit`"
            where = "stored event", detail, advice, 1, "events", aggregate_id, version + 1
            self._report.add(Finding(Kind.EVENT, *where))
        self._fold.end()
