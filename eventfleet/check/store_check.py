"""Runs the code of a domain on its stored events, aggregate by aggregate.

The states are compared with the stored snapshots, the rows of views with those of their builds.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Any

from eventfleet.check.build_check import check_view_builds, compare_rows
from eventfleet.check.code_check import CodeCheck
from eventfleet.check.report import CheckReport, Finding, Kind, ShowProgress
from eventfleet.check.role_entries import StoredEntries, read_parked_events
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.stores.aggregate_batches import (
    aggregate_pages,
    batch_aggregates,
    find_snapshots,
    read_together,
)
from eventfleet.stores.aggregate_sample import sample_aggregates
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import ServerUnavailable

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
        partitions: int,
    ) -> None:
        self._domain, self._events, self._snapshots = domain, stores.events, stores.snapshots
        self._views, self._report, self._show = stores.views, report, show
        self._partitions = partitions
        self._entries = StoredEntries(domain.name, stores)
        self._code = CodeCheck(domain, report, partitions)

    async def run(self, sample: int | None = None) -> None:
        """Check all aggregates, or a sample of so many and all that roles park."""
        if sample is None:
            self._report.stored = await self._events.count()
        with ExitStack() as opened:
            # What a build has applied is read before what roles park, and that before the events.
            comparisons = (
                await check_view_builds(self._domain, self._views, self._report)
                if self._views
                else {}
            )
            for each in comparisons.values():
                opened.callback(each.close)
            self._code = CodeCheck(self._domain, self._report, self._partitions, comparisons)
            await self._entries.read()
            checked = await self._check_pages(sample)
            for each in comparisons.values():
                await compare_rows(each, self._report, checked)
        self._report.note(UNLISTED, max(self._report.stored - self._report.events, 0))

    async def _check_pages(self, sample: int | None) -> set[str] | None:
        """Check the events; return the ids of a sample."""
        checked = set[str]()
        async for page in self._pages(sample):
            await self._check_page(page)
            self._show(self._report)
            if sample is not None:
                checked.update(page)
        self._code.finish()
        return None if sample is None else checked

    async def _pages(self, sample: int | None) -> AsyncIterator[list[str]]:
        if sample is None:
            async for page in aggregate_pages(self._events, PAGE_AGGREGATES):
                yield page
            return
        chosen, total = await sample_aggregates(self._events, sample)
        self._report.note(f"only {len(chosen):,} of {total:,} aggregates were checked")
        parked = await self._entries.parked_ids()
        self._report.note(
            "parked aggregates were checked beside the sample", len({*parked} - {*chosen})
        )
        ids = sorted({*chosen, *parked})
        for start in range(0, len(ids), PAGE_AGGREGATES):
            yield ids[start : start + PAGE_AGGREGATES]

    async def _check_page(self, aggregate_ids: Sequence[str]) -> None:
        """Check some aggregates; snapshots are read before the events that they are folds of."""
        shape = self._domain.state_shape
        newest = await self._snapshots.latest(aggregate_ids, shape)
        heads = await self._events.heads(aggregate_ids)
        for batch in batch_aggregates(aggregate_ids, heads, BATCH_EVENTS):
            snapshots = {
                key: await find_snapshots(self._snapshots, newest.get(key), shape) for key in batch
            }
            events = await read_together(self._events, batch, BATCH_EVENTS)
            for key in batch:
                head = heads.get(key)
                self._code.begin(key, snapshots[key], self._entries.of(key, head))
                if events is None:
                    await self._check_alone(key)
                else:
                    for event in events.get(key, ()):
                        self._code.add(event)
                async for event in read_parked_events(self._events, key, head):
                    self._code.add(event)
                self._code.end()

    async def _check_alone(self, aggregate_id: str) -> None:
        """Check the events of an aggregate one by one, up to one that the store can't read."""
        version = 0
        try:
            async for event in self._events.read(aggregate_id):
                self._code.add(event)
                version = event.version
        except ServerUnavailable:
            raise
        except Exception as error:
            self._code.skip()
            detail = f"can't be read from the store: {describe_error(error)}"
            advice = "somebody has altered it: restore it, or see `eventfleet audit`"
            where = "stored event", detail, advice, 1, "events", aggregate_id, version + 1
            self._report.add(Finding(Kind.EVENT, *where))
