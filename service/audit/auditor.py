"""Checks invariants 1 to 4 on a domain, partition by partition; also while a fleet works.

What a role has not committed yet is not judged: the committed offsets are read first.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from domains.declaration import Domain
from protocols.relay import downstream
from service.audit.logs import (
    UNKNOWN,
    Emitted,
    count_kinds,
    read_dead_letters,
    read_emitted,
    read_partition,
)
from service.audit.report import AuditReport
from stores.contracts import Bounds, LogReader, Opened, Snapshot
from topics.event import EventRecord, Position
from topics.names import Topics, group
from topics.partitioner import partition_of

PAGE = 500


class Auditor:
    """The audit of one domain. `exactly_once`: whether the broker has transactions."""

    def __init__(
        self,
        domain: Domain[Any],
        stores: Opened,
        reader: LogReader,
        *,
        group_prefix: str,
        exactly_once: bool,
    ) -> None:
        self._domain, self._stores, self._reader = domain, stores, reader
        self._prefix, self._exactly_once = group_prefix, exactly_once
        self._topics = Topics.of(domain.name)
        self._report = AuditReport(domain.name)
        self._routes: dict[str, dict[int, dict[int, Emitted]]] = {}
        self._bounds: dict[str, dict[int, Bounds]] = {}
        self._epoch = 0

    async def run(self) -> AuditReport:
        topics = self._topics
        self._epoch = await self._stores.events.epoch()
        appended = await self._committed("append", topics.events)
        relayed = await self._committed("relay", topics.stored)
        routes = {route.to for route in self._domain.routes}
        for topic in (*topics[2:], *sorted(routes)):
            await self._measure(topic)
        letters = await read_dead_letters(
            self._reader, topics.dead_letters, self._bounds[topics.dead_letters]
        )
        self._report.dead_letters, self._report.superseded = count_kinds(letters)
        for topic in routes:
            await self._read_route(topic)
        for partition, bounds in self._bounds[topics.events].items():
            settled = Bounds(bounds.oldest, min(appended.get(partition, 0), bounds.end))
            await self._partition(partition, settled, relayed.get(partition, 0), letters)
        await self._count()
        return self._report

    async def _committed(self, role: str, topic: str) -> dict[int, int]:
        return await self._reader.committed(group(self._prefix, self._domain.name, role), topic)

    async def _measure(self, topic: str) -> None:
        self._bounds[topic] = bounds = await self._reader.bounds(topic)
        self._report.oldest[topic] = {p: limit.oldest for p, limit in sorted(bounds.items())}

    async def _read_route(self, topic: str) -> None:
        name = self._domain.name
        self._routes[topic] = {
            partition: await read_emitted(self._reader, name, topic, partition, bounds)
            for partition, bounds in self._bounds[topic].items()
        }

    async def _count(self) -> None:
        self._report.stored = await self._stores.events.count()
        self._report.snapshots = await self._stores.snapshots.count()
        found = (source for parts in self._routes.values() for source in parts.values())
        self._report.relayed = sum(len(e.ids) for by in found for e in by.values())

    # One partition: the log first, then every aggregate of the store

    async def _partition(
        self, partition: int, settled: Bounds, relayed: int, letters: dict[str, str]
    ) -> None:
        logged = await self._logged(partition, settled, letters)
        emitted, judged = await self._emitted(partition, relayed)
        published = await self._published(partition)
        cursor = ""
        while True:
            page = await self._stores.events.aggregates(cursor, PAGE, partition)
            cursor = page.cursor
            found = await self._stores.snapshots.latest(page.items, self._domain.state_version)
            for aggregate_id in page.items:
                events = [event async for event in self._stores.events.read(aggregate_id)]
                self._report.aggregates += 1
                self._check_versions(aggregate_id, events)
                self._check_log(aggregate_id, events, logged, settled)
                self._check_emitted(events, emitted, settled)
                self._check_routes(events, judged)
                await self._check_snapshots(aggregate_id, events, found.get(aggregate_id))
                if aggregate_id in published:
                    where = f"the record in {self._topics.snapshots}"
                    self._check_snapshot(published[aggregate_id], events, where)
            if len(page.items) < PAGE:
                return

    async def _logged(
        self, partition: int, settled: Bounds, letters: dict[str, str]
    ) -> dict[int, str]:
        """The event id at each settled offset; faults those that are neither stored nor letters."""
        logged: dict[int, str] = {}
        waiting: dict[str, tuple[int, str]] = {}
        topic = self._topics.events
        async for record, event in read_partition(self._reader, topic, partition, settled):
            if f"{topic}/{partition}/{record.offset}" in letters:
                continue
            if event is None:
                key = (record.key or b"").decode(errors="replace")
                self._report.fault(1, key, f"offset {record.offset} is no event, nor dead letter")
                continue
            logged[record.offset] = event.id
            waiting[event.id] = (record.offset, event.aggregate_id)
            if len(waiting) == PAGE:
                await self._check_stored(waiting)
        await self._check_stored(waiting)
        return logged

    async def _check_stored(self, waiting: dict[str, tuple[int, str]]) -> None:
        stored = await self._stores.events.find(list(waiting)) if waiting else {}
        for event_id, (offset, aggregate_id) in waiting.items():
            if event_id not in stored:
                fault = f"event {event_id} of offset {offset} is not stored"
                self._report.fault(1, aggregate_id, fault)
        waiting.clear()

    async def _emitted(self, partition: int, relayed: int) -> tuple[Emitted, set[str]]:
        """What `.stored` holds, and the ids among it that relay has passed."""
        topic = self._topics.stored
        bounds = self._bounds[topic].get(partition, Bounds(0, 0))
        found = await read_emitted(self._reader, self._domain.name, topic, partition, bounds)
        emitted = found.get(partition) or Emitted(floor=UNKNOWN if bounds.oldest else None)
        passed = Bounds(bounds.oldest, min(relayed, bounds.end))
        judged = {
            event.id
            async for _, event in read_partition(self._reader, topic, partition, passed)
            if event
        }
        for event in emitted.disorder:
            fault = f"version {event.version} is out of order in {topic}"
            self._report.fault(4, event.aggregate_id, fault)
        return emitted, judged

    async def _published(self, partition: int) -> dict[str, Snapshot]:
        """The newest record of each aggregate in the compacted topic."""
        topic = self._topics.snapshots
        limit = self._bounds[topic].get(partition, Bounds(0, 0))
        found: dict[str, Snapshot] = {}
        async for record in self._reader.read(topic, partition, limit.oldest, limit.end):
            snapshot = msgspec.json.decode(record.value or b"", type=Snapshot)
            found[snapshot.aggregate_id] = snapshot
        version = self._domain.state_version
        return {key: shot for key, shot in found.items() if shot.state_version == version}

    # One aggregate

    def _check_versions(self, aggregate_id: str, events: Sequence[EventRecord]) -> None:
        last: Position | None = None
        for expected, event in enumerate(events, 1):
            if event.version != expected:
                fault = f"version {expected} is missing, {event.version} follows"
                self._report.fault(2, aggregate_id, fault)
                return
            if event.position is None:
                continue
            position = Position.parse(event.position)
            if last and (position.epoch, position.offset) < (last.epoch, last.offset):
                fault = f"version {event.version} is at {position}, before the version below it"
                self._report.fault(2, aggregate_id, fault)
            last = position

    def _check_log(
        self,
        aggregate_id: str,
        events: Sequence[EventRecord],
        logged: dict[int, str],
        settled: Bounds,
    ) -> None:
        """Each event is what the log has at its offset, or was placed along with it from below."""
        above: EventRecord | None = None
        for event in reversed(events):
            if event.position is None:
                continue
            epoch, _, offset = Position.parse(event.position)
            if epoch != self._epoch or not settled.oldest <= offset < settled.end:
                continue
            along = above is not None and above.position == event.position
            if event.id == logged.get(offset):
                above = event
            elif not along:
                fault = f"event {event.id} version {event.version} is not in the log: offset"
                self._report.fault(1, aggregate_id, f"{fault} {offset} holds {logged.get(offset)}")

    def _check_emitted(
        self, events: Sequence[EventRecord], emitted: Emitted, settled: Bounds
    ) -> None:
        for event in events:
            if event.position is None or not emitted.judges(event):
                continue
            if Position.parse(event.position).offset < settled.end:
                self._check_copies(event, emitted, self._topics.stored)

    def _check_copies(self, event: EventRecord, emitted: Emitted, topic: str) -> None:
        copies = emitted.ids[event.id]
        if copies == 0:
            fault = f"version {event.version} (event {event.id}) is missing from {topic}"
            self._report.fault(4, event.aggregate_id, fault)
        elif copies > 1 and self._exactly_once:
            fault = f"version {event.version} (event {event.id}) is {copies} times in {topic}"
            self._report.fault(4, event.aggregate_id, fault)

    def _check_routes(self, events: Sequence[EventRecord], judged: set[str]) -> None:
        for event in events:
            if event.id not in judged or event.position is None:
                continue
            for record in downstream(self._domain, event):
                parts = self._bounds[record.topic]
                target = partition_of(event.aggregate_id, len(parts)) if parts else 0
                source = Position.parse(event.position).partition
                emitted = self._routes[record.topic].get(target, {}).get(source)
                if emitted is None:
                    kept = parts.get(target, Bounds(0, 0)).oldest
                    emitted = Emitted(floor=UNKNOWN if kept else None)
                if emitted.judges(event):
                    self._check_copies(event, emitted, record.topic)

    async def _check_snapshots(
        self, aggregate_id: str, events: Sequence[EventRecord], snapshot: Snapshot | None
    ) -> None:
        while snapshot is not None:
            self._check_snapshot(snapshot, events, "the snapshot")
            snapshot = await self._stores.snapshots.at(
                aggregate_id, snapshot.version - 1, self._domain.state_version
            )

    def _check_snapshot(
        self, snapshot: Snapshot, events: Sequence[EventRecord], where: str
    ) -> None:
        name = f"{where} of version {snapshot.version}"
        if snapshot.version > len(events):
            fault = f"{name} is past the last of {len(events)} events"
            self._report.fault(3, snapshot.aggregate_id, fault)
            return
        state = self._domain.state()
        try:
            for event in events[: snapshot.version]:
                state = self._domain.fold(state, event)
        except Exception as error:
            fault = f"{name} can't be checked: {type(error).__name__}: {error}"
            self._report.fault(3, snapshot.aggregate_id, fault)
            return
        folded = self._domain.freeze(state)
        if orjson.dumps(folded) != orjson.dumps(snapshot.state):
            self._report.fault(3, snapshot.aggregate_id, f"{name} is not the fold of its events")
