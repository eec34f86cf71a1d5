"""A till whose accounts are views, and servers in memory that its project role works on."""

from collections.abc import Iterable, Mapping
from dataclasses import replace as with_changes
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from msgspec.structs import replace

from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Event, State
from eventfleet.model.view_rows import decode_row
from eventfleet.model.views import Row, Totals, View
from eventfleet.roles.build_parking import BuildParking
from eventfleet.roles.notices import NULL_NOTIFIER, StageNotifier
from eventfleet.roles.parking import MAX_PARKED_AGGREGATES
from eventfleet.roles.project import ProjectRole
from eventfleet.roles.role import ChunkReport
from eventfleet.roles.view_statistics import ViewStatistics
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.contracts.views import StoredRow, ViewBuild
from eventfleet.stores.memory.dead_letters import MemoryDeadLetters
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import (
    MemoryLog,
    MemoryProducer,
    MemoryReader,
    MemoryTransactionalWriter,
)
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.memory.views import MemoryViews
from eventfleet.stores.memory.yield_point import YieldPoint, no_yield
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.parked import Discard, ParkedAggregate
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.topics.topic_specs import TopicSpec
from tests.simulation.in_memory_servers import START, HandClock
from tests.simulation.scheduler import drive

TICK = timedelta(seconds=3)
"""Longer than the role waits before it looks at builds again."""


# Events


class Opened(Event):
    owner: str


class Deposited(Event):
    cents: int


class Moved(Event):
    owner: str


class Looked(Event):
    pass


class Noted(Event):
    label: str
    text: str | None = None


class Closed(Event):
    pass


class Till(State):
    pass


# Views: whatever is applied twice, left out or out of order raises, or gives other rows


class Account(Row):
    owner: str
    cents: int = 0


class OwnerTotal(Row):
    owner: str
    accounts: int = 0
    cents: int = 0


class Note(Row):
    text: str
    changes: int = 1


def project_account(row: Account | None, event: Any) -> Account | None:
    match event.data:
        case Opened(owner=owner):
            if row is not None:
                raise LookupError(f"{event.aggregate_id} is open")
            return Account(owner=owner)
        case Deposited(cents=cents):
            return replace(row, cents=row.cents + cents)  # type: ignore[type-var, union-attr]
        case Moved(owner=owner):
            return replace(row, owner=owner)  # type: ignore[type-var]
        case Closed():
            if row is None:
                raise LookupError(f"{event.aggregate_id} is closed")
            return None
    return row


def project_note(note: Note | None, event: Any) -> Note | None:
    text = event.data.text
    if text is None or note is None:
        return None if text is None else Note(text=text)
    return Note(text=text, changes=note.changes + 1)


def owner_totals(name: str = "owners") -> Totals[Account, OwnerTotal]:
    return Totals(
        name,
        row=OwnerTotal,
        by=["owner"],
        group=lambda row: OwnerTotal(owner=row.owner) if row.owner != "nobody" else None,
        add=lambda total, row: replace(
            total, accounts=total.accounts + 1, cents=total.cents + row.cents
        ),
        remove=lambda total, row: replace(
            total, accounts=total.accounts - 1, cents=total.cents - row.cents
        ),
        merge=lambda one, other: replace(
            one, accounts=one.accounts + other.accounts, cents=one.cents + other.cents
        ),
    )


ACCOUNTS = View("accounts", row=Account, project=project_account, totals=[owner_totals()])
NOTES = View(
    "notes",
    row=Note,
    project=project_note,
    key=lambda event: event.data.label if isinstance(event.data, Noted) else None,
)


def in_version(view: View[Account], version: int) -> View[Account]:
    """The same view in a later version, where an account begins with that many cents."""

    def project(row: Account | None, event: Any) -> Account | None:
        after = project_account(row, event)
        if isinstance(event.data, Opened) and after:
            return replace(after, cents=version)
        return after

    return with_changes(view, version=version, project=project)


def till(*views: View[Any], **named: Any) -> Domain[Till]:
    wanted: dict[str, Any] = {
        "state": Till,
        "evolve": lambda state, _: state,
        "events": [Opened, Deposited, Moved, Looked, Noted, Closed],
        "views": views or (ACCOUNTS, NOTES),
    }
    return Domain("till", **(wanted | named))


class Placed(NamedTuple):
    """An event as a view's functions get it."""

    aggregate_id: str
    version: int
    data: Event
    time: datetime = START


