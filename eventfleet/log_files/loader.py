"""Loads rows as events or commands, and counts what the append role made of events."""

import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from eventfleet.log_files.records import ReadyRecord, to_commands, to_events
from eventfleet.log_files.rows import LogRow, RowProblem
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import Clock, EventStore, LogReader, LogWriter
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.topics.codec import EVENT_HEADERS
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.event import EventKey, Position
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import ProducerRecord

BATCH_RECORDS = 500
BATCH_BYTES = 4_194_304
MAX_PROBLEMS = 20
MAX_REASONS = 1000
PAGE_PLACEMENTS = 500
POLL_SECONDS = 0.2


class TakesCommandsOnly(EventfleetError):
    """Events can't be loaded into a domain with command rules."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"{domain} has command rules and accepts events only through commands, so it cannot "
            f"load events directly; use `eventfleet load FILE --domain {domain} --via commands`"
        )


def require_event_loading(domain: Domain[Any]) -> None:
    """Raise TakesCommandsOnly for a domain with command rules."""
    if domain.commands_only:
        raise TakesCommandsOnly(domain.name)


class Placement(NamedTuple):
    """The place of an event, or a command, of this load in the log."""

    event_id: str
    aggregate_id: str
    partition: int
    offset: int
    row: int = 0

    @property
    def key(self) -> EventKey:
        return EventKey(self.aggregate_id, self.event_id)


class Placements:
    """The place of each event, in order: 24 bytes, the event's id and the aggregate's id each.

    Beyond 8 MiB they are kept in a temporary file.
    """

    _ITEM = struct.Struct(">IQQHH")

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115
        self.ends: dict[int, int] = {}

    def add(self, placement: Placement) -> None:
        event_id, aggregate_id, *place = placement
        ids = event_id.encode(), aggregate_id.encode()
        self._file.write(self._ITEM.pack(*place, *map(len, ids)) + b"".join(ids))
        partition, end = placement.partition, placement.offset + 1
        self.ends[partition] = max(self.ends.get(partition, 0), end)

    def pages(self) -> Iterator[list[Placement]]:
        """All placements, in pages, from the first on."""
        self._file.seek(0)
        while page := list(islice(self._read(), PAGE_PLACEMENTS)):
            yield page

    def _read(self) -> Iterator[Placement]:
        while data := self._file.read(self._ITEM.size):
            partition, offset, row, *lengths = self._ITEM.unpack(data)
            event_id, aggregate_id = (self._file.read(length).decode() for length in lengths)
            yield Placement(event_id, aggregate_id, partition, offset, row)

    def close(self) -> None:
        self._file.close()


class RefusedRow(NamedTuple):
    """A row that was refused or, as a command, rejected; `aggregate_id` is "" where unknown."""

    row: int
    aggregate_id: str
    outcome: str
    reason: str


@dataclass
class LoadReport:
    """Counts of rows: offered = accepted + rejected + repeated + refused + pending.

    Of events: accepted are those that this load stored, repeated those stored before, refused the
    rows that are no events of the domain (`problems` holds the first reasons) and the dead letters
    of append, pending those that append had not processed when the waiting ended.

    Of commands: accepted, rejected and repeated count replies; `reasons` counts rejections by
    reason, for MAX_REASONS reasons at most. Refused are dead letters, pending those without reply.
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
        self.on_refusal: Callable[[RefusedRow], object] | None = None

    def reject(self, reason: str, at: Placement) -> None:
        """Count a rejection; reasons beyond the first MAX_REASONS different ones are dropped."""
        self.rejected += 1
        if self.on_refusal:
            self.on_refusal(RefusedRow(at.row, at.aggregate_id, "rejected", reason))
        if reason in self.reasons or len(self.reasons) < MAX_REASONS:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def refuse_placed(self, problem: str, at: Placement) -> None:
        self.refuse(problem, RefusedRow(at.row, at.aggregate_id, "refused", problem))

    def refuse(self, problem: str, row: RefusedRow) -> None:
        self.refused += 1
        if self.on_refusal:
            self.on_refusal(row)
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


ProgressCallback = Callable[[LoadReport], None]
Classify = Callable[[Mapping[int, int]], Awaitable[None]]
"""Counts outcomes, given a group's committed offsets."""


def ignore_progress(report: LoadReport) -> None:
    """Show no progress."""


