"""Relay: feeds stored events on to the topics that a domain's routes name.

Takes a chunk of `<domain>.stored`; maps each event, upcast to its latest schema, by the routes;
writes the resulting records and moves the offset in one transaction, also when nothing is routed.
An event whose routes have no condition is passed on with its payload unparsed.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from eventfleet.model.domain import Domain, any_event
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.role import ChunkReport, PoisonEvent
from eventfleet.roles.takeover import RoleStart
from eventfleet.stores.contracts import (
    LogReader,
    ParkedAggregates,
    PartitionWriter,
    Stage,
    StoreRegistry,
)
from eventfleet.stores.errors import TopicRefused
from eventfleet.topics.codec import CANONICAL_PREFIX, EVENT_HEADERS, decode_stored, encode
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import CloudEvent, EventRecord, Instant
from eventfleet.topics.names import wire_name
from eventfleet.topics.record import LogRecord, ProducerRecord

ROLE = "relay"
UNROUTED_TYPE = ""
"""Stands for the types that no route names."""


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


_decode = msgspec.json.Decoder(RelayEnvelope).decode


def read_envelope(value: bytes | None) -> RelayEnvelope | None:
    """The envelope of a record as append writes it; None for any other, which needs `_route`."""
    if not value or not value.startswith(CANONICAL_PREFIX):
        return None
    try:
        return _decode(value.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
    if any(route.when is not any_event for route in routes):
        return None
    latest = domain.latest_schema_version(event_type)
    return UnconditionalRoute(latest, [route.to for route in routes])


class RelayRole:
    """The relay role of one partition of one domain.

    With a `reader` it looks for the topics of its routes: brokers may create, with settings of
    their own, a topic that is written to.
    """

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        registry: StoreRegistry,
        writer: PartitionWriter,
        parked: ParkedAggregates,
        *,
        reader: LogReader | None = None,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self._domain, self._writer, self._parked = domain, writer, parked
        self._start = RoleStart(registry, domain.name, ROLE, partition)
        self._routes, self._notifier = UnconditionalRoutes(domain), notifier
        self._reader = reader

    async def open(self) -> int:
        """Take the partition over. TopicRefused: the topic of a route does not exist."""
        for topic in sorted({route.to for route in self._domain.routes}):
            if self._reader and not await self._reader.partition_count(topic):
                raise TopicRefused(
                    f"topic {topic}, to which a route of {self._domain.name} leads, does not "
                    "exist: create it, and restart this process"
                )
        return await self._start.take_over(self._writer, self._parked)

    # What it does to one chunk

    async def process(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report = ChunkReport()
        out: list[ProducerRecord] = []
        awaited: list[RelayEnvelope] = []
        route_of = self._routes.of
        # Locals, and no call for an event of an unconditional route: this loop runs for each event.
        for record in records:
            event = read_envelope(record.value)
            if event is None:
                out += self._route(record, report)
                continue
            route = route_of(event.type)
            if route is None or route.schema_version != event.schema_version:
                out += self._route(record, report)
            else:
                key, value, timestamp = record.key, record.value, record.timestamp or None
                for topic in route.topics:
                    out.append(ProducerRecord(topic, key, value, None, EVENT_HEADERS, timestamp))
            if event.reply_to is not None:
                awaited.append(event)
        report.emitted = len(out) - report.dead_letters
        await self._writer.commit(out, next_offset)
        if awaited:
            self._notifier.notify(Stage.RELAYED, awaited)
        return report

    async def tick(self) -> ChunkReport:
        return ChunkReport()

    async def close(self) -> None:
        await self._writer.close()

    # What it does when that fails: the whole event is read

    def _route(self, record: LogRecord, report: ChunkReport) -> list[ProducerRecord]:
        """The records for one event, read as a whole; a dead letter if it is unreadable."""
        try:
            event = decode_stored(record.value)
        except InvalidRecord as error:
            report.dead_letters += 1
            return [make_dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error))]
        try:
            return list(downstream(self._domain, event, record.value, record.timestamp or None))
        except Exception as error:
            raise PoisonEvent(ROLE, self._domain.name, event, record.offset, error) from error


def downstream(
    domain: Domain[Any],
    event: EventRecord,
    value: bytes | None = None,
    timestamp: int | None = None,
) -> Iterator[ProducerRecord]:
    """The records that the routes make of a stored event; an error of a route passes through.

    `value` is the event as append wrote it; it is passed on as it is, unless an upcaster applies.
    `timestamp` is that of its record.
    """
    routes = domain.routes_for(event.type)
    if routes:
        upcast = domain.upcast(event)
        if value is None or upcast is not event:
            value = encode(upcast)
        for route in routes:
            if route.when(upcast):
                key = event.aggregate_id.encode()
                yield ProducerRecord(route.to, key, value, None, EVENT_HEADERS, timestamp)