def random_events(chance: Random, count: int, accounts: int = 3) -> list[tuple[str, Event]]:
    """Events of some accounts, each possible after those before it."""
    is_open: set[str] = set()
    events: list[tuple[str, Event]] = []
    for _ in range(count):
        name = f"a{chance.randrange(accounts)}"
        owner = chance.choice(["ann", "bob", "nobody"])
        label, text = chance.choice("xy"), chance.choice(["one", "two", None])
        event: Event = Opened(owner=owner)
        if name in is_open:
            choices = [Deposited(cents=chance.randrange(1, 99)), Moved(owner=owner), Closed()]
            event = chance.choice([*choices, Looked(), Noted(label=label, text=text), choices[0]])
        if isinstance(event, Opened | Closed):
            is_open ^= {name}
        events.append((name, event))
    return events


# What the rows must be


def folded(view: View[Any], events: Iterable[Any]) -> dict[tuple[str, str], Row]:
    """The rows by aggregate and key, each event applied once and in order."""
    rows: dict[tuple[str, str], Row] = {}
    for event in events:
        key = view.key(event)
        if key is None:
            continue
        place = event.aggregate_id, key
        after = view.project(rows.pop(place, None), event)
        if after is not None:
            rows[place] = after
    return rows


def totalled(totals: Totals[Any, Any], rows: Iterable[Row]) -> dict[Row, Row]:
    """The totals by group, of groups that are not empty."""
    groups: dict[Row, Row] = {}
    for row in rows:
        empty = totals.group(row)
        if empty is not None:
            groups[empty] = totals.add(groups.get(empty, empty), row)
    return groups


