"""What `eventfleet run` does with a log: load it, wait until all of it is through, audit."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eventfleet.audit import Auditor, AuditReport
from eventfleet.log_files import Row, RowProblem, replies
from eventfleet.log_files.loader import AppendProgress, GroupProgress, LoadReport, load, settle
from eventfleet.log_files.records import ReadyRecord
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogReader, Watermarks
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.names import Topics, consumer_group

PATIENCE = 60.0
LOOK = 0.25

Rows = Iterable[Row | ReadyRecord | RowProblem]


class NoProgress(EventfleetError):
    """A role has made no progress for too long."""


@dataclass
class RoleProgress:
    """One role's way through its topic since the start, in offsets and seconds."""

    role: str
    topic: str
    group: str
    before: int = 0
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    through: bool = False


@dataclass(frozen=True)
class RunResult:
    """What became of one log. `seconds`: from the first row until the last role was through."""

    load: LoadReport
    refused_rows: int
    audit: AuditReport
    stages: list[RoleProgress]
    seconds: float
    read_seconds: float

    @property
    def clean(self) -> bool:
        return self.audit.clean and not self.load.pending

    def rate(self, seconds: float) -> float:
        """Rows of this log a second."""
        return (self.load.offered - self.refused_rows) / seconds if seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The counts that SUMMARY asks for. Rows that were no event count as dead letters."""
        return {
            "domain": self.audit.domain,
            "commands": self.load.offered,
            "accepted": self.load.accepted,
            "rejected": self.load.rejected,
            "repeated": self.load.repeated,
            "stored": self.audit.stored,
            "aggregates": self.audit.aggregates,
            "snapshots": self.audit.snapshots,
            "relayed": self.audit.relayed,
            "dead_letters": self.audit.dead_letters + self.refused_rows,
            "violations": len(self.audit.violations),
            "seconds": round(self.seconds, 3),
        }


Show = Callable[[LoadReport, list[RoleProgress]], None]


class ProgressWatch:
    """Looks at how far the roles have come with a domain; `commands`: whether it gets commands."""

    def __init__(self, reader: LogReader, prefix: str, domain: str, commands: bool) -> None:
        self._reader = reader
        topics = Topics.of(domain)
        sources = {"append": topics.events, "snapshot": topics.stored, "relay": topics.stored}
        if commands:
            sources = {"command": topics.commands, **sources}
        self.stages = [
            RoleProgress(role, topic, consumer_group(prefix, domain, role))
            for role, topic in sources.items()
        ]
        self._started = time.monotonic()
        self._moved = self._started

    async def start(self) -> None:
        """What is there already does not count."""
        for stage in self.stages:
            bounds = await self._reader.watermarks(stage.topic)
            stage.before = sum(limit.end for limit in bounds.values())
        self._started = self._moved = time.monotonic()

    async def look(self) -> bool:
        """Whether all stages are through. StandsStill after PATIENCE without progress.

        The order counts: what a role emits is there before its offset moves.
        """
        for stage in self.stages:
            stage.through = await self._look_at(stage)
        behind = [stage for stage in self.stages if not stage.through]
        if behind and time.monotonic() - self._moved > PATIENCE:
            where = ", ".join(f"{s.role} at {s.done:,} of {s.total:,} in {s.topic}" for s in behind)
            raise NoProgress(f"nothing has moved for {PATIENCE:.0f} seconds: {where}")
        return not behind

    async def _look_at(self, stage: RoleProgress) -> bool:
        committed = await self._reader.committed(stage.group, stage.topic)
        bounds = await self._reader.watermarks(stage.topic)
        done = sum(committed.values()) - stage.before
        stage.total = sum(limit.end for limit in bounds.values()) - stage.before
        if done > stage.done:
            stage.done, self._moved = done, time.monotonic()
            stage.seconds = self._moved - self._started
            return stage.done >= stage.total
        return await self._nothing_left(stage.topic, committed, bounds)

    async def _nothing_left(
        self, topic: str, committed: dict[int, int], bounds: dict[int, Watermarks]
    ) -> bool:
        """Whether no record lies between the offsets and the ends: a transaction's mark is none."""
        for partition, limit in bounds.items():
            start = committed.get(partition, limit.oldest)
            if start < limit.end:
                async for _ in self._reader.read(topic, partition, start, limit.end):
                    return False
        return True


async def run_log(settings: Settings, domain: Domain[Any], rows: Rows, show: Show) -> RunResult:
    """Load the rows into a running fleet and follow them to the end.

    Into a domain that judges its commands as commands, into another as events.
    """
    async with (
        connections.log_reader(settings) as reader,
        connections.log_writer(settings) as writer,
        connections.log_admin(settings) as admin,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        opened, commands = stores[domain.name], domain.commands_only
        watch = ProgressWatch(reader, settings.group_prefix, domain.name, commands)
        await watch.start()
        answers, started = await replies.ends(reader, domain.name), time.monotonic()

        def progress(report: LoadReport) -> None:
            show(report, watch.stages)

        report = await load(rows, domain, writer, progress, commands=commands)
        refused_rows, read_seconds = report.refused, report.seconds
        while not await watch.look():
            show(report, watch.stages)
            await asyncio.sleep(LOOK)
        seconds = time.monotonic() - started
        following = GroupProgress(reader, watch.stages[0].group, SystemClock())
        if commands:
            await replies.settle(report, domain.name, following, answers)
        else:
            await settle(report, domain, AppendProgress(opened.events, following))
        show(report, watch.stages)
        auditor = Auditor(
            domain,
            opened,
            reader,
            group_prefix=settings.group_prefix,
            exactly_once=await admin.transactional(),
        )
        audit = await auditor.run()
        return RunResult(report, refused_rows, audit, watch.stages, seconds, read_seconds)
