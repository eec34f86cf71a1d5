"""An owner of a partition on a bench."""

import asyncio
from dataclasses import dataclass, field

from eventfleet.roles.role import ChunkReport, Role
from eventfleet.topics.record import LogRecord
from eventfleet.workers.metrics import Metrics
from eventfleet.workers.owner import Ack
from eventfleet.workers.owner_outage import OwnerTimeouts
from eventfleet.workers.owners import Owners
from eventfleet.workers.transport.chunk import Chunk
from tests.unit.eventually import until

PATIENT = OwnerTimeouts(in_hand=5, tick=0.01, longest_pause=0.01)


@dataclass
class RecordingSource:
    """A ChunkSource that records its calls."""

    sessions: list[int] = field(default_factory=list)
    sought: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    acks: list[int] = field(default_factory=list)
    waiting: int = 0
    oldest: int | None = None
    ours: bool = True

    async def start_session(self, partition: int, offset: int, session: int) -> bool:
        self.sought.append(offset)
        self.sessions.append(session)
        return self.ours

    def end_session(self, partition: int) -> None:
        self.left.append(partition)

    def finish(self, partition: int, next_offset: int) -> None:
        self.ends.append(next_offset)

    async def ack(self, partition: int, next_offset: int) -> None:
        self.acks.append(next_offset)

    def lag(self, partition: int, done: int | None = None) -> int:
        return self.waiting

    def oldest_timestamp(self, partition: int) -> int | None:
        return self.oldest


@dataclass
class ScriptedRole:
    """A role that raises what is in `errors`, one for each chunk, and remembers the rest."""

    ack: Ack
    errors: list[Exception | None] = field(default_factory=list)
    start: int = 0
    calls: list[str] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    hold: asyncio.Event | None = None
    inside: int = 0
    at_rest: bool = False

    async def open(self) -> int:
        self.calls.append("open")
        return self.start

    async def process(self, records: list[LogRecord], next_offset: int) -> ChunkReport:
        self.inside += 1
        assert self.inside == 1
        try:
            if self.hold:
                await self.hold.wait()
            error = self.errors.pop(0) if self.errors else None
            if error:
                raise error
            self.seen += [record.offset for record in records]
            self.start = next_offset
            await self.ack(next_offset)
            return ChunkReport(stored=len(records))
        finally:
            self.inside -= 1

    async def tick(self) -> ChunkReport:
        assert self.inside == 0
        self.calls.append("tick")
        return ChunkReport()

    async def close(self) -> None:
        self.calls.append("close")


@dataclass
class Bench:
    """Owners of partition 0, with a scripted role and a recording source."""

    timeouts: OwnerTimeouts = PATIENT
    errors: list[Exception | None] = field(default_factory=list)
    start: int = 0
    timestamp: int = 0
    at_rest: bool = False
    source: RecordingSource = field(default_factory=RecordingSource)
    failures: list[tuple[int, Exception]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    roles: list[ScriptedRole] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = self.metrics.of("orders", "append")
        self.owners = Owners(self._make, self.meter, self.timeouts, self._fail)

    def _fail(self, partition: int, error: Exception) -> None:
        self.failures.append((partition, error))

    def _make(self, partition: int, ack: Ack) -> Role:
        self.roles.append(ScriptedRole(ack, self.errors, self.start, at_rest=self.at_rest))
        return self.roles[-1]  # type: ignore[return-value]

    @property
    def role(self) -> ScriptedRole:
        return self.roles[-1]

    async def opened(self, times: int = 1) -> None:
        self.owners.assign(self.source, [0])
        await until(lambda: len(self.source.sessions) == times and self.owners.all_open([0]))

    def give(
        self,
        first: int,
        end: int,
        start: int | None = None,
        session: int = -1,
        partition: int = 0,
    ) -> None:
        """Records first..end-1, in the newest session unless another is named."""
        records = [
            LogRecord("t", partition, offset, None, b"", (), self.timestamp)
            for offset in range(first, end)
        ]
        begin = first if start is None else start
        self.owners.dispatch(Chunk(partition, records, begin, end, self.source.sessions[session]))
