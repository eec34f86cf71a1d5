"""Loading rows as events or as commands, and what append has made of events."""

import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple
from uuid import UUID

from eventfleet.log_files.records import ReadyRecord, to_commands, to_events
from eventfleet.log_files.rows import Row, RowProblem
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import Clock, EventStore, LogReader, LogWriter
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import Position
from eventfleet.topics.names import Topics
from eventfleet.topics.record import ProducerRecord

BATCH_RECORDS = 500
BATCH_BYTES = 4_194_304
MAX_PROBLEMS = 20
MAX_REASONS = 1000
PAGE_PLACEMENTS = 500
POLL_SECONDS = 0.2


class TakesCommandsOnly(EventfleetError):
    """The events of a domain that judges its commands are made by these."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"{domain} judges its commands, and its events come from these alone: load them by "
            "`eventfleet load FILE --via commands`"
        )


def require_event_loading(domain: Domain[Any]) -> None:
    """TakesCommandsOnly for one that judges its commands."""
    if domain.commands_only:
        raise TakesCommandsOnly(domain.name)


class Placement(NamedTuple):
    """Where the log put an event, or a command, of this load."""

    event_id: str
    partition: int
    offset: int


class Placements:
    """Where each event went, in order: 28 bytes an event, beyond 8 MiB in a temporary file."""

    _ITEM = struct.Struct(">16sIQ")

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115
        self.ends: dict[int, int] = {}

    def add(self, placement: Placement) -> None:
        event_id, partition, offset = placement
        self._file.write(self._ITEM.pack(UUID(event_id).bytes, partition, offset))
        self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)

    def pages(self) -> Iterator[list[Placement]]:
        """All of them, in pages, from the first on."""
        self._file.seek(0)
        while data := self._file.read(PAGE_PLACEMENTS * self._ITEM.size):
            yield [
                Placement(str(UUID(bytes=raw)), partition, offset)
                for raw, partition, offset in self._ITEM.iter_unpack(data)
            ]

    def close(self) -> None:
        self._file.close()


@dataclass
class LoadReport:
    """What became of the rows: offered = accepted + rejected + repeated + refused + pending.

    Accepted: stored where this load put it. Repeated: stored already. Refused: the row was no
    event of the domain (`problems` holds the first reasons), or append made it a dead letter.
    Pending: produced, but append had not come to it when the waiting ended.

    Of commands, accepted, rejected and repeated are what they were answered; `reasons` counts the
    rejections, by REASONS_KEPT reasons at most. Refused is what became a dead letter, and pending
    what has no answer yet.
    """

    offered: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    refused: int = 0
    pending: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.placements = Placements()

    def reject(self, reason: str) -> None:
        """One more; of reasons that are all different, as those with amounts, the first count."""
        self.rejected += 1
        if reason in self.reasons or len(self.reasons) < MAX_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def refuse(self, problem: str) -> None:
        self.refused += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


ProgressCallback = Callable[[LoadReport], None]
Classify = Callable[[Mapping[int, int]], Awaitable[None]]
"""Takes a group's committed offsets."""


def ignore_progress(report: LoadReport) -> None:
    """No progress shown."""


async def load(
    rows: Iterable[Row | ReadyRecord | RowProblem],
    domain: Domain[Any],
    writer: LogWriter,
    progress: ProgressCallback = ignore_progress,
    *,
    commands: bool = False,
) -> LoadReport:
    """Produce every row that is an event (or command) of the domain, in order, in bounded batches.

    What the report then calls pending is in the log. Unavailable when the log gave no
    acknowledgement: load again, since what is stored already is not stored twice.
    TakesCommandsOnly when events are loaded into a domain that judges its commands.
    """
    if not commands:
        require_event_loading(domain)
    topics, make = Topics.of(domain.name), to_commands if commands else to_events
    topic = topics.commands if commands else topics.events
    report, started = LoadReport(), time.monotonic()
    try:
        for batch in _batches(make(rows, domain), report):
            await _produce(batch, topic, writer, report)
            report.seconds = time.monotonic() - started
            progress(report)
    except BaseException:
        report.placements.close()
        raise
    return report


