"""Relay: feeds stored events on to the topics that a domain's routes name.

Takes a chunk of `<domain>.stored`; maps each event, upcast to its latest schema, by the routes;
writes the resulting records and moves the offset in one transaction, also when nothing is routed.
An event whose routes have no condition is passed on with its payload unparsed. An event that a
route or an upcaster raises on parks its aggregate, and so does one whose record the topic of a
route refuses for its size.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.roles.logged_parking import LoggedParking
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier, notify_parked
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.takeover import RoleStart
from eventfleet.stores.contracts import (
    EventStore,
    LogReader,
    PartitionWriter,
    Stage,
)
from eventfleet.stores.contracts.dead_letters import RedriveRequest
from eventfleet.stores.errors import RecordsTooLarge, ServerUnavailable, TopicRefused
from eventfleet.topics.codec import (
    CANONICAL_PREFIX,
    EVENT_HEADERS,
    REDRIVEN_HEADERS,
    decode_stored,
    encode,
)
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import CloudEvent, EventRecord, Instant
from eventfleet.topics.names import wire_name
from eventfleet.topics.parked import ParkedAggregate
from eventfleet.topics.record import Headers, LogRecord, ProducerRecord
from eventfleet.topics.values import DECODE_ERRORS

ROLE = "relay"
REDRIVE_PAGE_EVENTS = 1_000
REDRIVE_PAGE_BYTES = 4_000_000
UNROUTED_TYPE = ""
"""Stands for the types that no route names."""

logger = logging.getLogger(__name__)


# What it takes


class UnparsedPayload(msgspec.Struct, frozen=True):
    """A payload that is checked to be a JSON object, and not read."""


class RelayEnvelope(CloudEvent, frozen=True, kw_only=True, gc=False):
    """The part of a stored event that passing it on needs, its payload unparsed."""

    id: str
    type: str
    time: Instant
    data: UnparsedPayload
    schema_version: int = 1
    reply_to: str | None = None
    discarded: None = None  # a discarded event is read as a whole


_decode = msgspec.json.Decoder(RelayEnvelope).decode


def read_envelope(value: bytes | None) -> RelayEnvelope | None:
    """The envelope of a record as append writes it; None for any other, which needs `_route`."""
    if not value or not value.startswith(CANONICAL_PREFIX):
        return None
    try:
        return _decode(value.decode())
    except DECODE_ERRORS:
        return None


class UnconditionalRoute(NamedTuple):
    """The topics of all events of one type, whatever their payload, in the latest schema."""

    schema_version: int
    topics: Sequence[str]


class UnconditionalRoutes:
    """The event types of a domain of which no route has a condition, with their topics."""

    def __init__(self, domain: Domain[Any]) -> None:
        routed = {name for route in domain.routes for name in route.names}
        types = routed if domain.schema_free else {*map(wire_name, domain.events)}
        self._routes = {name: _unconditional_route(domain, name) for name in types}
        self._others = _unconditional_route(domain, UNROUTED_TYPE) if domain.schema_free else None

    def of(self, event_type: str) -> UnconditionalRoute | None:
        """The route of a type; None where the whole event must be read."""
        return self._routes.get(event_type, self._others)


def _unconditional_route(domain: Domain[Any], event_type: str) -> UnconditionalRoute | None:
    routes = domain.routes_for(event_type)
    if any(route.is_conditional for route in routes):
        return None
    latest = domain.latest_schema_version(event_type)
    return UnconditionalRoute(latest, [route.to for route in routes])


class RelayRole:
    """The relay role of one partition of one domain; a redrive reads parked events from `events`.

    With a `reader` it looks for the topics of its routes: brokers may create, with settings of
    their own, a topic that is written to.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        events: EventStore,
        writer: PartitionWriter,
        parking: LoggedParking,
        *,
        reader: LogReader | None = None,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self._domain, self._events, self._writer = domain, events, writer
        self._parking = parking
        self._start = RoleStart(events.registry, domain.name, ROLE, partition)
        self._routes, self._notifier = UnconditionalRoutes(domain), notifier
        self._reader = reader
        self._targets = {*domain.targets}
        self._next_offset = 0
        # By aggregate and version, why records were refused of what is in hand.
        self._too_large: dict[tuple[str, int], str] = {}

    async def open(self) -> int:
        """Take the partition over. TopicRefused: the topic of a route does not exist."""
        for topic in sorted(self._targets):
            if self._reader and not await self._reader.partition_count(topic):
                raise TopicRefused(
                    f"topic {topic}, to which a route of {self._domain.name} leads, does not "
                    "exist: create it, and restart this process"
                )
        self._next_offset = await self._start.take_over(self._writer)
        await self._parking.open()
        return self._next_offset

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        return await self._until_none_is_refused(lambda: self._process(records, next_offset))

    async def _process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report = ChunkReport()
        out: list[ProducerRecord] = []
        awaited: list[RelayEnvelope] = []
        parked_now: list[EventRecord] = []
        route_of, parked, too_large = self._routes.of, self._parking.aggregates, self._too_large
        # Locals, and no call for an event of an unconditional route: this loop runs for each event.
        for record in records:
            if parked and self._parking.holds(record):
                self._park_behind(record, out, report, parked_now)
                continue
            event = read_envelope(record.value)
            if event is None:
                self._route(record, out, report, parked_now)
                continue
            route = None if too_large else route_of(event.type)
            if route is None or route.schema_version != event.schema_version:
                if not self._route(record, out, report, parked_now):
                    continue
            else:
                key, value, timestamp = record.key, record.value, record.timestamp or None
                out += [
                    ProducerRecord(topic, key, value, None, EVENT_HEADERS, timestamp)
                    for topic in route.topics
                ]
            if event.reply_to is not None:
                awaited.append(event)
        report.emitted = len(out) - report.dead_letters
        out += self._parking.dead_letters(records)
        await self._commit(out, next_offset)
        if awaited:
            self._notifier.notify(Stage.RELAYED, awaited)
        reasons = [(each, parked[each.aggregate_id].reason) for each in parked_now]
        notify_parked(self._notifier, Stage.RELAYED, ROLE, reasons)
        return report

    async def tick(self) -> ChunkReport:
        """Do what operators ask for of parked aggregates."""
        report = ChunkReport()
        if requests := await self._parking.requests():
            report += await self._until_none_is_refused(lambda: self._redrive(requests))
        return report

    @property
    def at_rest(self) -> bool:
        return not self._parking.aggregates

    async def _commit(self, out: Sequence[ProducerRecord], next_offset: int) -> None:
        """Commit. Without transactions what is parked comes last: what it hides was written."""
        await self._writer.commit(out, next_offset, last=await self._parking.save())
        self._next_offset = next_offset
        await self._parking.release()

    async def close(self) -> None:
        await self._writer.close()

    # What it does when that fails: the whole event is read

    def _route(
        self,
        record: LogRecord,
        out: list[ProducerRecord],
        report: ChunkReport,
        parked: list[EventRecord],
    ) -> bool:
        """Add the records of one event, read as a whole, or a dead letter if it is unreadable.

        False: a route or an upcaster raised, so its aggregate is parked, and it is among `parked`.
        """
        event = self._read(record, out, report)
        if event is None:
            return True
        try:
            if not event.discarded:  # append has placed it, though nobody can read it
                out += self._downstream(event, record.value, record.timestamp or None)
        except Exception as error:
            self._parking.park(event, error)
            parked.append(event)
            report.parked += 1
            return False
        return True

    def _downstream(
        self,
        event: EventRecord,
        value: bytes | None = None,
        timestamp: int | None = None,
        headers: Headers = EVENT_HEADERS,
    ) -> list[ProducerRecord]:
        """The records that the routes make of an event. RecordsTooLarge: one was refused before."""
        if reason := self._too_large.get((event.aggregate_id, event.version)):
            raise RecordsTooLarge(reason)
        return [*downstream(self._domain, event, value, timestamp, headers)]

    def _park_behind(
        self,
        record: LogRecord,
        out: list[ProducerRecord],
        report: ChunkReport,
        parked: list[EventRecord],
    ) -> None:
        event = self._read(record, out, report)
        if event is None:
            return
        if event.version < self._parking.aggregates[event.aggregate_id].first:
            # It comes again, as without transactions it may.
            self._route(record, out, report, parked)
        else:
            self._parking.park_behind(event.aggregate_id, event.version)
            parked.append(event)
            report.parked += 1

    def _read(
        self, record: LogRecord, out: list[ProducerRecord], report: ChunkReport
    ) -> EventRecord | None:
        """Read an event; None, and a dead letter, if it is unreadable."""
        try:
            return decode_stored(record.value)
        except InvalidRecord as error:
            report.dead_letters += 1
            letter = make_dead_letter(
                self._domain.topics.dead_letters, ROLE, record, UNREADABLE, str(error)
            )
            out.append(letter)
            return None

    async def _until_none_is_refused(
        self, work: Callable[[], Awaitable[ChunkReport]]
    ) -> ChunkReport:
        """Do the work; where a topic refuses records for their size, do it again from the beginning
        and park their aggregates."""
        while True:
            try:
                report = await work()
            except RecordsTooLarge as error:
                self._note_too_large(error)
                await self._open_again()
            else:
                self._too_large = {}
                return report

    def _note_too_large(self, error: RecordsTooLarge) -> None:
        """Note the events of refused records; of none, smaller batches are all that it takes."""
        events = {
            (event.aggregate_id, event.version)
            for record in error.records
            if record.topic in self._targets and (event := decode_stored(record.value))
        }
        if error.records and not events - self._too_large.keys():
            raise error
        self._too_large |= dict.fromkeys(events, str(error))

    async def _open_again(self) -> None:
        """Begin anew after a commit that has failed. ServerUnavailable: the offset has moved."""
        offset = self._next_offset
        if await self.open() != offset:
            raise ServerUnavailable(f"{self._domain.name}: another owner went on from {offset}")

    # Redrive

    async def _redrive(
        self, requests: Sequence[tuple[ParkedAggregate, RedriveRequest]]
    ) -> ChunkReport:
        """Route the parked events of some aggregates, of each in order, up to one that fails again.

        They go page by page, a page of each in one transaction. Out of time it stops after a page,
        and the requests stay.
        """
        report, parking = ChunkReport(), self._parking
        left: dict[str, RedriveRequest] = {}
        for _, request in requests:
            parked = parking.aggregates.get(request.aggregate_id)
            if parked is None:  # ended since, when it was opened again
                continue
            if discard := parking.discard_of(parked, request):
                parking.discard_first(parked.aggregate_id, discard)
                parking.end(parked.aggregate_id, parked.first)
                report.discarded += 1
            left[parked.aggregate_id] = request
        while left:
            ended = await self._redrive_page([*left], report)
            for aggregate_id in ended:
                request = left.pop(aggregate_id)
                if aggregate_id in parking.aggregates:
                    await parking.end_request(request)
            if parking.out_of_time:
                break
        return report

    async def _redrive_page(self, aggregate_ids: Sequence[str], report: ChunkReport) -> list[str]:
        """Redrive a page of each of these. Returns those that are done with, or have failed."""
        parking, page = self._parking, RedrivePage()
        waiting = [each for key in aggregate_ids if (each := parking.aggregates.get(key))]
        ended = [key for key in aggregate_ids if key not in parking.aggregates]
        for each in waiting:
            if page.full:
                break
            done, failed = await self._route_parked(each, page)
            if done >= each.first and not failed:
                parking.end(each.aggregate_id, done)
            report.redriven += done - each.first + 1
            if failed or each.aggregate_id not in parking.aggregates:
                ended.append(each.aggregate_id)
        report.emitted += len(page.records)
        await self._commit(page.records, self._next_offset)
        return ended

    async def _route_parked(self, parked: ParkedAggregate, page: "RedrivePage") -> tuple[int, bool]:
        """Add parked events to a page, up to its end: the last version that is through, and whether
        the next one has failed, or is not even stored."""
        done, missing = parked.first - 1, True
        events = self._events.read(parked.aggregate_id, done, parked.last, REDRIVE_PAGE_EVENTS)
        async for event in events:
            if event.version != done + 1:
                break
            missing = False
            if page.full:
                break
            try:
                routed = self._downstream(event, headers=REDRIVEN_HEADERS)
            except Exception as error:
                self._parking.park(event, error)
                return done, True
            page.add(routed)
            done = event.version
        if missing:
            logger.error(
                "relay of %s can't redrive %r: version %d is not in the event store",
                *(self._domain.name, parked.aggregate_id, parked.first),
            )
        return done, missing


