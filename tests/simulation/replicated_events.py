"""An event store of several servers: a primary, which knows the unique keys, and a majority."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from eventfleet.stores.contracts import AssignPosition, Write
from eventfleet.stores.errors import Duplicate, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.topics.event import EventKey, EventRecord
from tests.simulation.scheduler import Scheduler, checkpoint, drive

Change = Callable[[MemoryEvents], Coroutine[Any, Any, None]]
"""A write as the primary logs it, done to any copy of the data."""

Key = EventKey | tuple[str, int]
"""An aggregate id with an event id, or with a version."""

PATIENCE_STEPS = 12
"""The steps of its own that a write waits for the majority, or for another's transaction."""
TRANSACTION_STEPS = 150


class OpenTransaction:
    """The events of one put that are not committed yet. Whose process dies leaves it open."""

    def __init__(self, holder: str, events: Sequence[EventRecord], ends_at: int) -> None:
        self.holder, self.keys, self.ends_at = holder, keys_of(events), ends_at


class ReplicatedEvents:
    """EventStore of several servers.

    A write is on the primary first: from then on its unique keys are taken. It is acknowledged when
    a majority has it, which reads show. Where the others are behind for long (`lag`) it fails,
    although it may come yet. When another primary is elected (`fail_over`), what no majority has is
    rolled back.
    """

    def __init__(self, partitions: int, scheduler: Scheduler) -> None:
        self._partitions, self._scheduler = partitions, scheduler
        self._primary, self._majority = self._empty(), self._empty()
        self._changes: list[Change] = []
        self._replicated = 0
        self._term = 0
        self._behind_until = 0
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
        """Whether the primary has changes that no majority has."""
        return self._replicated < len(self._changes)

    @property
    def holders(self) -> set[str]:
        """The names of the tasks whose transactions are open."""
        return {transaction.holder for transaction in self._transactions}

    def lag(self, steps: int) -> None:
        """Let the primary be alone for some steps."""
        self._behind_until = self._scheduler.steps + steps

    def recover(self) -> None:
        """Let all servers be well, and nothing be under way any more."""
        self._behind_until, self.failing = 0, False
        self._transactions.clear()
        self._replicate()

    def fail_over(self) -> None:
        """Elect another primary: what only the former one has is rolled back."""
        self._term += 1
        if self.behind:
            self._scheduler.count("writes are rolled back")
            del self._changes[self._replicated :]
            self._primary = self._empty()
            for change in self._changes:
                drive(change(self._primary))

    def _replicate(self) -> None:
        for change in self._changes[self._replicated :]:
            drive(change(self._majority))
        self._replicated = len(self._changes)

    # Writes

    async def write(self, writes: Sequence[Write]) -> None:
        term = self._term
        for index, write in enumerate(writes):
            await checkpoint()
            event = write.event if isinstance(write, AssignPosition) else write
            await self._wait_for([event])
            try:
                self._change(term, partial(_write, write))
            except Duplicate as clash:
                await self._refuse(term, Duplicate(index, clash.stream, clash.version, clash.key))
        await self._acknowledge(term)

    async def put(self, events: Sequence[EventRecord], partition: int) -> None:
        term = self._term
        await checkpoint()
        await self._wait_for(events)
        if len(events) > 1:
            await self._run_transaction(term, events, partition)
        else:
            self._change(term, partial(_put, events, partition))
        await self._acknowledge(term)

    async def put_each(self, events: Sequence[tuple[EventRecord, int]]) -> list[Duplicate | None]:
        term, results = self._term, list[Duplicate | None]()
        for event, partition in events:
            await checkpoint()
            await self._wait_for([event])
            try:
                self._change(term, partial(_put, [event], partition))
                results.append(None)
            except Duplicate as duplicate:
                results.append(duplicate)
        await self._acknowledge(term)
        return results

    def _change(self, term: int, change: Change) -> None:
        self._check(term)
        drive(change(self._primary))
        self._changes.append(change)

    async def note_next_offset(self, *note: int) -> None:
        """Write it as any other."""
        term = self._term
        await checkpoint()
        self._change(term, partial(_note, note))
        await self._acknowledge(term)

    def _check(self, term: int) -> None:
        if term != self._term:
            raise ServerUnavailable("the server is not the primary any more")

    async def _acknowledge(self, term: int) -> None:
        """Wait until a majority has all that is written by now."""
        for _ in range(PATIENCE_STEPS):
            await checkpoint()
            self._check(term)
            if self._scheduler.steps >= self._behind_until:
                self._replicate()
                return
        self._scheduler.count("no majority in time")
        raise ServerUnavailable("waiting for replication timed out")

    async def _refuse(self, term: int, clash: Duplicate) -> None:
        """Reply that a key is taken, and that what was written before it is not safe if so."""
        if clash.index or (self.failing and self._scheduler.chance(0.3)):
            if self.failing:
                self.lag(PATIENCE_STEPS * 20)
            try:
                await self._acknowledge(term)
            except ServerUnavailable as error:
                self._scheduler.count("a reply with two errors")
                raise self._both(clash, error) from error
        elif self.behind:
            self._scheduler.count("a taken key that no read shows")
        raise clash

    def _both(self, clash: Duplicate, unsafe: ServerUnavailable) -> Exception:
        """What the driver's wrapper makes of a reply with two errors."""
        return unsafe

    # Transactions

    async def _run_transaction(
        self, term: int, events: Sequence[EventRecord], partition: int
    ) -> None:
        scheduler = self._scheduler
        transaction = OpenTransaction(
            scheduler.running, events, scheduler.steps + TRANSACTION_STEPS
        )
        self._transactions.append(transaction)
        try:
            for _ in events:
                await checkpoint()
            self._change(term, partial(_put, events, partition))
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


def keys_of(events: Sequence[EventRecord]) -> set[Key]:
    """The unique keys that these events take."""
    versions: set[Key] = {(event.aggregate_id, event.version) for event in events}
    return versions | {event.key for event in events}


async def _write(write: Write, store: MemoryEvents) -> None:
    await store.write([write])


async def _note(note: tuple[int, int, int], store: MemoryEvents) -> None:
    await store.registry.note_next_offset(*note)


async def _put(events: Sequence[EventRecord], partition: int, store: MemoryEvents) -> None:
    await store.put(events, partition)
