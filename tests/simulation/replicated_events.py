"""An event store of several servers: primaries, which know the unique keys, and majorities."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any
from zlib import crc32

from eventfleet.stores.contracts import AssignPosition, Write
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.event import EventKey, EventRecord
from tests.simulation.scheduler import Scheduler, checkpoint, drive

Change = Callable[[MemoryEvents], Coroutine[Any, Any, None]]
"""A write as the primary logs it, done to any copy of the data."""

Key = EventKey | tuple[str, int]
"""An aggregate id with an event id, or with a version."""

SHARDS = 3
PATIENCE_STEPS = 12
"""The steps of its own that a write waits for the majority, or for another's transaction."""
TRANSACTION_STEPS = 150


class OpenTransaction:
    """The events of one put that are not committed yet. Whose process dies leaves it open."""

    def __init__(self, holder: str, events: Sequence[EventRecord], ends_at: int) -> None:
        self.holder, self.keys, self.ends_at = holder, keys_of(events), ends_at


class Shard:
    """A primary with what only it has yet; aggregates are divided among the shards."""

    def __init__(self) -> None:
        self.pending: list[Change] = []
        self.term = 0
        self.behind_until = 0


class Writing:
    """A call that writes: the terms at its beginning, and the shards that it has written to."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.terms = [shard.term for shard in shards]
        self.touched: set[int] = set()


class ReplicatedEvents:
    """EventStore of several servers, in shards by aggregate id.

    A write is on its shard's primary first: from then on its unique keys are taken. It is
    acknowledged when a majority has it, which reads show. Where the others are behind for long
    (`lag`) it fails, although it may come yet. When another primary is elected (`fail_over`), what
    no majority has is rolled back.
    """

    def __init__(self, partitions: int, scheduler: Scheduler) -> None:
        self._partitions, self._scheduler = partitions, scheduler
        self._primary, self._majority = self._empty(), self._empty()
        self._replicated: list[Change] = []
        self._shards = [Shard() for _ in range(SHARDS)]
        self.failing = False  # the others are gone just when a write has clashed
        self._transactions: list[OpenTransaction] = []

    @property
    def registry(self) -> "ReplicatedRegistry":
        return ReplicatedRegistry(self)

    def _empty(self) -> MemoryEvents:
        return MemoryEvents(self._partitions, checkpoint)

    def __getattr__(self, read: str) -> Any:
        return getattr(self._majority, read)

    # Operation of the servers

    @property
    def behind(self) -> bool:
        """Whether a primary has changes that no majority has."""
        return any(shard.pending for shard in self._shards)

    @property
    def holders(self) -> set[str]:
        """The names of the tasks whose transactions are open."""
        return {transaction.holder for transaction in self._transactions}

    def lag(self, steps: int, shards: Collection[int] = ()) -> None:
        """Let primaries be alone for some steps: those of these shards, otherwise any one."""
        for number in shards or [self._scheduler.random.randrange(SHARDS)]:
            self._shards[number].behind_until = self._scheduler.steps + steps

    def go_on(self) -> None:
        """Let the other servers copy what they can, also what nobody waits for any more."""
        self._replicate(self._keep_up(range(SHARDS)))

    def recover(self) -> None:
        """Let all servers be well, and nothing be under way any more."""
        self.failing = False
        self._transactions.clear()
        for shard in self._shards:
            shard.behind_until = 0
        self._replicate(range(SHARDS))

    def fail_over(self) -> None:
        """Elect another primary of a shard: what only the former one has is rolled back."""
        behind = [shard for shard in self._shards if shard.pending]
        shard = self._scheduler.random.choice(behind or self._shards)
        shard.term += 1
        if not shard.pending:
            return
        others = any(each.pending for each in self._shards if each is not shard)
        self._scheduler.count("writes are rolled back")
        if others:
            self._scheduler.count("one shard fails over, and another has writes under way")
        shard.pending.clear()
        self._primary = self._empty()
        for change in (*self._replicated, *(c for each in self._shards for c in each.pending)):
            drive(change(self._primary))

    def _replicate(self, shards: Iterable[int]) -> None:
        for shard in (self._shards[number] for number in shards):
            for change in shard.pending:
                drive(change(self._majority))
            self._replicated += shard.pending
            shard.pending.clear()

    # Writes

    async def write(self, writes: Sequence[Write]) -> None:
        writing = Writing(self._shards)
        for index, write in enumerate(writes):
            await checkpoint()
            event = write.event if isinstance(write, AssignPosition) else write
            await self._wait_for([event])
            try:
                self._change(writing, event.aggregate_id, partial(_write, write))
            except Duplicate as clash:
                duplicate = Duplicate(index, clash.stream, clash.version, clash.key)
                await self._refuse(writing, event.aggregate_id, duplicate)
        await self._acknowledge(writing)

    async def put(self, events: Sequence[EventRecord], partition: int) -> None:
        writing = Writing(self._shards)
        await checkpoint()
        await self._wait_for(events)
        if len(events) > 1:
            await self._run_transaction(writing, events, partition)
        else:
            self._change(writing, events[0].aggregate_id, partial(_put, events, partition))
        await self._acknowledge(writing)

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        writing, results = Writing(self._shards), list[Duplicate | None]()
        for event, partition in events:
            await checkpoint()
            await self._wait_for([event])
            try:
                self._change(writing, event.aggregate_id, partial(_put, [event], partition))
                results.append(None)
            except Duplicate as duplicate:
                results.append(duplicate)
        await self._acknowledge(writing)
        return results

    async def mark_discarded(self, key: EventKey) -> None:
        writing = Writing(self._shards)
        await checkpoint()
        self._change(writing, key.aggregate_id, partial(_mark_discarded, key))
        await self._acknowledge(writing)

    async def note_next_offset(self, *note: int) -> None:
        """Write it as any other; the registry lies in the shard of no aggregate."""
        writing = Writing(self._shards)
        await checkpoint()
        self._change(writing, "", partial(_note, note))
        await self._acknowledge(writing)

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        writing = Writing(self._shards)
        await checkpoint()
        former: str = drive(self._primary.registry.owner(role, partition))
        self._change(writing, "", partial(_note_owner, (role, partition, owner)))
        await self._acknowledge(writing)
        return former

    def _change(self, writing: Writing, aggregate_id: str, change: Change) -> None:
        number = shard_of(aggregate_id)
        self._check(writing, [number])
        drive(change(self._primary))
        self._shards[number].pending.append(change)
        writing.touched.add(number)

    def _check(self, writing: Writing, shards: Iterable[int]) -> None:
        if any(writing.terms[number] != self._shards[number].term for number in shards):
            raise ServerUnavailable("the server is not the primary any more")

    async def _acknowledge(self, writing: Writing) -> None:
        """Wait until a majority has all that is written by now."""
        for _ in range(PATIENCE_STEPS):
            await checkpoint()
            self._check(writing, writing.touched)
            if self._keep_up(writing.touched) == writing.touched:
                self._replicate(writing.touched)
                return
        self._scheduler.count("no majority in time")
        raise ServerUnavailable("waiting for replication timed out")

    def _keep_up(self, shards: Iterable[int]) -> set[int]:
        """Those of these shards whose other servers keep up with their primary."""
        now = self._scheduler.steps
        return {number for number in shards if now >= self._shards[number].behind_until}

    async def _refuse(self, writing: Writing, aggregate_id: str, clash: Duplicate) -> None:
        """Reply that a key is taken, and that what was written before it is not safe if so."""
        shard = shard_of(aggregate_id)
        if clash.index or (self.failing and self._scheduler.chance(0.3)):
            writing.touched.add(shard)
            if self.failing:
                self.lag(PATIENCE_STEPS * 20, writing.touched)
            try:
                await self._acknowledge(writing)
            except ServerUnavailable as error:
                self._scheduler.count("a reply with two errors")
                raise self._both(clash, error) from error
        elif self._shards[shard].pending:
            self._scheduler.count("a taken key that no read shows")
        raise clash

    def _both(self, clash: Duplicate, unsafe: ServerUnavailable) -> Exception:
        """What the driver's wrapper makes of a reply with two errors."""
        return unsafe

    # Transactions

    async def _run_transaction(
        self, writing: Writing, events: Sequence[EventRecord], partition: int
    ) -> None:
        scheduler = self._scheduler
        transaction = OpenTransaction(
            scheduler.running, events, scheduler.steps + TRANSACTION_STEPS
        )
        self._transactions.append(transaction)
        try:
            for _ in events:
                await checkpoint()
            self._change(writing, events[0].aggregate_id, partial(_put, events, partition))
        except Exception:
            self._end(transaction)
            raise
        self._end(transaction)

    def _end(self, transaction: OpenTransaction) -> None:
        if transaction in self._transactions:
            self._transactions.remove(transaction)

    async def _wait_for(self, events: Sequence[EventRecord]) -> None:
        """Wait for the transactions that have written these keys."""
        for _ in range(PATIENCE_STEPS):
            if not self._blocked(events):
                return
            await checkpoint()
        self._scheduler.count("blocked by a dead one's transaction")
        raise ServerUnavailable("another transaction has written these keys")

    def _blocked(self, events: Sequence[EventRecord]) -> bool:
        if not self._transactions:
            return False
        now = self._scheduler.steps
        self._transactions = [each for each in self._transactions if each.ends_at > now]
        keys = keys_of(events)
        return any(each.keys & keys for each in self._transactions)


