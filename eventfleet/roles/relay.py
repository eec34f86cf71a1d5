"""Relay: feeds stored events on to the topics that a domain's routes name.

Takes a chunk of `<domain>.stored`; maps each event, lifted to its newest schema, by the routes;
writes what follows and moves the offset in one transaction, also when nothing is routed. An event
whose routes ask for nothing but its type goes on with its payload unread.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from eventfleet.model.domain import Domain, any_event
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.role import ChunkReport, PoisonEvent
from eventfleet.roles.takeover import take_over
from eventfleet.stores.contracts import ParkedAggregates, PartitionWriter, Stage
from eventfleet.topics.codec import CANONICAL_PREFIX, EVENT_HEADERS, decode_stored, encode
from eventfleet.topics.dead_letters import UNREADABLE, make_dead_letter
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import CloudEvent, EventRecord, Instant
from eventfleet.topics.record import LogRecord, ProducerRecord

ROLE = "relay"
ANOTHER = ""
"""Stands for any type that no route names."""


# What it takes


class UnparsedPayload(msgspec.Struct, frozen=True):
    """A payload of which nothing is read but that it is a JSON object."""


class RelayEnvelope(CloudEvent, frozen=True, kw_only=True, gc=False):
    """What passing an event on takes, its payload unread."""

    id: str
    type: str
    time: Instant
    data: UnparsedPayload
    schema_version: int = 1
    reply_to: str | None = None


_read = msgspec.json.Decoder(RelayEnvelope).decode


class UnconditionalRoute(NamedTuple):
    """The topics to which events of one type go, whatever they hold, in the `newest` schema."""

    newest: int
    topics: Sequence[str]


class UnconditionalRoutes:
    """What is straight in a domain: types of which no route has a condition."""

    def __init__(self, domain: Domain[Any]) -> None:
        routed = {name for route in domain.routes for name in route.names}
        types = routed if domain.schema_free else {kind.__name__ for kind in domain.events}
        self._of = {name: _way(domain, name) for name in types}
        self._of_others = _way(domain, ANOTHER) if domain.schema_free else None

    def of(self, event_type: str) -> UnconditionalRoute | None:
        """None for what needs a closer look."""
        return self._of.get(event_type, self._of_others)


def _way(domain: Domain[Any], event_type: str) -> UnconditionalRoute | None:
    routes = domain.routes_for(event_type)
    if any(route.when is not any_event for route in routes):
        return None
    return UnconditionalRoute(
        domain.latest_schema_version(event_type), [route.to for route in routes]
    )


def envelope(value: bytes | None) -> RelayEnvelope | None:
    """The envelope of what append wrote; None for what needs a closer look."""
    if not value or not value.startswith(CANONICAL_PREFIX):
        return None
    try:
        return _read(value.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class RelayRole:
    """The relay role of one partition of one domain."""

    def __init__(
        self,
        domain: Domain[Any],
        partition: int,
        writer: PartitionWriter,
        parked: ParkedAggregates,
        *,
        notifier: StageNotifier = NULL_NOTIFIER,
    ) -> None:
        self._domain, self._partition = domain, partition
        self._writer, self._parked = writer, parked
        self._ways, self._notifier = UnconditionalRoutes(domain), notifier

    async def open(self) -> int:
        """Take the partition over."""
        return await take_over(self._writer, self._parked, self._partition) or 0

    # What it does to one chunk

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> ChunkReport:
        report = ChunkReport()
        out: list[ProducerRecord] = []
        awaited: list[RelayEnvelope] = []
        way_of = self._ways.of
        for record in records:
            event = envelope(record.value)
            if event is None:
                out += self._closely(record, report)
                continue
            way = way_of(event.type)
            if way is None or way.newest != event.schema_version:
                out += self._closely(record, report)
            else:
                for to in way.topics:
                    out.append(ProducerRecord(to, record.key, record.value, None, EVENT_HEADERS))
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

    def _closely(self, record: LogRecord, report: ChunkReport) -> list[ProducerRecord]:
        """What becomes of a record whose event must be read as a whole, if it can be."""
        try:
            event = decode_stored(record.value)
        except InvalidRecord as error:
            report.dead_letters += 1
            return [make_dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error))]
        try:
            return list(downstream(self._domain, event, record.value))
        except Exception as error:
            raise PoisonEvent(ROLE, self._domain.name, event, record.offset, error) from error


def downstream(
    domain: Domain[Any], event: EventRecord, value: bytes | None = None
) -> Iterator[ProducerRecord]:
    """The records that the routes make of a stored event; what a route raises passes through.

    `value`: the event as append wrote it, which goes on as it is unless an upcaster lifts it.
    """
    routes = domain.routes_for(event.type)
    if routes:
        lifted = domain.upcast(event)
        if value is None or lifted is not event:
            value = encode(lifted)
        for route in routes:
            if route.when(lifted):
                yield ProducerRecord(
                    route.to, event.aggregate_id.encode(), value, None, EVENT_HEADERS
                )