def _batches(
    events: Iterable[ReadyRecord | RowProblem], report: LoadReport
) -> Iterator[list[ReadyRecord]]:
    batch: list[ReadyRecord] = []
    size = 0
    for event in events:
        report.offered += 1
        if isinstance(event, RowProblem):
            report.refuse(str(event))
            continue
        batch.append(event)
        size += len(event.value)
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


async def _produce(
    batch: list[ReadyRecord], topic: str, writer: LogWriter, report: LoadReport
) -> None:
    records = [
        ProducerRecord(topic, ready.event.aggregate_id.encode(), ready.value, headers=EVENT_HEADERS)
        for ready in batch
    ]
    positions = await writer.produce(records) if records else []
    for ready, position in zip(batch, positions, strict=True):
        placement = Placement(ready.event.id, position.partition, position.offset)
        report.placements.add(placement)
    report.pending += len(positions)


@dataclass(frozen=True)
class GroupProgress:
    """How to see how far a consumer group has come: the log, the group's name.

    `patience` is how many seconds its offsets may stand still before the waiting ends.
    """

    reader: LogReader
    group: str
    clock: Clock
    patience: float = 30.0


@dataclass(frozen=True)
class AppendProgress:
    """How to see what append makes of a load: the domain's store, and append's group."""

    store: EventStore
    following: GroupProgress


async def await_append(
    report: LoadReport,
    domain: Domain[Any],
    appending: AppendProgress,
    progress: ProgressCallback = ignore_progress,
) -> None:
    """Wait until append has passed the load, then tell accepted, repeated and refused apart.

    Once for each report. What append has not come to when its offsets stand still stays pending.
    Unavailable when the store does not answer.
    """

    async def sort_out(committed: Mapping[int, int]) -> None:
        await _sort_out(report, domain.name, committed, appending.store)

    await await_group(
        report, Topics.of(domain.name).events, appending.following, sort_out, progress
    )


async def await_group(
    report: LoadReport,
    topic: str,
    following: GroupProgress,
    sort_out: Classify,
    progress: ProgressCallback,
) -> None:
    """Wait until a group has passed the load, then sort out what it has made of it."""
    started, before = time.monotonic(), report.seconds

    def tell(behind: int) -> None:
        report.pending = min(report.pending, behind)
        report.seconds = before + time.monotonic() - started
        progress(report)

    try:
        committed = await _passed(report.placements.ends, topic, following, tell)
        report.pending = 0
        await sort_out(committed)
    finally:
        report.placements.close()
    tell(report.pending)


async def _passed(
    ends: Mapping[int, int], topic: str, following: GroupProgress, tell: Callable[[int], None]
) -> Mapping[int, int]:
    """The group's offsets: past all `ends`, or where they have stood still for too long."""
    clock = following.clock
    committed: Mapping[int, int] = {}
    moved = clock.now()
    while True:
        now, fresh = clock.now(), await _committed(following, topic)
        if fresh is not None and fresh != committed:
            committed, moved = fresh, now
        behind = sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
        tell(behind)
        if not behind or (now - moved).total_seconds() >= following.patience:
            return committed
        await clock.sleep(POLL_SECONDS)


async def _committed(following: GroupProgress, topic: str) -> Mapping[int, int] | None:
    try:
        return await following.reader.committed(following.group, topic)
    except ServerUnavailable:
        return None


async def _sort_out(
    report: LoadReport, domain: str, committed: Mapping[int, int], store: EventStore
) -> None:
    topics, epoch = Topics.of(domain), await store.epoch()
    for page in report.placements.pages():
        stored = await store.find([placement.event_id for placement in page])
        for event_id, partition, offset in page:
            event = stored.get(event_id)
            if event is not None and event.position == str(Position(epoch, partition, offset)):
                report.accepted += 1
            elif event is not None:
                report.repeated += 1
            elif offset < committed.get(partition, 0):
                where = f"{topics.events}, partition {partition}, offset {offset}"
                report.refuse(f"{where}: append refused it, see {topics.dead_letters}")
            else:
                report.pending += 1
