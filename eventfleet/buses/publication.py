"""Publication: publishes pages of an outbox in order, and parks what can't be published."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from eventfleet.buses.event import DocumentEvent
from eventfleet.roles.parking import Parking
from eventfleet.stores.contracts import Outbox
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.contracts.outbox import BusPlace
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import ParkedAggregate

REDRIVE_EVENTS = 100
OPERATORS_ERRORS = (ServerUnavailable, Misconfigured)
"""They are of the server and not of an event, so they park nothing: the publisher tries again."""

HoldLease = Callable[[], Awaitable[bool]]

Failures = dict[str, tuple[EventRecord, Exception]]
"""By aggregate the first event that could not be published or projected, and the error."""


class Interrupted(EventfleetError):
    """The publisher that has parked an event ended before it could say why."""

    def __init__(self) -> None:
        super().__init__("the publisher that has parked it ended before it could say why")


class MappedEvent(NamedTuple):
    """A stored event, and what is published of it."""

    stored: EventRecord
    published: Sequence[DocumentEvent]


class Delivery(Protocol):
    """The steps of an event's publication. What one raises, but for OPERATORS_ERRORS, is of one
    event."""

    def map(self, event: EventRecord) -> Sequence[DocumentEvent]:
        """Make what is published of a stored event."""

    async def reclaim(self) -> bool:
        """Make pending what was published to a server that has lost it; False: there is nothing."""

    async def send(self, events: Sequence[DocumentEvent]) -> BusPlace | None:
        """Publish events; return the place of the last one, where the bus has places."""

    async def write(self, versions: Mapping[str, int]) -> None:
        """Have documents written, by the text of their ids, up to these versions at least."""


class ListedParking(Parking):
    """Parking that also lists how many events wait behind the first one."""

    async def _copy(self) -> None:
        self._parked.changed |= self._parked.longer
        await super()._copy()


class Publication:
    """Publishes the events of an outbox, those of an aggregate in version order, at least once.

    An event that can't be mapped, encoded or projected parks its aggregate: its later events wait
    in the store, and others go on. Each write is conditional on the event's own state, so that a
    publisher which has lost its lease only repeats.
    """

    def __init__(self, outbox: Outbox, parking: Parking, delivery: Delivery) -> None:
        self._outbox, self._parking, self._delivery = outbox, parking, delivery
        self._interrupted: dict[str, int] = {}

    async def open(self) -> None:
        """Load what is parked; what an interrupted publisher has parked is redriven."""
        await self._parking.open()
        await self._adopt(await self._outbox.parked_aggregates())
        await self._save()

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Publish pending events, each aggregate's in version order, and settle them.

        What is looked up here is looked up after the events were read: so whatever lies below one
        of them, and is not pending, is either settled or found.
        """
        if await self._delivery.reclaim():
            return
        ready = await self._leave_parked(events)
        failed: Failures = {}
        mapped = self._map(ready, failed)
        place = await self._send(mapped, failed)
        await self._write(mapped, failed)
        done = [each.stored.key for each in mapped if not _is_held_back(each.stored, failed)]
        await self._outbox.settle(done, place)
        if failed:
            await self._park(ready, failed)

    async def _leave_parked(self, events: Sequence[EventRecord]) -> list[EventRecord]:
        """Park the events of parked aggregates; return the others."""
        parked = await self._outbox.parked_aggregates({each.aggregate_id for each in events})
        behind = [each for each in events if each.aggregate_id in parked]
        if behind:
            await self._outbox.park([each.key for each in behind])
            await self._adopt(parked)
            for each in behind:
                self._parking.park_behind(each.aggregate_id, each.version)
            await self._save()
        return [each for each in events if each.aggregate_id not in parked]

    def _map(self, events: Sequence[EventRecord], failed: Failures) -> list[MappedEvent]:
        mapped = []
        for event in events:
            if event.aggregate_id in failed:
                continue
            try:
                mapped.append(MappedEvent(event, self._delivery.map(event)))
            except Exception as error:
                failed[event.aggregate_id] = (event, error)
        return mapped

    async def _send(self, mapped: list[MappedEvent], failed: Failures) -> BusPlace | None:
        """Send all together; where the bus refuses one of them, send one by one to find it."""
        try:
            return await self._delivery.send([each for one in mapped for each in one.published])
        except OPERATORS_ERRORS:
            raise
        except Exception:
            place = None
        for one in [*mapped]:
            if one.stored.aggregate_id in failed:
                mapped.remove(one)
                continue
            try:
                place = await self._delivery.send(one.published) or place
            except OPERATORS_ERRORS:
                raise
            except Exception as error:
                failed[one.stored.aggregate_id] = (one.stored, error)
                mapped.remove(one)
        return place

    async def _write(self, mapped: Sequence[MappedEvent], failed: Failures) -> None:
        """Have the documents written; where that fails, one by one to find which can't be."""
        versions = {each.stored.aggregate_id: each.stored.version for each in mapped}
        try:
            await self._delivery.write(versions)
        except OPERATORS_ERRORS:
            raise
        except Exception:
            first = {each.stored.aggregate_id: each.stored for each in reversed(mapped)}
            for id, version in versions.items():
                try:
                    await self._delivery.write({id: version})
                except OPERATORS_ERRORS:
                    raise
                except Exception as error:
                    failed[id] = (first[id], error)

    async def _park(self, events: Sequence[EventRecord], failed: Failures) -> None:
        """Park the events that failed and those behind them, as far as they are pending still."""
        held = [each for each in events if _is_held_back(each, failed)]
        await self._outbox.park([each.key for each in held])
        parked = await self._outbox.parked_aggregates(failed)
        for id in parked & failed.keys():
            self._parking.park(*failed[id])
        for each in held:
            if each.aggregate_id in parked:
                self._parking.park_behind(each.aggregate_id, each.version)
        await self._save()

    async def _adopt(self, parked: Iterable[str]) -> None:
        """Take over the aggregates that an interrupted publisher has parked and not listed."""
        for id in sorted({*parked} - self._parking.aggregates.keys()):
            for event in await self._outbox.parked(id, 1):
                self._parking.park(event, Interrupted())
                self._interrupted[id] = event.version

    async def _save(self) -> None:
        await self._parking.save()
        await self._parking.release()

    # Redrive

    async def redrive(self, hold_lease: HoldLease) -> None:
        """Redrive what operators ask for, and what other code has parked, for a while."""
        unlisted = [RedriveRequest(id, first) for id, first in self._interrupted.items()]
        requests = [request for _, request in await self._parking.requests()]
        for request in requests + unlisted:
            self._interrupted.pop(request.aggregate_id, None)
            if parked := self._parking.aggregates.get(request.aggregate_id):
                await self._redrive(parked, request, hold_lease)
            if self._parking.out_of_time:
                return

    async def _redrive(
        self, parked: ParkedAggregate, request: RedriveRequest, hold_lease: HoldLease
    ) -> None:
        """Publish an aggregate's parked events, lowest first; one that fails again stays parked."""
        id, discard = parked.aggregate_id, self._parking.discard_of(parked, request)
        while await hold_lease():
            await self._outbox.park_pending(id)
            events = await self._outbox.parked(id, REDRIVE_EVENTS)
            if await self._delivery.reclaim():
                continue
            if not events:
                self._parking.end(id, self._parking.aggregates[id].last)
                return await self._save()
            for event in events:
                if not await hold_lease():
                    return None
                if discard and event.version == parked.first:
                    self._parking.discard_first(id, discard)
                    await self._parking.save()
                    await self._outbox.settle_parked(event.key)
                    discard = None
                elif not await self._redrive_event(event, request):
                    return await self._save()
        return None

    async def _redrive_event(self, event: EventRecord, request: RedriveRequest) -> bool:
        """Publish a parked event; False: it failed again, for the reason that is noted."""
        try:
            place = await self._delivery.send(self._delivery.map(event))
            await self._delivery.write({event.aggregate_id: event.version})
        except OPERATORS_ERRORS:
            raise
        except Exception as error:
            self._parking.park(event, error)
            await self._parking.end_request(request)
            return False
        await self._outbox.settle_parked(event.key, place)
        return True


def _is_held_back(event: EventRecord, failed: Failures) -> bool:
    """Return whether an event, or one below it, has failed."""
    first = failed.get(event.aggregate_id)
    return first is not None and event.version >= first[0].version