class ReplicatedRegistry:
    """StoreRegistry beside the events, on the same servers."""

    def __init__(self, events: ReplicatedEvents) -> None:
        self._events = events

    def __getattr__(self, read: str) -> Any:
        return getattr(self._events.__getattr__("registry"), read)

    async def note_next_offset(self, partition: int, epoch: int, next_offset: int) -> None:
        await self._events.note_next_offset(partition, epoch, next_offset)

    async def note_owner(self, role: str, partition: int, owner: str) -> str:
        return await self._events.note_owner(role, partition, owner)


def shard_of(aggregate_id: str) -> int:
    """The shard of an aggregate."""
    return crc32(aggregate_id.encode()) % SHARDS


def keys_of(events: Sequence[EventRecord]) -> set[Key]:
    """The unique keys that these events take."""
    versions: set[Key] = {(event.aggregate_id, event.version) for event in events}
    return versions | {event.key for event in events}


async def _write(write: Write, store: MemoryEvents) -> None:
    await store.write([write])


async def _note(note: tuple[int, int, int], store: MemoryEvents) -> None:
    await store.registry.note_next_offset(*note)


async def _note_owner(note: tuple[str, int, str], store: MemoryEvents) -> None:
    await store.registry.note_owner(*note)


async def _mark_discarded(key: EventKey, store: MemoryEvents) -> None:
    await store.mark_discarded(key)


async def _put(events: Sequence[EventRecord], partition: int, store: MemoryEvents) -> None:
    await store.put(events, partition)