class Servers:
    """The servers of the till, in memory; `yield_point` is that of all."""

    def __init__(
        self, domain: Domain[Any], partitions: int = 1, yield_point: YieldPoint = no_yield
    ) -> None:
        self.domain, self.partitions, self.yield_point = domain, partitions, yield_point
        self.topics = domain.topics
        self.log, self.clock = MemoryLog(), HandClock()
        self.events = MemoryEvents(partitions, yield_point)
        self.views = MemoryViews(yield_point)
        self.letters = MemoryDeadLetters(yield_point)
        self.stores = DomainStores(self.events, MemorySnapshots(), self.views)
        self.stored: list[EventRecord] = []
        for topic in self.topics:
            self.log.create(TopicSpec(topic, partitions, 1))

    def role(
        self,
        partition: int = 0,
        domain: Domain[Any] | None = None,
        *,
        cached: int = 100,
        notifier: StageNotifier = NULL_NOTIFIER,
        statistics: ViewStatistics | None = None,
        parking: BuildParking | None = None,
    ) -> ProjectRole:
        writer = MemoryTransactionalWriter(
            self.log, "project", self.topics.stored, partition, self.yield_point
        )
        return ProjectRole(
            *(domain or self.domain, partition, self.stores, writer),
            parking or self.parking(partition),
            self.clock,
            partitions=self.partitions,
            cached=cached,
            notifier=notifier,
            statistics=statistics,
        )

    def parking(
        self,
        partition: int = 0,
        *,
        most: int = MAX_PARKED_AGGREGATES,
        tried: set[tuple[str, int]] | None = None,
    ) -> BuildParking:
        log = TopicParkedLog(self.topics, MemoryReader(self.log, self.yield_point))
        place = self.topics, "project", partition
        return BuildParking(*place, self.letters, self.clock, log, most=most, tried=tried)

    # What is parked

    def parked(self, partition: int = 0) -> list[ParkedAggregate]:
        """What the log has of parked aggregates; the dead-letter store has the same."""
        listed = {each: p.first for (_, each), p in self.letters._parked.items()}
        log = TopicParkedLog(self.topics, MemoryReader(self.log))
        entries = drive(log.load("project", partition))
        assert {each.aggregate_id: each.first for each in entries.parked}.items() <= listed.items()
        return entries.parked

    async def request(self, discard: Discard | None = None) -> None:
        """Ask for a redrive of all that is parked, or for a discard of the first events."""
        for each in await self.letters.find(ParkedQuery(), 100):
            await self.letters.request(each, discard)

    async def redrive(self, *roles: ProjectRole, discard: Discard | None = None) -> None:
        """Have all redriven that is parked, and builds made anew where that needs it."""
        await self.request(discard)
        await made_live(self, *roles)

    # What append does

    async def store(self, aggregate_id: str, event: Event, **named: Any) -> EventRecord:
        """Store the aggregate's next event, placed."""
        partition = partition_of(aggregate_id, self.partitions)
        version = 1 + sum(event.aggregate_id == aggregate_id for event in self.stored)
        wanted: dict[str, Any] = {
            "id": f"e{len(self.stored)}",
            "type": type(event).__name__,
            "data": {name: getattr(event, name) for name in event.__struct_fields__},
            "position": f"0-{partition}-{len(self.stored)}",
        }
        record = EventRecord(
            domain=self.domain.name,
            aggregate_id=aggregate_id,
            version=version,
            time=START,
            **(wanted | named),
        )
        await self.events.write([record])
        self.stored.append(record)
        return record

    async def emit(self, *events: EventRecord) -> None:
        await self.put(*((each.aggregate_id, encode(each)) for each in events))

    async def put(self, *records: tuple[str, bytes]) -> None:
        out = [
            ProducerRecord(
                self.topics.stored, key.encode(), value, partition_of(key, self.partitions)
            )
            for key, value in records
        ]
        await MemoryProducer(self.log).produce(out)

    async def append(self, aggregate_id: str, *events: Event, **named: Any) -> None:
        for each in events:
            await self.emit(await self.store(aggregate_id, each, **named))

    # What the log has

    def records(self, topic: str, partition: int = 0, start: int = 0) -> list[LogRecord]:
        entries = self.log.entries(topic, partition)[start:]
        kept = (e for e in entries if not (e.transaction and e.transaction.aborted))
        return [entry.record for entry in kept if entry.record]

    def offset(self, partition: int = 0) -> int | None:
        return self.log.offsets.get(("project", self.topics.stored, partition))

    async def take(
        self, role: ProjectRole, partition: int = 0, limit: int | None = None
    ) -> ChunkReport:
        """Give a role its next records, from the committed offset, as one chunk."""
        return await self.take_from(self.offset(partition) or 0, role, partition, limit)

    async def take_from(
        self, start: int, role: ProjectRole, partition: int = 0, limit: int | None = None
    ) -> ChunkReport:
        records = self.records(self.topics.stored, partition, start)[:limit]
        return await role.process(records, records[-1].offset + 1) if records else ChunkReport()

    # What the views have

    def build(self, view: str, number: int | None = None) -> ViewBuild:
        """A build of this number, or the live one."""
        builds = [each for each in self.views._builds[view] if each]
        found = self.views._builds[view].live if number is None else None
        return found or next(each for each in builds if each.number == number)

    def table(self, view: str, table: str, number: int) -> Mapping[str, StoredRow]:
        return self.views.rows(view, table, number)._rows

    def rows(self, view: View[Any], number: int | None = None) -> dict[tuple[str, str], Row]:
        """The rows of a build by aggregate and key."""
        stored = self.table(view.name, view.name, self.build(view.name, number).number)
        return {
            (id.partition("\0")[0], id.partition("\0")[2]): _row(view.row, each)
            for id, each in stored.items()
            if each.fields is not None
        }

    def totals(
        self, view: View[Any], totals: Totals[Any, Any], number: int | None = None
    ) -> dict[Row, Row]:
        """The totals of a build by group, merged."""
        merged: dict[Row, Row] = {}
        stored = self.table(view.name, totals.name, self.build(view.name, number).number)
        for each in stored.values():
            if each.fields is not None:
                part = _row(totals.row, each)
                empty = type(part)(**{name: getattr(part, name) for name in totals.by})
                merged[empty] = totals.merge(merged[empty], part) if empty in merged else part
        return {empty: total for empty, total in merged.items() if total != empty}

    def happened(self) -> list[Placed]:
        """All stored events, in the order of each partition."""
        return [
            Placed(each.aggregate_id, each.version, self.domain.payload(each))  # type: ignore[arg-type]
            for each in self.stored
        ]

    def check(self, view: View[Any], number: int | None = None) -> None:
        """Every row and every total is what the stored events give."""
        expected = folded(view, self.happened())
        assert self.rows(view, number) == expected
        for totals in view.totals:
            found = self.totals(view, totals, number)
            assert found == totalled(totals, expected.values())


def _row(kind: type[Row], stored: StoredRow) -> Row:
    return decode_row(kind, stored.fields or {})


async def made_live(servers: Servers, *roles: ProjectRole) -> None:
    """Let roles tick until their builds answer."""
    for _ in range(4):
        for role in roles:
            await role.tick()
        servers.clock.time += TICK