class RedrivePage:
    """The records that one transaction of a redrive writes, of a bounded number of events."""

    def __init__(self) -> None:
        self.records: list[ProducerRecord] = []
        self._events = self._size = 0

    @property
    def full(self) -> bool:
        return self._events >= REDRIVE_PAGE_EVENTS or self._size > REDRIVE_PAGE_BYTES

    def add(self, records: Sequence[ProducerRecord]) -> None:
        """Add the records of one event."""
        self.records += records
        self._events += 1
        self._size += sum(len(record.value or b"") for record in records)


def downstream(
    domain: Domain[Any],
    event: EventRecord,
    value: bytes | None = None,
    timestamp: int | None = None,
    headers: Headers = EVENT_HEADERS,
) -> Iterator[ProducerRecord]:
    """The records that the routes make of a stored event; an error of a route passes through.

    `value` is the event as append wrote it; it is passed on as it is, unless an upcaster applies.
    `timestamp` is that of its record.
    """
    routes = domain.routes_for(event.type)
    if routes:
        upcast = domain.upcast(event)
        if value is None or upcast is not event:
            value = encode(replace(upcast, discarded=False))
        given = domain.for_routes(upcast)
        for route in routes:
            if route.takes(given):
                key = event.aggregate_id.encode()
                yield ProducerRecord(route.to, key, value, None, headers, timestamp)