async def load(
    rows: Iterable[LogRow | ReadyRecord | RowProblem],
    domain: Domain[Any],
    writer: LogWriter,
    progress: ProgressCallback = ignore_progress,
    *,
    partitions: int,
    commands: bool = False,
    on_refusal: Callable[[RefusedRow], object] | None = None,
) -> LoadReport:
    """Produce every row that is an event (or command) of the domain, in order, in bounded batches.

    Each goes to the partition of its aggregate among `partitions`, also where the topic has got
    more of them meanwhile. Pending rows of the report are in the log. `on_refusal` gets each row
    that is refused or rejected, now or later. ServerUnavailable when the
    log gave no acknowledgement: load again, since events that are stored are not stored twice.
    TakesCommandsOnly when events are loaded into a domain with command rules.
    """
    if not commands:
        require_event_loading(domain)
    topics, make = domain.topics, to_commands if commands else to_events
    topic = topics.commands if commands else topics.events
    report, started = LoadReport(), time.monotonic()
    report.on_refusal = on_refusal
    try:
        for batch in _batches(make(rows, domain), report):
            await _produce(batch, topic, partitions, writer, report)
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
            report.refuse(str(event), RefusedRow(event.number, event.case, "refused", event.why))
            continue
        batch.append(event)
        size += len(event.value)
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


async def _produce(
    batch: list[ReadyRecord], topic: str, partitions: int, writer: LogWriter, report: LoadReport
) -> None:
    records = [
        ProducerRecord(
            topic,
            ready.event.aggregate_id.encode(),
            ready.value,
            partition_of(ready.event.aggregate_id, partitions),
            EVENT_HEADERS,
        )
        for ready in batch
    ]
    positions = await writer.produce(records) if records else []
    for ready, position in zip(batch, positions, strict=True):
        _, partition, offset = position
        report.placements.add(
            Placement(ready.event.id, ready.event.aggregate_id, partition, offset, ready.number)
        )
    report.pending += len(positions)


@dataclass(frozen=True)
class GroupProgress:
    """Reads how far a consumer group has come in the log.

    Waiting ends when the group's offsets have not moved for `patience` seconds.
    """

    reader: LogReader
    group: str
    clock: Clock
    patience: float = 30.0


@dataclass(frozen=True)
class AppendProgress:
    """Reads what append made of a load: from the domain's store and append's group."""

    store: EventStore
    group: GroupProgress


async def await_append(
    report: LoadReport,
    domain: Domain[Any],
    append_progress: AppendProgress,
    progress: ProgressCallback = ignore_progress,
) -> None:
    """Wait until append has processed the load, then count accepted, repeated and refused rows.

    Once for each report. Rows that append has not processed when its offsets stop moving stay
    pending. ServerUnavailable when the store does not answer.
    """

    async def classify(committed: Mapping[int, int]) -> None:
        await _classify(report, domain.topics, committed, append_progress.store)

    await await_group(report, domain.topics.events, append_progress.group, classify, progress)


async def await_group(
    report: LoadReport,
    topic: str,
    group_progress: GroupProgress,
    classify: Classify,
    progress: ProgressCallback,
) -> None:
    """Wait until a group has processed the load, then classify its outcomes."""
    started, before = time.monotonic(), report.seconds

    def show(behind: int) -> None:
        report.pending = min(report.pending, behind)
        report.seconds = before + time.monotonic() - started
        progress(report)

    try:
        committed = await _wait_until_passed(report.placements.ends, topic, group_progress, show)
        report.pending = 0
        await classify(committed)
    finally:
        report.placements.close()
    show(report.pending)


async def _wait_until_passed(
    ends: Mapping[int, int], topic: str, group_progress: GroupProgress, show: Callable[[int], None]
) -> Mapping[int, int]:
    """Wait until the group's offsets are past all `ends` or have not moved for too long."""
    clock = group_progress.clock
    committed: Mapping[int, int] = {}
    moved = clock.steady()
    while True:
        now, fresh = clock.steady(), await _committed(group_progress, topic)
        if fresh is not None and fresh != committed:
            committed, moved = fresh, now
        behind = sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
        show(behind)
        if not behind or (now - moved).total_seconds() >= group_progress.patience:
            return committed
        await clock.sleep(POLL_SECONDS)


async def _committed(group_progress: GroupProgress, topic: str) -> Mapping[int, int] | None:
    try:
        return await group_progress.reader.committed(group_progress.group, topic)
    except ServerUnavailable:
        return None


async def _classify(
    report: LoadReport, topics: Topics, committed: Mapping[int, int], store: EventStore
) -> None:
    epoch = await store.registry.epoch()
    for page in report.placements.pages():
        stored = await store.find([at.key for at in page])
        for at in page:
            event, partition, offset = stored.get(at.key), at.partition, at.offset
            if event is not None and event.position == str(Position(epoch, partition, offset)):
                report.accepted += 1
            elif event is not None:
                report.repeated += 1
            elif offset < committed.get(partition, 0):
                where = f"{topics.events}, partition {partition}, offset {offset}"
                report.refuse_placed(
                    f"{where}: append made it a dead letter, see {topics.dead_letters}", at
                )
            else:
                report.pending += 1
