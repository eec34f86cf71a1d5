"""One seed: a role with its real writer and owner, one request that is late or lost, a reader."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from eventfleet.roles.role import Role
from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import Fenced, ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.topics.record import LogRecord, ProducerRecord
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack, Owner, OwnerState
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.transport.chunk import Chunk
from tests.late_requests.modes import Material, Mode
from tests.servers.frame_proxy import Api, FrameProxy, Mishap, Way

CHUNKS = 6
OPEN_SECONDS, COMMIT_SECONDS, MAX_SECONDS = 2.0, 0.5, 30.0
WAIT_SECONDS = 200.0
FOREVER_SECONDS = 10_000.0
HOLDS = Way.HOLD, Way.HOLD_AND_CUT
# Before these a held request arrives: before a fence, or within a transaction.
LATER = (
    Api.INIT_PRODUCER_ID,
    Api.PRODUCE,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)


@dataclass
class Schedule:
    """What happens: while chunk `chunk` is processed, a request of this kind meets a mishap.

    A held request arrives before the next request of the kind `before`, or in a pause between two
    chunks. With `dies` the owner ends some time after it, and another one takes over.
    """

    api: Api
    way: Way
    before: Api | None
    chunk: int
    dies: bool = False
    chance: Random = field(default_factory=lambda: Random(0), repr=False)

    @classmethod
    def of(cls, seed: str) -> "Schedule":
        chance = Random(seed)
        api, way = chance.choice([*Api]), chance.choice([*Way])
        before = chance.choice([*LATER, None]) if way in HOLDS else None
        dies = api is not Api.INIT_PRODUCER_ID and chance.random() < 0.3
        return cls(api, way, before, chance.randrange(CHUNKS - 2), dies, chance)

    def __str__(self) -> str:
        when = f" until {self.before.name if self.before else 'a pause'}" * (self.way in HOLDS)
        return (
            f"{self.api.name} in chunk {self.chunk}: {self.way.value}{when}" + "; dies" * self.dies
        )


@dataclass
class Report:
    """What a reader of committed records saw; of all that it counts, 0 is right.

    `torn`: how often an owner's first offset was not that of the records that could be seen.
    `seconds`: from each fence by a late request of its own until the partition was open again.
    """

    schedule: Schedule
    doubled: int = 0
    torn: int = 0
    lost: int = 0
    stray: int = 0
    details: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.doubled + self.torn + self.lost + self.stray + len(self.details)

    @property
    def kind(self) -> str:
        """The request and what happened to it."""
        return f"{self.schedule.api.name} {self.schedule.way.value}"


class CheckedWriter:
    """PartitionWriter: after each take-over, has the trial compare offset and records.

    Its limits double with each failure in a row, so that a slow machine gets through.
    """

    def __init__(self, writer: TransactionalWriter, trial: "Trial") -> None:
        self._writer, self._trial = writer, trial

    async def open(self) -> int | None:
        async with self._limited(OPEN_SECONDS):
            offset = await self._writer.open()
        await self._trial.note_open(offset or 0)
        return offset

    @asynccontextmanager
    async def _limited(self, seconds: float) -> AsyncIterator[None]:
        trial, writer = self._trial, self._writer
        limit = min(seconds * 2**trial.failures, MAX_SECONDS)
        writer._connection = replace(writer._connection, timeout=limit)
        try:
            yield
        except ServerUnavailable:
            trial.failures += 1
            raise

    async def watermarks(self) -> Watermarks:
        return await self._writer.watermarks()

    async def commit(
        self,
        records: Sequence[ProducerRecord],
        next_offset: int,
        last: Sequence[ProducerRecord] = (),
    ) -> None:
        try:
            async with self._limited(COMMIT_SECONDS):
                await self._writer.commit(records, next_offset, last)
        except ServerUnavailable as error:
            self._trial.note_failure(error)
            raise
        self._trial.failures = 0

    async def close(self) -> None:
        await self._writer.close()


class ChunkFeed:
    """ChunkSource: the chunks of a partition, as far as they are `allowed`."""

    def __init__(self, material: Material, records: Sequence[LogRecord]) -> None:
        self._material, self._records = material, records
        self.owner: Owner | None = None
        self.session: int | None = None
        self.position = self.allowed = 0
        self._given = False

    def allow(self, chunks: int) -> None:
        """Let the first so many chunks be processed."""
        self.allowed = self._material.ends[chunks - 1] if chunks else 0
        self._give()

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        self.position, self.session, self._given = offset, session, False
        asyncio.get_running_loop().call_soon(self._give)
        return True

    def end_session(self, partition: int) -> None:
        self.session = None

    def finish(self, partition: int, next_offset: int) -> None:
        self.position, self._given = next_offset, False
        self._give()

    def _give(self) -> None:
        if self.session is None or self._given or self.position >= self.allowed:
            return
        end = min(end for end in self._material.ends if end > self.position)
        self._given = True
        assert self.owner
        records = self._records[self.position : end]
        chunk = Chunk(self.owner.partition, records, self.position, end, self.session)
        self.owner.session.enqueue(chunk)

    async def ack(self, partition: int, next_offset: int) -> None:
        raise AssertionError("the writer moves the offset")

    def lag(self, partition: int, done: int | None = None) -> int:
        return self.allowed - self.position

    def oldest_timestamp(self, partition: int) -> int | None:
        return None


class Trial:
    """One partition of a mode, and the schedule of a seed."""

    def __init__(
        self,
        mode: Mode,
        partition: int,
        schedule: Schedule,
        proxy: FrameProxy,
        fenced_seconds: float = FOREVER_SECONDS,
    ) -> None:
        """An owner that takes a fence for another owner's waits for `fenced_seconds`."""
        self.mode, self.partition, self.schedule, self.proxy = mode, partition, schedule, proxy
        self.fenced_seconds = fenced_seconds
        self.report = Report(schedule)
        self._connection = self._connect()
        self._owner: Any = None
        self._meter = Metrics().of(mode.domain.name, mode.role)
        self._failures: list[Exception] = []
        self._fenced_at = 0.0
        self.failures = 0  # in a row

    def _connect(self) -> Connection:
        return Connection(self.proxy.address, timeout=OPEN_SECONDS)

    async def run(self) -> Report:
        """Process all chunks, and compare what can be seen in the end."""
        await self._prepare()
        self._start()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._play()
        except TimeoutError:
            where = f"not done at {self._feed.position}, {self._owner.state.name}"
            self.report.details.append(f"{where}: {self._owner.waits_for}")
        finally:
            await self._kill()
        self._judge(await self._seen(), self._material.names_below(self._material.ends[-1]))
        self.report.details += await self.mode.faults(self.partition)
        self.report.details += [repr(failure) for failure in self._failures]
        return self.report

    async def _prepare(self) -> None:
        mode = self.mode
        self._material = await mode.material(self.partition, CHUNKS, self.schedule.chance)
        sent = [record for chunk in self._material.chunks for record in chunk]
        positions = await mode.writer.produce(sent)
        assert [at.offset for at in positions] == [*range(len(sent))]
        end = len(sent)
        records = [r async for r in mode.reader.read(mode.source, self.partition, 0, end)]
        self._feed = ChunkFeed(self._material, records)

    async def _play(self) -> None:
        schedule, ends = self.schedule, self._material.ends
        await self._reach(schedule.chunk)
        mishap = Mishap(
            schedule.api,
            f"{self.mode.group}-{self.mode.source}-{self.partition}",
            schedule.way,
            schedule.before,
        )
        self.proxy.await_request(mishap)
        if schedule.api is Api.INIT_PRODUCER_ID:
            self._owner.session.interrupt(self._feed.session, "an interruption")
        if schedule.before is None:
            await self._reach(schedule.chunk + 1)
        self._feed.allow(CHUNKS - 1)
        await self._until(mishap.met.is_set)
        if schedule.dies:
            await asyncio.sleep(schedule.chance.random() * 0.3)
            await self._kill()
            self._connection = self._connect()
            self._start()
        await self._reach(CHUNKS - 1)
        if schedule.way in HOLDS and not mishap.delivered.is_set():
            await self.proxy.let_go(mishap)
        await self._until(mishap.delivered.is_set, schedule.way in HOLDS)
        await self._reach(CHUNKS)
        assert self._feed.position == ends[-1]

    async def _reach(self, chunks: int) -> None:
        self._feed.allow(max(chunks, self._allowed_chunks()))
        end = self._material.ends[chunks - 1] if chunks else 0
        await self._until(
            lambda: self._owner.state is OwnerState.OPEN and self._feed.position >= end
        )

    def _allowed_chunks(self) -> int:
        return sum(end <= self._feed.allowed for end in self._material.ends)

    async def _until(self, condition: Any, wanted: bool = True) -> None:
        while wanted and not condition():
            if self._failures:
                raise self._failures[0]
            await asyncio.sleep(0.005)

    # The owner

    def _start(self) -> None:
        timeouts = OwnerTimeouts(fenced=self.fenced_seconds, longest_pause=0.2)
        place = self.partition, self._make_role
        self._owner = Owner(*place, self._feed, self._meter, timeouts)
        self._feed.owner = self._owner
        self._owner.start(lambda _, error: self._failures.append(error))

    def _make_role(self, partition: int, ack: Ack) -> Role:
        mode = self.mode
        writer = TransactionalWriter(self._connection, mode.group, mode.source, partition)
        return mode.make_role(partition, CheckedWriter(writer, self))

    async def _kill(self) -> None:
        """End the owner at once, whatever it does."""
        if self._owner._task:
            self._owner._closing = True  # the driver may swallow a cancellation
            self._owner._task.cancel()
            await asyncio.wait({self._owner._task})
            self._meter.forget(self.partition)

    # The reader of committed records

    async def _seen(self) -> list[str]:
        mode, partition = self.mode, self.partition
        end = (await mode.reader.watermarks(mode.target))[partition].end
        records = mode.reader.read(mode.target, partition, 0, end)
        return [mode.name_of(record) async for record in records]

    def note_failure(self, error: ServerUnavailable) -> None:
        """Note when the owner was fenced by itself."""
        if isinstance(error.__cause__, Fenced):
            self._fenced_at = time.monotonic()

    async def note_open(self, offset: int) -> None:
        """Compare what can be seen with what must be, at an offset."""
        if self._fenced_at:
            self.report.seconds.append(time.monotonic() - self._fenced_at)
            self._fenced_at = 0.0
        seen, wanted = await self._seen(), self._material.names_below(offset)
        if Counter(seen) != Counter(wanted):
            self.report.torn += 1

    def _judge(self, seen: list[str], wanted: list[str]) -> None:
        seen_counts, wanted_counts = Counter(seen), Counter(wanted)
        self.report.doubled += sum(n - 1 for n in seen_counts.values())
        self.report.lost += len(wanted_counts.keys() - seen_counts.keys())
        self.report.stray += len(seen_counts.keys() - wanted_counts.keys())
        if by_aggregate(dict.fromkeys(seen)) != by_aggregate(wanted):
            self.report.details.append(f"order: {seen}, not {wanted}")


def by_aggregate(names: Any) -> dict[str, list[str]]:
    """The names of each aggregate, in their order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition("@")[0], []).append(name)
    return found
