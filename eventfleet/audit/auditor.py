"""Verifies the invariants on a domain; also while the fleet works.

The committed offsets are read first, and what a role has not committed yet is counted as not
judged. Of the logs, only the records that they still keep are checked. Everything that is read of
an event becomes a row on disk; the rows are then judged bucket by bucket.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import closing
from typing import Any

from eventfleet.audit.concurrency import MAX_CONCURRENT_READS, run_all
from eventfleet.audit.discard_audit import DiscardAudit
from eventfleet.audit.event_rows import group_rows, mark_late
from eventfleet.audit.judge import Judge
from eventfleet.audit.marker_reader import read_markers
from eventfleet.audit.repairs import Repairs
from eventfleet.audit.report import AuditReport
from eventfleet.audit.route_matcher import RouteMatcher
from eventfleet.audit.rows import AnyRow
from eventfleet.audit.scope import AuditScope
from eventfleet.audit.spool import Spool, by_aggregate, by_event
from eventfleet.audit.store_reader import StoreReader
from eventfleet.audit.topic_reader import TopicReader
from eventfleet.audit.view_audit import ViewAudit
from eventfleet.model.domain import Domain
from eventfleet.stores.aggregate_sample import sample_aggregates
from eventfleet.stores.contracts import DomainStores, LogReader, Markers
from eventfleet.stores.contracts.dead_letters import ParkedQuery

MAX_BUCKET_ROWS = 150_000
"""A larger bucket is divided by event: an aggregate may have any number of events."""
PARKED_PAGE = 500
NO_MARKERS = "markers of aggregates: Redis was not usable"


class Auditor:
    """Audits one domain.

    `exactly_once`: whether the broker has transactions. Without `markers` none is compared. Of
    `views` these alone are compared; with a `sample` the rows of so many aggregates, and no totals.
    """

    def __init__(
        self,
        domain: Domain[Any],
        stores: DomainStores,
        reader: LogReader,
        *,
        group_prefix: str,
        exactly_once: bool,
        markers: Markers | None = None,
        views: Collection[str] = (),
        sample: int | None = None,
    ) -> None:
        self._domain, self._stores, self._reader = domain, stores, reader
        self._prefix, self._exactly_once = group_prefix, exactly_once
        self._markers, self._view_names, self._sample = markers, views, sample
        self._report = AuditReport(domain.name)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def run(self) -> AuditReport:
        """Audit the domain, and return the report."""
        registry = self._stores.events.registry
        with Spool(AnyRow, by_aggregate) as spool:
            if self._domain.uses_marker and self._markers:
                await read_markers(self._stores.events, self._markers, spool, self._report)
            scope = await AuditScope.read(
                self._domain,
                self._reader,
                self._prefix,
                Repairs(await registry.repairs()),
                exactly_once=self._exactly_once,
                epoch=await registry.epoch(),
            )
            discards = DiscardAudit(self._stores, self._report)
            await discards.read(scope, self._reader, spool)
            self._check_topics(scope)
            await self._check_store(scope)
            await self._check_parked()
            with closing(await self._view_audit()) as views:
                await views.open(self._reader)
                topics = TopicReader(self._domain, self._reader, scope, spool, self._report)
                await self._read_topics(topics, scope)
                matcher = RouteMatcher(self._domain, scope.copies, self._report)
                store = StoreReader(
                    *(self._domain, self._stores, matcher, spool, self._report, self._slots), views
                )
                await store.read()
                await self._judge(spool, scope, store, discards)
                await views.judge()
        if self._domain.uses_marker and not self._markers:
            self._report.count_unjudged(NO_MARKERS, self._report.aggregates)
        self._report.sort()
        self._report.stored = await self._stores.events.count()
        self._report.snapshots = await self._stores.snapshots.count()
        return self._report

    async def _view_audit(self) -> ViewAudit:
        sample = self._sample and (await sample_aggregates(self._stores.events, self._sample))
        return ViewAudit(
            *(self._domain, self._stores.views, self._report),
            names=self._view_names,
            sample={*sample.aggregate_ids} if sample else None,
        )

    def _check_topics(self, scope: AuditScope) -> None:
        for topic, watermarks in scope.watermarks.items():
            oldest = {partition: marks.oldest for partition, marks in sorted(watermarks.items())}
            self._report.oldest[topic] = oldest
        for topic in scope.missing_topics():
            self._report.add_problem("topic", topic, "the topic does not exist")

    async def _check_store(self, scope: AuditScope) -> None:
        """Check that the store is the one that append's group fills."""
        noted = await self._stores.events.registry.next_offsets()
        for partition, offset in sorted(scope.appended.items()):
            if offset > noted.get(partition, 0):
                where = f"partition {partition} up to offset {offset}"
                detail = f"append took {where}, but this store only up to {noted.get(partition, 0)}"
                self._report.add_problem("store", scope.topics.events, detail)

    async def _check_parked(self) -> None:
        """Report what waits for an operator."""
        query, letters = ParkedQuery(), self._stores.dead_letters
        while letters and (page := await letters.find(query, PARKED_PAGE)):
            for each in page:
                detail = f"{each.role} parks it at version {each.first}: {each.reason}"
                self._report.add_problem("parked", each.aggregate_id, detail)
            query = query._replace(after=(page[-1].role, page[-1].aggregate_id))

    async def _read_topics(self, topics: TopicReader, scope: AuditScope) -> None:
        """Read the topics: the dead letters first, then any partition beside any other."""
        names, marks = scope.topics, scope.watermarks
        letters = (topics.read_dead_letters(p) for p in marks[names.dead_letters])
        await run_all(letters, self._slots)
        parts = [topics.read_events(p) for p in marks[names.events]]
        for number, topic in enumerate(scope.copies):
            parts += [topics.read_copies(number, p) for p in marks[topic]]
        parts += [topics.read_replies(p) for p in marks[names.replies]]
        parts += [topics.read_snapshots(p) for p in marks[names.snapshots]]
        await run_all(parts, self._slots)

    async def _judge(
        self, spool: Spool[AnyRow], scope: AuditScope, store: StoreReader, discards: DiscardAudit
    ) -> None:
        """Judge the rows bucket by bucket; those of a large one are divided by event first."""
        judge = Judge(self._domain, scope, self._report, discards)
        for bucket in range(len(spool)):
            rows = mark_late(spool.read(bucket), scope.repairs)
            if spool.rows(bucket) <= MAX_BUCKET_ROWS:
                await self._judge_rows(rows, judge, store)
                await discards.confirm()
                continue
            with Spool(AnyRow, by_event, spool.rows(bucket) // MAX_BUCKET_ROWS + 1) as divided:
                for row in rows:
                    divided.add(row)
                for part in range(len(divided)):
                    await self._judge_rows(divided.read(part), judge, store)
                    await discards.confirm()

    async def _judge_rows(self, rows: Iterable[AnyRow], judge: Judge, store: StoreReader) -> None:
        for each in group_rows(rows):
            if (published := judge.judge(each)) and (
                fault := await store.check_published(published)
            ):
                judge.report_published(published, fault)
