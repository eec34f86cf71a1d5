"""Processes that edit documents and publish their changes, subscribers, and their servers, in
simulated time."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from eventfleet.buses.confirmations import Confirmations
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.publication import Publication
from eventfleet.buses.publisher import Publisher
from eventfleet.documents import EditConflict, EventMapper, EventSourcedStorage, MemoryDocuments
from eventfleet.documents.diff import Diff
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.contracts.documents import FeedItem
from eventfleet.stores.contracts.outbox import BusNote, BusPlace
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.outbox import MemoryOutbox
from eventfleet.topics.event import EventKey
from eventfleet.topics.parked import Discard
from tests.simulation.faults import Faults, Shaky
from tests.simulation.fleet_world import LoopClock
from tests.simulation.publication_bus import BusServer, Mended, SimulatedBus
from tests.simulation.scheduler import Scheduler, checkpoint, drive
from tests.simulation.simulated_loop import Process, SimulatedLoop

DOCUMENTS = ("a", "b", "c", "d")
GROUPS = ("mails", "table")
SOUND = Mended(set(), set())


class Note(msgspec.Struct):
    """A document of a schedule."""

    id: str
    count: int = 0
    version: int = 0


class NoteMapper(EventMapper):
    """Raises for the documents that the team's code has a mistake for."""

    def __init__(self, mended: Mended) -> None:
        super().__init__()
        self._mended = mended

    def map_to_events(self, collection: str, id: str, diff: Diff) -> Any:
        if self._mended.is_poison(id, diff.version):
            raise ZeroDivisionError(f"{id} is poison")
        return super().map_to_events(collection, id, diff)


@dataclass(frozen=True)
class PublicationParts:
    """What the processes are made of; a test takes a rule out by putting another part in."""

    outbox: type[MemoryOutbox] = MemoryOutbox
    bus: type[SimulatedBus] = SimulatedBus
    publisher: type[Publisher] = Publisher
    publication: type[Publication] = Publication
    confirmations: type[Confirmations] = Confirmations


@dataclass(frozen=True)
class PublicationScenario:
    """What happens in a schedule: how often, in a step, a process stands still or is killed, the
    bus restarts empty, and a write of the publisher arrives late. `poison`: the share of documents
    that the code of a process can't publish yet."""

    processes: int = 2
    edits: int = 25
    stalls: float = 0.003
    kills: float = 0.002
    restarts: float = 0.0
    poison: float = 0.0
    late: float = 0.0
    parts: PublicationParts = field(default_factory=PublicationParts)


class LateOutbox(Shaky):
    """An outbox, whose requests arrive late now and then: the lease is another's by then."""

    def __init__(self, inner: MemoryOutbox, faults: Faults, late: float) -> None:
        super().__init__(inner, faults)
        self.late = late

    async def park(self, keys: Collection[EventKey]) -> None:
        await self._arrive_late()
        await self.faults.call("park", keys, lambda: self.inner.park(keys))

    async def settle(self, keys: Collection[EventKey], place: BusPlace | None = None) -> None:
        await self._arrive_late()
        about = [key.aggregate_id for key in keys], place
        await self.faults.call("settle", about, lambda: self.inner.settle(keys, place))

    async def _arrive_late(self) -> None:
        scheduler = self.faults.scheduler
        if scheduler.chance(self.late):
            scheduler.counts["a request arrives late"] += 1
            await asyncio.sleep(scheduler.random.uniform(4.0, 7.0))


class FeedStore(Shaky):
    """A document store in one process, whose feed ends now and then."""

    def __init__(self, inner: MemoryDocuments, faults: Faults, late: float) -> None:
        super().__init__(inner, faults)
        self.outbox = LateOutbox(inner.outbox, faults, late)
        self.letters = Shaky(inner.letters, faults)

    @asynccontextmanager
    async def feed(self, cursor: str | None) -> AsyncIterator[Any]:
        self.faults.strike("feed", "refused")
        async with self.inner.feed(cursor) as items:
            yield self._breaking_off(items)

    async def _breaking_off(self, items: AsyncIterator[FeedItem]) -> AsyncIterator[FeedItem]:
        async for item in items:
            self.faults.strike("feed", "breaks off")
            yield item

    def changes(self, aggregate_id: str, after: int, limit: int | None = None) -> Any:
        return self.inner.changes(aggregate_id, after, limit)


