"""The dead-letter store, in memory."""

from collections import Counter
from collections.abc import Collection, Sequence

from eventfleet.stores.contracts.dead_letters import (
    ParkedQuery,
    RedriveRequest,
)
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.topics.parked import Discard, DiscardedEvent, ParkedAggregate


class MemoryDeadLetters:
    """DeadLetterStore, in memory. Each call is one step."""

    def __init__(self, yield_point: YieldPoint = no_yield) -> None:
        self._yield_point = yield_point
        self._parked: dict[tuple[str, str], ParkedAggregate] = {}
        self._requests: dict[tuple[str, str], RedriveRequest] = {}
        self._discarded: dict[tuple[str, str, int], DiscardedEvent] = {}

    async def prepare(self) -> None:
        await self._yield_point()

    async def parked_in(self, role: str, partition: int) -> list[ParkedAggregate]:
        await self._yield_point()
        return [p for p in self._parked.values() if (p.role, p.partition) == (role, partition)]

    async def park(self, parked: Sequence[ParkedAggregate]) -> None:
        await self._yield_point()
        self._parked |= {(each.role, each.aggregate_id): each for each in parked}

    async def unpark(self, role: str, aggregate_ids: Collection[str]) -> None:
        await self._yield_point()
        for aggregate_id in aggregate_ids:
            self._parked.pop((role, aggregate_id), None)
            self._requests.pop((role, aggregate_id), None)

    async def find(self, query: ParkedQuery, limit: int) -> list[ParkedAggregate]:
        await self._yield_point()
        found = [
            parked
            for key, parked in sorted(self._parked.items())
            if key > query.after
            and query.role in ("", parked.role)
            and query.aggregate_id in ("", parked.aggregate_id)
            and parked.reason.startswith(query.reason)
        ]
        return found[:limit]

    async def count(self) -> dict[str, int]:
        await self._yield_point()
        return dict(Counter(role for role, _ in self._parked))

    async def request(self, parked: ParkedAggregate, discard: Discard | None) -> bool:
        await self._yield_point()
        key = parked.role, parked.aggregate_id
        known = self._parked.get(key)
        if known is None or known.first != parked.first:
            return False
        present = self._requests.get(key)
        if discard or not (present and present.discard and present.first == parked.first):
            self._requests[key] = RedriveRequest(parked.aggregate_id, parked.first, discard)
        return True

    async def request_redrives(self, parked: Sequence[ParkedAggregate]) -> int:
        return sum([await self.request(each, None) for each in parked])

    async def requests(self, role: str, partition: int, limit: int) -> list[RedriveRequest]:
        await self._yield_point()
        found = [
            request
            for (of_role, id), request in sorted(self._requests.items(), key=lambda each: each[0])
            if of_role == role and self._parked[of_role, id].partition == partition
        ]
        return found[:limit]

    async def end_request(self, role: str, request: RedriveRequest) -> None:
        await self._yield_point()
        key = role, request.aggregate_id
        if self._requests.get(key) == request:
            del self._requests[key]

    async def note_discarded(self, events: Collection[DiscardedEvent]) -> None:
        await self._yield_point()
        for event in events:
            self._discarded.setdefault((event.role, event.aggregate_id, event.version), event)

    async def discarded(self, role: str, aggregate_ids: Collection[str]) -> list[DiscardedEvent]:
        wanted = {*aggregate_ids}
        return [each for each in await self.discarded_by(role) if each.aggregate_id in wanted]

    async def discarded_by(self, role: str) -> list[DiscardedEvent]:
        await self._yield_point()
        found = sorted(self._discarded.items(), key=lambda each: each[0])
        return [event for (of_role, *_), event in found if of_role == role]
