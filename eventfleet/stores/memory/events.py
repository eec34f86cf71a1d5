"""The event store, in memory."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from datetime import datetime

from msgspec.structs import replace

from eventfleet.model.value_copy import copy_value, mutable_fields
from eventfleet.stores.contracts import (
    AssignPosition,
    Head,
    Page,
    ParkedWrite,
    ParkEvent,
    PlaceParked,
    Tail,
    TailQuery,
    VersionRange,
    Write,
)
from eventfleet.stores.cursors import FeedPoint, decode_cursor, decode_feed_cursor, encode_cursor
from eventfleet.stores.errors import Duplicate
from eventfleet.stores.memory.outbox import MemoryOutbox
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.partitioner import partition_of

Stream = dict[int, EventRecord]  # by version
mutable_fields(EventRecord)  # found at import, not by the first event


class MemoryEvents:
    """EventStore in memory. `partitions`: the number of partitions of the domain's topics."""

    def __init__(
        self, partitions: int = 1, yield_point: YieldPoint = no_yield, domain: str = ""
    ) -> None:
        self._partitions, self._yield_point, self._domain = partitions, yield_point, domain
        self._by_key: dict[EventKey, EventRecord] = {}
        self._streams: defaultdict[str, Stream] = defaultdict(dict)
        self._placed: dict[EventKey, EventRecord] = {}
        self._unplaced_in: dict[EventKey, int] = {}  # the partition of each unplaced event
        self._refused: dict[EventKey, Position] = {}  # of each parked event, where it was last
        self.registry = MemoryRegistry(yield_point)
        self.outbox = MemoryOutbox(yield_point)

    async def prepare(self) -> None:
        await self._yield_point()

    async def write(self, writes: Sequence[Write]) -> None:
        for index, write in enumerate(writes):
            await self._yield_point()
            match write:
                case EventRecord():
                    self._insert(index, write)
                case AssignPosition(event, position):
                    self._place(event.key, str(position))
                case _:
                    self._park(index, write)
        await self._yield_point()

    async def put(
        self, events: Sequence[EventRecord], partition: int, *, to_publish: bool = False
    ) -> None:
        await self._yield_point()
        for index, event in enumerate(events):
            self._refuse_taken(index, event)
            if event.id in {other.id for other in events[:index]}:
                raise _duplicate(index, event, "event id")
            if event.version in {other.version for other in events[:index]}:
                raise _duplicate(index, event, "version")
        for event in events:
            self._keep(event)
            self._unplaced_in[event.key] = partition
        if to_publish:
            self.outbox.unsettled[True].update((event.key, event) for event in events)
        await self._yield_point()

    async def find(self, keys: Collection[EventKey]) -> dict[EventKey, EventRecord]:
        await self._yield_point()
        return {key: copy_value(self._by_key[key]) for key in keys if key in self._by_key}

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        results: list[Duplicate | None] = []
        for event, partition in events:
            try:
                await self.put([event], partition)
                results.append(None)
            except Duplicate as duplicate:
                results.append(duplicate)
        return results

    async def tails(self, queries: Sequence[TailQuery], limit: int) -> list[Tail] | None:
        await self._yield_point()
        tails = [self._tail(query) for query in queries]
        return tails if sum(len(tail.events) for tail in tails) <= limit else None

    def _park(self, index: int, write: ParkedWrite) -> None:
        event, position = write.event, write.position
        if isinstance(write, ParkEvent):
            self._refuse_taken(index, event)
            self._keep(event)
            self._unplaced_in[event.key] = position.partition
            self._refused[event.key] = position
        elif event.key in self._refused and self._refused[event.key] < position:
            if isinstance(write, PlaceParked):
                self._place(event.key, str(position))
                del self._refused[event.key]
            else:
                self._refused[event.key] = position

    def _tail(self, query: TailQuery) -> Tail:
        stream = self._streams.get(query.aggregate_id, {})
        readable = self._readable(stream)
        events = [copy_value(event) for event in readable if event.version > query.after]
        found, *seen = (
            self._by_key.get(EventKey(query.aggregate_id, each))
            for each in (query.event_id, *query.seen)
        )
        return Tail(events, found, tuple(event for event in seen if event))

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        await self._yield_point()
        return {
            key: self._head(self._streams[key]) for key in aggregate_ids if key in self._streams
        }

    async def mark_discarded(self, key: EventKey, *, parked: bool = False) -> None:
        await self._yield_point()
        if (event := self._by_key.get(key)) and (key in self._refused or not parked):
            discarded = replace(event, discarded=True)
            self._keep(discarded)
            if key in self._placed:
                self._placed[key] = self._by_key[key]

    async def parked(self) -> set[str]:
        await self._yield_point()
        return {key.aggregate_id for key in self._refused}

    async def unplaced(self, ranges: Collection[VersionRange]) -> list[EventRecord]:
        await self._yield_point()
        by_aggregate = {each.aggregate_id: each for each in ranges}
        wanted = ((event, by_aggregate.get(event.aggregate_id)) for event in self._unplaced())
        return [e for e, each in wanted if each and each.after < e.version <= each.up_to]

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        await self._yield_point()
        wanted = {str(position) for position in positions}
        return [e for e in self._in_order() if e.position in wanted]

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        await self._yield_point()
        return [e for e in self._unplaced() if self._unplaced_in[e.key] == partition][:limit]

    async def read(
        self,
        aggregate_id: str,
        after: int = 0,
        up_to: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        await self._yield_point()
        found = [
            event
            for event in self._readable(self._streams.get(aggregate_id, {}))
            if event.version > after
            and (up_to is None or event.version <= up_to)
            and (types is None or event.type in types)
        ]
        for event in found[:limit]:
            yield copy_value(event)

    async def read_all(
        self, aggregate_ids: Collection[str], limit: int
    ) -> list[EventRecord] | None:
        await self._yield_point()
        streams = [self._streams.get(key, {}) for key in sorted(set(aggregate_ids))]
        found = [event for stream in streams for event in self._readable(stream)]
        return found if len(found) <= limit else None

    async def version_at(self, aggregate_id: str, moment: datetime) -> int:
        await self._yield_point()
        stream = self._readable(self._streams.get(aggregate_id, {}))
        return max((event.version for event in stream if event.time <= moment), default=0)

    async def feed(self, cursor: str, limit: int) -> Page:
        await self._yield_point()
        listing = f"{self._domain}.feed"
        extent = [Position.parse(event.position or "") for event in self._placed.values()]
        newest = max((position.epoch for position in extent), default=0)
        given = decode_feed_cursor(listing, cursor, newest, {p.partition for p in extent})
        points = {point.partition: point for point in given}
        beyond = (e for e in self._in_order() if _after(FeedPoint.of(e), points))
        items = [copy_value(event) for event, _ in zip(beyond, range(limit), strict=False)]
        points |= {(point := FeedPoint.of(event)).partition: point for event in items}
        return Page(items, encode_cursor(listing, list(points.values())))

    async def placed(self, point: FeedPoint, limit: int) -> list[EventRecord]:
        await self._yield_point()
        behind = [
            event
            for event in self._in_order()
            if (at := FeedPoint.of(event)).partition == point.partition and at > point
        ]
        return behind[:limit]

    async def last_placed(self, partition: int) -> FeedPoint:
        await self._yield_point()
        points = (FeedPoint.of(event) for event in self._placed.values())
        of_partition = (point for point in points if point.partition == partition)
        return max(of_partition, default=FeedPoint.start(partition))

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        await self._yield_point()
        listing = f"{self._domain}.aggregates"
        last = decode_cursor(listing, cursor, str) if cursor else ""
        ids = sorted(
            key
            for key in self._streams
            if key > last and partition in (None, partition_of(key, self._partitions))
        )[:limit]
        return Page(list(ids), encode_cursor(listing, ids[-1]) if ids else cursor)

    async def newest_epoch(self) -> int:
        await self._yield_point()
        positions = (Position.parse(event.position or "") for event in self._placed.values())
        return max((position.epoch for position in positions), default=0)

    async def count(self) -> int:
        await self._yield_point()
        return len(self._by_key)

    def _insert(self, index: int, event: EventRecord) -> None:
        self._refuse_taken(index, event)
        self._keep(replace(event, reply_to=None))
        self._placed[event.key] = self._by_key[event.key]

    def _place(self, key: EventKey, position: str) -> None:
        if key in self._unplaced_in:
            placed = replace(self._by_key[key], position=position, reply_to=None)
            self._keep(placed)
            self._placed[key] = self._by_key[key]
            del self._unplaced_in[key]

    def _refuse_taken(self, index: int, event: EventRecord) -> None:
        if event.key in self._by_key:
            raise _duplicate(index, event, "event id")
        if event.version in self._streams.get(event.aggregate_id, {}):
            raise _duplicate(index, event, "version")

    def _keep(self, event: EventRecord) -> None:
        event = copy_value(event)
        self._by_key[event.key] = event
        self._streams[event.aggregate_id][event.version] = event

    def _readable(self, stream: Stream) -> list[EventRecord]:
        """Return the events that append does not park, by version."""
        return [event for _, event in sorted(stream.items()) if event.key not in self._refused]

    def _head(self, stream: Stream) -> Head:
        last = stream[max(stream)]
        placed = max((version for version, event in stream.items() if event.position), default=0)
        return Head(last.version, last.id, placed, last.type, last.key in self._refused)

    def _unplaced(self) -> Iterator[EventRecord]:
        """Yield the unplaced events, by aggregate and version."""
        events = (self._by_key[key] for key in self._unplaced_in)
        return iter(sorted(events, key=lambda event: (event.aggregate_id, event.version)))

    def _in_order(self) -> Iterable[EventRecord]:
        """Return the placed events, by epoch, partition, offset and version."""
        return sorted(
            self._placed.values(),
            key=lambda event: (Position.parse(event.position or ""), event.version),
        )


def _duplicate(index: int, event: EventRecord, condition: str) -> Duplicate:
    return Duplicate(index, f"{event.domain}/{event.aggregate_id}", event.version, condition)


def _after(point: FeedPoint, points: dict[int, FeedPoint]) -> bool:
    return point > points.get(point.partition, FeedPoint.start(point.partition))