class PublicationWorld:
    def __init__(self, scenario: PublicationScenario, seed: int | Random) -> None:
        self.scenario, self.scheduler = scenario, Scheduler(seed)
        self.random = self.scheduler.random
        self.loop = SimulatedLoop(self.scheduler)
        self.clock = LoopClock(self.loop)
        self.server = BusServer(self.scheduler)
        self.faults = Faults(self.scheduler, self.random.choice([0.0, 0.005, 0.02]))
        self.code: list[Mended] = []
        self.store = MemoryDocuments(yield_point=checkpoint)
        self.store.outbox = scenario.parts.outbox(checkpoint)
        self.handled: dict[str, list[DocumentEvent]] = {name: [] for name in GROUPS}
        self.streams: list[list[DocumentEvent]] = []
        self.acknowledged: defaultdict[str, int] = defaultdict(int)
        self.discarded: set[tuple[str, int]] = set()
        self.watched: defaultdict[str, list[int]] = defaultdict(list)
        self.editing: set[Process] = set()
        self.is_mended = False
        self.outboxes: list[LateOutbox] = []

    def _poisoned(self) -> set[str]:
        if self.is_mended:
            return set()
        return {id for id in DOCUMENTS if self.scheduler.chance(self.scenario.poison / 2)}

    def go_quiet(self) -> None:
        self.faults.rate = 0.0
        for outbox in self.outboxes:
            outbox.late = 0.0

    def mend(self) -> None:
        self.is_mended = True
        for code in self.code:
            code.mend()

    def bus(self, code: Mended) -> SimulatedBus:
        return self.scenario.parts.bus(self.server, self.faults, code)

    def storage(self) -> EventSourcedStorage[Note]:
        """Return a process's storage; its code has mistakes of its own."""
        code = Mended(self._poisoned(), self._poisoned())
        self.code.append(code)
        store = FeedStore(self.store, self.faults, self.scenario.late)
        self.outboxes.append(store.outbox)
        return EventSourcedStorage(
            "notes",
            Note,
            store,
            bus=self.bus(code),
            mapper=NoteMapper(code),
            clock=self.clock,
        )

    async def run_process(self, process: Process, edits: int) -> None:
        """Edit documents, one after the other, while the storage publishes; then stay."""
        self.editing.add(process)
        while True:
            try:
                async with self.storage() as notes:
                    watching = asyncio.ensure_future(self._watch(process, notes))
                    while edits:
                        edits -= 1
                        await self._edit(notes)
                    self.editing.discard(process)
                    await watching
            except ServerUnavailable:
                await asyncio.sleep(0.1)

    async def _edit(self, notes: EventSourcedStorage[Note]) -> None:
        await asyncio.sleep(self.random.random() / 10)
        id = self.random.choice(DOCUMENTS)

        def count(note: Note | None) -> Note:
            return Note(id, note.count + 1 if note else 1)

        try:
            if self.scheduler.chance(0.1) and self.acknowledged[id]:
                await notes.delete_one(id)
            else:
                stored, _ = await notes.edit_or_create(id, count)
                assert stored
                self.acknowledged[id] = max(self.acknowledged[id], stored.version)
                self.scheduler.note("edits", (id, stored.version))
        except (ServerUnavailable, EditConflict, KeyError):
            return
        except Exception as error:
            if type(error).__name__ != "NotFound":
                raise

    async def _watch(self, process: Process, notes: EventSourcedStorage[Note]) -> None:
        id = DOCUMENTS[0]
        seen: list[int] = []
        self.watched[process.name] = seen
        async for change in notes.watch(id):
            seen.append(change.version)  # noqa: PERF401

    async def run_subscriber(self, name: str) -> None:
        await self.bus(SOUND).consume(name, self.handled)

    async def operate(self, *, discards: bool) -> None:
        """Ask for redrives, and for a discard now and then."""
        for parked in await self.store.letters.find(ParkedQuery(), 100):
            discard = None
            if discards and self.scheduler.chance(0.2):
                self.discarded.add((parked.aggregate_id, parked.first))
                discard = Discard("it is a mistake", "op", self.clock.now())
            self.scheduler.note("asks for", (parked.aggregate_id, parked.first, bool(discard)))
            await self.store.letters.request(parked, discard)

    def begin_bus(self) -> None:
        """Let a publisher have seen the groups, which so have a claim to all that comes."""
        self.server.incarnation = "i0"
        for name in GROUPS:
            self.bus(SOUND).join(name, set())
        drive(self.store.outbox.note_bus("notes.bus", BusNote("i0", GROUPS)))

    def restart_bus(self) -> None:
        self.streams.append(self.server.entries)
        self.server.restart()
