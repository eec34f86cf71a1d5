"""Reads a domain's topics into rows."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from eventfleet.audit.report import AuditReport
from eventfleet.audit.rows import (
    STATE,
    AcceptedReply,
    AnyRow,
    DeadLetter,
    EventCopy,
    LoggedEvent,
    PublishedState,
    Successor,
    UnreadableRecord,
    event_digest,
    name_of_record,
    state_digest,
)
from eventfleet.audit.scope import STORED, AuditScope
from eventfleet.audit.spool import Spool
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import LogReader, Snapshot
from eventfleet.topics.codec import REDRIVEN, decode, decode_stored
from eventfleet.topics.dead_letters import KIND, PARKED, REASON, ROLE, SOURCE, SUPERSEDED
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.record import LogRecord
from eventfleet.topics.values import DECODE_ERRORS

TAKEN_OUTCOMES = ("accepted", "repeated")
NO_FLOOR_YET = 2**63
"""Above every offset."""


class ReplyOutcome(msgspec.Struct, gc=False):
    """The fields of a reply that tell of its event."""

    command_id: str
    aggregate_id: str
    outcome: str
    event_id: str = ""


_decode_reply = msgspec.json.Decoder(ReplyOutcome).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode


class TopicReader:
    """Reads each topic of the scope, partition by partition."""

    def __init__(
        self,
        domain: Domain[Any],
        reader: LogReader,
        scope: AuditScope,
        spool: Spool[AnyRow],
        report: AuditReport,
    ) -> None:
        self._domain, self._reader = domain, reader
        self._scope, self._spool, self._report = scope, spool, report

    async def _records(self, topic: str, partition: int) -> AsyncIterator[LogRecord]:
        """Stream a partition's committed records between the watermarks."""
        oldest, end = self._scope.watermarks[topic][partition]
        if oldest < end:
            async for record in self._reader.read(topic, partition, oldest, end):
                yield record

    # The log, and what append refused

    async def read_dead_letters(self, partition: int) -> None:
        """Read the dead letters of a partition; of append's, also how far back they reach."""
        topic, events = self._scope.topics.dead_letters, self._scope.topics.events
        floors = self._scope.dead_letter_floors
        if self._scope.watermarks[topic][partition].oldest:
            floors[partition] = NO_FLOOR_YET
        async for record in self._records(topic, partition):
            headers = {name: value.decode(errors="replace") for name, value in record.headers}
            source, _, offset = headers.get(SOURCE, "").rpartition("/")
            if source != f"{events}/{partition}" or not offset.isdecimal():
                self._report_dead_letter(record, headers)
                continue
            if floors.get(partition) == NO_FLOOR_YET:
                floors[partition] = int(offset)
            self._add_dead_letter(record, int(offset), headers)

    def _add_dead_letter(self, record: LogRecord, offset: int, headers: dict[str, str]) -> None:
        kind, reason = headers.get(KIND, ""), headers.get(REASON, "")
        add, events = self._spool.add, self._scope.topics.events
        try:
            event = decode(record.value)
        except InvalidRecord:
            name = name_of_record(events, record.partition, offset)
            add(DeadLetter(_key(record), name, record.partition, offset, kind, reason, None))
            return
        key = event.aggregate_id
        add(DeadLetter(key, event.id, record.partition, offset, kind, reason, event.prev))
        if kind == SUPERSEDED and event.prev:
            add(Successor(key, event.prev, event.id, record.partition, offset))

    def _report_dead_letter(self, record: LogRecord, headers: dict[str, str]) -> None:
        """Report what another role than append refused."""
        self._report.dead_letters += 1
        source = headers.get(SOURCE, "")
        detail = f"{headers.get(ROLE, '')} refused {source}: {headers.get(REASON, '')}"
        if headers.get(KIND) == PARKED:
            self._report.inform("parked", _key(record), detail)
        elif source.startswith(f"{self._scope.topics.commands}/"):
            self._report.inform("refused-command", _key(record), detail)
        else:
            self._report.add_problem("dead-letter", _key(record), detail)

    async def read_events(self, partition: int) -> None:
        """Read a partition of `<domain>.events`."""
        topic, add = self._scope.topics.events, self._spool.add
        async for record in self._records(topic, partition):
            offset = record.offset
            try:
                event = decode(record.value)
            except InvalidRecord:
                name = name_of_record(topic, partition, offset)
                add(UnreadableRecord(_key(record), name, partition, offset))
                continue
            digest = event_digest(event)
            add(LoggedEvent(event.aggregate_id, event.id, partition, offset, digest, event.prev))

    # Copies of stored events

    async def read_copies(self, number: int, partition: int) -> None:
        """Read a partition of a topic that has copies; others may write to routes, too."""
        topic, domain = self._scope.copies[number], self._domain.name
        async for record in self._records(topic, partition):
            try:
                event = decode_stored(record.value)
            except InvalidRecord:
                event = None
            if event and event.position and event.domain == domain:
                self._add_copy(number, record, event, event.position)
            elif number == STORED:
                fault = f"offset {record.offset} of {topic} is not a stored event"
                self._report.violate(4, _key(record), fault)

    def _add_copy(self, number: int, record: LogRecord, event: EventRecord, position: str) -> None:
        place = Position.parse(position)
        key = number, record.partition, place.partition
        redriven = any(name == REDRIVEN for name, _ in record.headers)
        if key not in self._scope.floors and not redriven:
            self._scope.floors[key] = place, event.version
        row = EventCopy(
            event.aggregate_id,
            event.id,
            number,
            record.partition,
            record.offset,
            event.version,
            position,
            event_digest(event),
            event.schema_version,
        )
        self._spool.add(row)

    # Replies and snapshots

    async def read_replies(self, partition: int) -> None:
        """Read the replies of a partition; those of accepted commands name an event."""
        topic = self._scope.topics.replies
        async for record in self._records(topic, partition):
            try:
                reply = _decode_reply(record.value or b"")
            except DECODE_ERRORS as error:
                where = f"offset {record.offset} of {topic}/{partition}"
                self._report.add_problem("reply", _key(record), f"{where} is not a reply: {error}")
                continue
            if reply.event_id and reply.outcome in TAKEN_OUTCOMES:
                self._spool.add(AcceptedReply(reply.aggregate_id, reply.event_id, reply.command_id))

    async def read_snapshots(self, partition: int) -> None:
        """Read a partition of the compacted topic; of an aggregate, the last record counts."""
        topic = self._scope.topics.snapshots
        async for record in self._records(topic, partition):
            key = _key(record)
            try:
                snapshot = _decode_snapshot(record.value or b"")
            except DECODE_ERRORS as error:
                fault = f"offset {record.offset} of {topic} is not a snapshot: {error}"
                self._report.violate(3, key, fault)
                continue
            version = snapshot.version
            if snapshot.shape != self._domain.state_shape:
                version = 0  # none of ours; what this aggregate had before is no longer the last
            digest, taken_at = state_digest(snapshot.state), snapshot.taken_at.timestamp()
            self._spool.add(PublishedState(key, STATE, version, digest, partition, taken_at))


def _key(record: LogRecord) -> str:
    return (record.key or b"").decode(errors="replace")
