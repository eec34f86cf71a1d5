"""Compares the settings with the topics, the store's partitions and the groups' offsets."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eventfleet.check.report import CheckReport, Finding, Kind
from eventfleet.model.domain import Domain
from eventfleet.roles.offset_faults import AppendOffset, lost, outside_log, set_offset_hint
from eventfleet.roles.steady_offsets import Looks, read_steady_offsets
from eventfleet.runtime.connections import (
    CREATE_TOPICS_HINT,
    find_missing_topics,
    routes_of,
    topics_of,
)
from eventfleet.runtime.group_offsets import SOURCES
from eventfleet.runtime.partitions import (
    count_topic_partitions,
    find_setting_faults,
    find_stored_fault,
    find_views_fault,
)
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogAdmin, LogReader, StoreRegistry, Watermarks
from eventfleet.topics.names import consumer_group

CORRECT_PARTITIONS = (
    f"correct {variable('partitions')}: all processes of a domain, and all its topics, need one "
    "number"
)


async def check_topics(
    settings: Settings,
    domain: Domain[Any],
    reader: LogReader,
    admin: LogAdmin,
    report: CheckReport,
) -> None:
    """Find topics that are missing, or differ from their declaration."""
    counts = await count_topic_partitions(settings, domain, reader)
    for name, count in counts.items():
        if not count:
            report.add(Finding(Kind.TOPIC, name, "does not exist", CREATE_TOPICS_HINT))
    for fault in find_setting_faults(settings, counts):
        report.add(Finding(Kind.PARTITIONS, "topics", fault, CORRECT_PARTITIONS))
    existing = [
        replace(spec, partitions=counts[spec.name])
        for spec in topics_of(settings, domain)
        if counts[spec.name]
    ]
    for difference in await admin.check(existing):
        advice = "correct the topic's setting, or that of eventfleet"
        report.add(Finding(Kind.TOPIC, "settings", difference, advice))
    for spec in await find_missing_topics(reader, routes_of(settings, domain)):
        detail = "does not exist, and a route leads to it"
        report.add(Finding(Kind.TOPIC, spec.name, detail, CREATE_TOPICS_HINT))


async def check_partitions(
    settings: Settings, domain: Domain[Any], registry: StoreRegistry, report: CheckReport
) -> None:
    """Find another number of partitions than the one that stored events were divided by."""
    fault = find_stored_fault(settings, domain, await registry.partition_count())
    counts = await registry.partition_counts()
    if fault := fault or find_views_fault(domain, counts, settings.partitions):
        advice = f"or correct {variable('partitions')} or {variable('mongo_database')}"
        report.add(Finding(Kind.PARTITIONS, "stored events", fault, advice))


class OffsetCheck:
    """Judges the groups' committed offsets as the roles do when they take a partition over."""

    def __init__(
        self,
        settings: Settings,
        domain: Domain[Any],
        reader: LogReader,
        registry: StoreRegistry,
        report: CheckReport,
        steady: float = 0.0,
    ) -> None:
        """`steady`: for how many seconds an offset is asked for again that looks lost or wrong."""
        self._settings, self._domain, self._report = settings, domain, report
        self._steady = steady
        self._reader, self._registry = reader, registry
        self._topics = domain.topics

    async def run(self) -> None:
        """Check the group of each role."""
        checks = [self._check_role(role, source(self._topics)) for role, source in SOURCES.items()]
        await asyncio.gather(self._check_append(), *checks)

    async def _check_append(self) -> None:
        """Notes are read before and after the offsets: the fleet may work meanwhile."""
        topic = self._topics.events
        epoch, before = await self._registry.epoch(), await self._registry.next_offsets()
        taken = {partition for partition, offset in before.items() if offset}
        committed = await self._committed("append", topic, lambda found: bool(taken - found.keys()))
        noted = await self._registry.next_offsets()
        marks = await self._reader.watermarks(topic)
        for partition in sorted(noted.keys() | committed.keys()):
            judge = AppendOffset(self._domain, partition, epoch)
            if partition not in committed:
                self._add_group("append", judge.missing(before.get(partition, 0)))
                continue
            offset = committed[partition]
            self._add_store(judge.ahead(offset, noted.get(partition, 0)))
            self._add_outside("append", {partition: offset}, marks, judge.repair)

    async def _check_role(self, role: str, topic: str) -> None:
        committed = await self._reader.committed(self._group(role), topic)
        marks = await self._reader.watermarks(topic)
        repair = set_offset_hint(self._domain.name, role)
        begun = [p for p in marks if p not in committed and await self._registry.has_begun(role, p)]

        def looks_wrong(found: Mapping[int, int]) -> bool:
            return any(p not in found for p in begun) or any(
                outside_log(offset, marks[p], repair) for p, offset in found.items() if p in marks
            )

        committed = await self._committed(role, topic, looks_wrong)
        self._add_outside(role, committed, await self._reader.watermarks(topic), repair)
        for partition in begun:
            if partition not in committed:
                self._add_group(role, f"partition {partition}: {lost(repair)}")

    async def _committed(self, role: str, topic: str, looks_wrong: Looks) -> dict[int, int]:
        group = self._group(role)
        return await read_steady_offsets(
            self._reader, group, topic, looks_wrong, SystemClock(), self._steady
        )

    def _add_outside(
        self,
        role: str,
        committed: Mapping[int, int],
        marks: Mapping[int, Watermarks],
        repair: str,
    ) -> None:
        for partition, offset in committed.items():
            if partition in marks and (fault := outside_log(offset, marks[partition], repair)):
                self._add_group(role, f"partition {partition}: {fault}")

    def _add_group(self, role: str, fault: str) -> None:
        """Add a fault of a role's group once, and count its partitions."""
        if fault:
            prefixed = ["topic_prefix", "mongo_database"] if self._settings.topic_prefix else []
            names = ["group_prefix", *prefixed]
            known = ", ".join(f"{variable(each)}={getattr(self._settings, each)}" for each in names)
            where, advice = f"group {self._group(role)}", f"before any repair, compare {known}"
            self._report.add(Finding(Kind.GROUP, where, fault, advice, 1, "partitions"), role)

    def _add_store(self, fault: str) -> None:
        if fault:
            name = self._settings.mongo_database
            database = f"{variable('mongo_url')} and {variable('mongo_database')}={name}"
            advice = f"before any repair, compare {database}"
            found = Finding(Kind.STORE, f"database {name}", fault, advice, 1, "partitions")
            self._report.add(found, "append")

    def _group(self, role: str) -> str:
        return consumer_group(self._settings.group_prefix, self._domain.name, role)
