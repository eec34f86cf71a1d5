"""Relay: feeds stored events on to the topics that a domain's routes name.

Takes a chunk of `<domain>.stored`; maps each event, lifted to its newest schema, by the routes;
writes what follows and moves the offset in one transaction, also when nothing is routed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from domains.declaration import Domain
from protocols.role import Poison, Report
from protocols.start import take_over
from stores.contracts import Parked, PartitionWriter
from topics.codec import CONTENT_TYPE, decode_stored, encode
from topics.dead_letters import UNREADABLE, dead_letter
from topics.errors import Unreadable
from topics.event import EventRecord
from topics.record import LogRecord, Outgoing

ROLE = "relay"
HEADERS = (("content-type", CONTENT_TYPE),)


class Relay:
    """The relay role of one partition of one domain."""

    def __init__(
        self, domain: Domain[Any], partition: int, writer: PartitionWriter, parked: Parked
    ) -> None:
        self._domain, self._partition = domain, partition
        self._writer, self._parked = writer, parked

    async def open(self) -> int:
        """Take the partition over."""
        return await take_over(self._writer, self._parked, self._partition) or 0

    async def chunk(self, records: Sequence[LogRecord], next_offset: int) -> Report:
        report = Report()
        out: list[Outgoing] = []
        for record in records:
            try:
                event = decode_stored(record.value)
            except Unreadable as error:
                out.append(dead_letter(self._domain.name, ROLE, record, UNREADABLE, str(error)))
                report.dead_letters += 1
            else:
                routed = self._route(record, event)
                out += routed
                report.emitted += len(routed)
        await self._writer.commit(out, next_offset)
        return report

    async def tick(self) -> Report:
        return Report()

    async def close(self) -> None:
        await self._writer.close()

    def _route(self, record: LogRecord, event: EventRecord) -> list[Outgoing]:
        try:
            return list(downstream(self._domain, event, record.value))
        except Exception as error:
            raise Poison(ROLE, self._domain.name, event, record.offset, error) from error


def downstream(
    domain: Domain[Any], event: EventRecord, value: bytes | None = None
) -> Iterator[Outgoing]:
    """The records that the routes make of a stored event; what a route raises passes through.

    `value`: the event as append wrote it, which goes on as it is unless an upcaster lifts it.
    """
    routes = domain.routes_of(event.type)
    if routes:
        lifted = domain.lift(event)
        if value is None or lifted is not event:
            value = encode(lifted)
        for route in routes:
            if route.when(lifted):
                yield Outgoing(route.to, event.aggregate_id.encode(), value, None, HEADERS)
