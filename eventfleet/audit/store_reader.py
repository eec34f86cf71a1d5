"""Reads a domain's stored events and snapshots, aggregate by aggregate, and checks each."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from eventfleet.audit.aggregate_check import ABOVE_A_FAULT, AggregateCheck, Folding
from eventfleet.audit.concurrency import run_all
from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import RouteMatcher
from eventfleet.audit.rows import AnyRow, PublishedState, parked_row
from eventfleet.audit.spool import Spool
from eventfleet.audit.view_audit import ViewAudit
from eventfleet.model.domain import Domain
from eventfleet.model.team_traceback import describe_error
from eventfleet.stores.aggregate_batches import batch_aggregates, find_snapshots, read_together
from eventfleet.stores.contracts import DomainStores, Head, Snapshot, VersionRange
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.event import EventRecord

PAGE_AGGREGATES = 100
FEED_PAGE_EVENTS = 500
BATCH_EVENTS = 1000
UNLISTED = "stored events that no listing has"


class StoreReader:
    """Checks every aggregate, and adds the rows of its events."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: DomainStores,
        routes: RouteMatcher,
        spool: Spool[AnyRow],
        report: AuditReport,
        slots: asyncio.Semaphore,
        views: ViewAudit,
    ) -> None:
        self._domain, self._events, self._snapshots = domain, stores.events, stores.snapshots
        self._routes, self._spool, self._report = routes, spool, report
        self._slots, self._views = slots, views
        self._events_read = 0

    async def read(self) -> None:
        """Check all aggregates."""
        stored = await self._events.count()
        cursor, full = "", True
        while full:
            page = await self._events.aggregates(cursor, PAGE_AGGREGATES)
            cursor, full = page.cursor, len(page.items) == PAGE_AGGREGATES
            await self._check_page(page.items)
        if self._events_read < stored:
            await self._try_unlisted()
            self._report.count_unjudged(UNLISTED, max(stored - self._events_read, 0))

    async def _check_page(self, aggregate_ids: Sequence[str]) -> None:
        """Check some aggregates; snapshots are read before the events that they are folds of."""
        newest = await self._snapshots.latest(aggregate_ids, self._domain.state_shape)
        heads = await self._events.heads(aggregate_ids)
        await self._add_parked(heads)
        batches = batch_aggregates(aggregate_ids, heads, BATCH_EVENTS)
        await run_all((self._check_batch(batch, newest) for batch in batches), self._slots)

    async def _add_parked(self, heads: Mapping[str, Head]) -> None:
        """Add the rows of the events that append parks, which are not read with the others."""
        parked = [
            VersionRange(key, head.placed, head.version)
            for key, head in heads.items()
            if head.parked
        ]
        for event in await self._events.unplaced(parked) if parked else ():
            self._events_read += 1
            self._spool.add(parked_row(event))

    async def _check_batch(self, batch: Sequence[str], newest: dict[str, Snapshot]) -> None:
        """Check some aggregates, whose events are read in one query where they are few."""
        checks = [await self._check_of(key, newest.get(key)) for key in batch]
        found = await read_together(self._events, batch, BATCH_EVENTS)
        for key, check in zip(batch, checks, strict=True):
            if found is None:
                await self._read_alone(key, check)
                continue
            for event in found.get(key, ()):
                check.add(event)
            check.end()
        self._events_read += sum(map(len, (found or {}).values()))

    async def _check_of(self, aggregate_id: str, newest: Snapshot | None) -> AggregateCheck:
        """Make the check of an aggregate, with its stored snapshots."""
        found = await find_snapshots(self._snapshots, newest, self._domain.state_shape)
        self._report.aggregates += 1
        return AggregateCheck(
            *(self._domain, aggregate_id, found, self._routes, self._spool, self._report),
            self._views.of(aggregate_id),
        )

    async def _read_alone(self, aggregate_id: str, check: AggregateCheck) -> None:
        """Read an aggregate's events; one that can't be read is named, and the others go on."""
        version, complete = 0, False
        while not complete:
            try:
                async for event in self._events.read(aggregate_id, version):
                    self._events_read += 1
                    check.add(event)
                    version = event.version
                complete = True
            except ServerUnavailable:
                raise
            except Exception as error:
                version += 1
                self._events_read += 1
                check.skip(version, describe_error(error))
                heads = await self._events.heads([aggregate_id])
                complete = aggregate_id not in heads or version >= heads[aggregate_id].readable
        check.end()

    async def _try_unlisted(self) -> None:
        try:
            await self._check_unlisted()
        except ServerUnavailable:
            raise
        except Exception as error:
            fault = f"the feed of stored events can't be read: {describe_error(error)}"
            self._report.add_problem("event", self._domain.name, fault)

    async def _check_unlisted(self) -> None:
        """Check aggregates without a version 1, whose events the listing of aggregates omits."""
        async for event in self._unlisted():
            newest = await self._snapshots.latest([event.aggregate_id], self._domain.state_shape)
            check = await self._check_of(event.aggregate_id, newest.get(event.aggregate_id))
            await self._read_alone(event.aggregate_id, check)

    async def _unlisted(self) -> AsyncIterator[EventRecord]:
        """Yield the lowest event of each such aggregate."""
        cursor, full = "", True
        while full:
            page = await self._events.feed(cursor, FEED_PAGE_EVENTS)
            cursor, full = page.cursor, len(page.items) == FEED_PAGE_EVENTS
            placed = {(event.aggregate_id, event.id) for event in page.items}
            for aggregate_id in sorted({event.aggregate_id for event in page.items}):
                async for lowest in self._events.read(aggregate_id, limit=1):
                    if lowest.version > 1 and (aggregate_id, lowest.id) in placed:
                        yield lowest

    # Records of the compacted topic of which no snapshot is stored

    async def check_published(self, published: PublishedState) -> str:
        """Compare a record's state with a fold of the stored events; return its fault, if any."""
        key = published.aggregate_id
        folding = await self._fold(key, published.version)
        if folding is None or folding.broken:
            self._report.count_unjudged(ABOVE_A_FAULT)
            return ""
        if folding.version < published.version:
            return f"is past the last of {folding.version} events"
        try:
            return "" if folding.digest() == published.digest else "is not the fold of its events"
        except Exception as error:
            fault = f"a published snapshot can't be compared: {describe_error(error)}"
            self._report.add_problem("state", key, fault)
            return ""

    async def _fold(self, aggregate_id: str, version: int) -> Folding | None:
        """Fold the events up to a version; None where one can't be read, as reported before."""
        folding = Folding(self._domain)
        try:
            async for event in self._events.read(aggregate_id, up_to=version):
                folding.fold(event)
        except ServerUnavailable:
            raise
        except Exception:
            return None
        return folding
