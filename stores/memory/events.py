"""The event store in memory."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence

import orjson
from msgspec.structs import replace

from stores.contracts import NO_HEAD, Head, Insert, Page, Write
from stores.errors import Duplicate, Misconfigured
from stores.memory.checkpoint import Checkpoint, go_on
from topics.event import EventRecord, Position
from topics.partitioner import partition_of

Place3 = tuple[int, int, int]


class MemoryEvents:
    """`partitions` tells where aggregates belong, as the domain's topics do."""

    def __init__(self, partitions: int = 1, checkpoint: Checkpoint = go_on) -> None:
        self._partitions, self._checkpoint = partitions, checkpoint
        self._by_id: dict[str, EventRecord] = {}
        self._streams: dict[str, list[EventRecord]] = {}
        self._epoch = 0

    async def prepare(self) -> None:
        await self._checkpoint()

    async def write(self, writes: Sequence[Write]) -> None:
        for index, write in enumerate(writes):
            await self._checkpoint()
            if isinstance(write, Insert):
                self._insert(index, write.event)
            else:
                self._place(write.event.id, write.position)

    async def put(self, events: Sequence[EventRecord], partition: int) -> None:
        await self._checkpoint()
        for index, event in enumerate(events):
            self._refuse_taken(index, event)
        for event in events:
            self._add(event)

    async def find(self, event_ids: Collection[str]) -> dict[str, EventRecord]:
        await self._checkpoint()
        return {key: self._by_id[key] for key in event_ids if key in self._by_id}

    async def heads(self, aggregate_ids: Collection[str]) -> dict[str, Head]:
        await self._checkpoint()
        found = ((key, self._streams.get(key)) for key in aggregate_ids)
        return {key: self._head(stream) for key, stream in found if stream}

    async def unplaced(self, aggregate_ids: Collection[str]) -> list[EventRecord]:
        await self._checkpoint()
        return [
            event
            for key in sorted(aggregate_ids)
            for event in self._streams.get(key, [])
            if event.position is None
        ]

    async def placed_at(self, positions: Collection[Position]) -> list[EventRecord]:
        await self._checkpoint()
        wanted = {str(position) for position in positions}
        return self._sorted(e for e in self._by_id.values() if e.position in wanted)

    async def sweep(self, partition: int, limit: int) -> list[EventRecord]:
        await self._checkpoint()
        waiting = [
            event
            for key in sorted(self._streams)
            if self._partition(key) == partition
            for event in self._streams[key]
            if event.position is None
        ]
        return waiting[:limit]

    async def read(
        self,
        aggregate_id: str,
        after: int = 0,
        upto: int | None = None,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        await self._checkpoint()
        for event in list(self._streams.get(aggregate_id, [])):
            if limit is not None and limit <= 0:
                return
            in_range = event.version > after and (upto is None or event.version <= upto)
            if in_range and (types is None or event.type in types):
                yield event
                limit = None if limit is None else limit - 1

    async def feed(self, cursor: str, limit: int) -> Page:
        await self._checkpoint()
        seen = self._cursor(cursor)
        items: list[EventRecord] = []
        for event in self._sorted(self._by_id.values()):
            place = self._place_of(event)
            if place and len(items) < limit and place[1] > seen.get(place[0], (-1, -1, -1)):
                seen[place[0]] = place[1]
                items.append(event)
        return Page(items, orjson.dumps({str(p): at for p, at in seen.items()}).decode())

    async def aggregates(self, cursor: str, limit: int, partition: int | None = None) -> Page:
        await self._checkpoint()
        keys = sorted(
            key
            for key in self._streams
            if key > cursor and (partition is None or self._partition(key) == partition)
        )[:limit]
        return Page(list(keys), keys[-1] if keys else cursor)

    async def count(self) -> int:
        await self._checkpoint()
        return len(self._by_id)

    async def epoch(self) -> int:
        await self._checkpoint()
        return self._epoch

    async def raise_epoch(self) -> int:
        await self._checkpoint()
        self._epoch += 1
        return self._epoch

    async def placed_in(self, partition: int, epoch: int) -> bool:
        await self._checkpoint()
        positions = (Position.parse(e.position) for e in self._by_id.values() if e.position)
        return any(p.partition == partition and p.epoch == epoch for p in positions)

    def _partition(self, aggregate_id: str) -> int:
        return partition_of(aggregate_id, self._partitions)

    def _insert(self, index: int, event: EventRecord) -> None:
        self._refuse_taken(index, event)
        position = event.position
        for other in self._by_id.values():
            if position and (other.position, other.version) == (position, event.version):
                raise Duplicate(index, event.aggregate_id, event.version, "position")
        self._add(event)

    def _refuse_taken(self, index: int, event: EventRecord) -> None:
        if event.id in self._by_id:
            raise Duplicate(index, event.aggregate_id, event.version, "event id")
        stream = self._streams.get(event.aggregate_id, [])
        if any(other.version == event.version for other in stream):
            raise Duplicate(index, event.aggregate_id, event.version, "version")

    def _add(self, event: EventRecord) -> None:
        self._by_id[event.id] = event
        stream = self._streams.setdefault(event.aggregate_id, [])
        stream.append(event)
        stream.sort(key=lambda e: e.version)

    def _place(self, event_id: str, position: Position) -> None:
        event = self._by_id.get(event_id)
        if event is None or event.position is not None:
            return
        placed = replace(event, position=str(position))
        self._by_id[event_id] = placed
        stream = self._streams[event.aggregate_id]
        stream[stream.index(event)] = placed

    @staticmethod
    def _head(stream: list[EventRecord]) -> Head:
        last = stream[-1]
        placed = max((e.version for e in stream if e.position), default=NO_HEAD.placed)
        return Head(last.version, last.id, placed)

    @staticmethod
    def _place_of(event: EventRecord) -> tuple[int, Place3] | None:
        if event.position is None:
            return None
        position = Position.parse(event.position)
        return position.partition, (position.epoch, position.offset, event.version)

    def _sorted(self, events: Iterable[EventRecord]) -> list[EventRecord]:
        return sorted(events, key=lambda event: self._place_of(event) or (-1, (0, 0, 0)))

    @staticmethod
    def _cursor(cursor: str) -> dict[int, Place3]:
        try:
            seen = orjson.loads(cursor or "{}")
            return {int(p): (int(e), int(o), int(v)) for p, (e, o, v) in seen.items()}
        except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
            raise Misconfigured(f"cursor {cursor!r} is not one of this store's") from None
