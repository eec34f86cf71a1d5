"""The work of `eventfleet run`: load a log, follow it through all roles, audit."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eventfleet.audit import Auditor, AuditReport
from eventfleet.log_files import LogRow, RowProblem, replies
from eventfleet.log_files.loader import (
    AppendProgress,
    GroupProgress,
    LoadReport,
    await_append,
    load,
)
from eventfleet.log_files.records import ReadyRecord
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogReader, Watermarks
from eventfleet.stores.contracts.views import ViewBuilds, ViewStore
from eventfleet.topics.errors import EventfleetError
from eventfleet.topics.names import consumer_group

NO_PROGRESS_SECONDS = 60.0
POLL_SECONDS = 0.25

Rows = Iterable[LogRow | ReadyRecord | RowProblem]


class NoProgress(EventfleetError):
    """A role has made no progress for too long."""


@dataclass
class RoleProgress:
    """How far a role has come in its topic since the start, in offsets and seconds."""

    role: str
    topic: str
    group: str
    start: int = 0
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    finished: bool = False


@dataclass(frozen=True)
class RunResult:
    """The result of one log. `seconds`: from the first row until the last role has finished."""

    load: LoadReport
    refused_rows: int
    audit: AuditReport
    roles: list[RoleProgress]
    seconds: float
    read_seconds: float

    @property
    def clean(self) -> bool:
        return self.audit.clean and not self.load.pending

    def rate(self, seconds: float) -> float:
        """Rows of this log per second, over some seconds."""
        return (self.load.offered - self.refused_rows) / seconds if seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The counts that SUMMARY writes. Rows that are no events count as dead letters."""
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
            "violations": self.audit.counts["violations"],
            "seconds": round(self.seconds, 3),
        }


ShowProgress = Callable[[LoadReport, list[RoleProgress]], None]


class ProgressWatch:
    """Watches how far the roles have come with a domain: those that its declaration needs."""

    def __init__(
        self, reader: LogReader, prefix: str, domain: Domain[Any], views: ViewStore | None
    ) -> None:
        self._reader, self._domain, self._views = reader, domain, views
        topics = domain.topics
        roles = ("snapshot", "relay", *(["project"] if domain.views else []))
        sources = {"append": topics.events, **dict.fromkeys(roles, topics.stored)}
        if domain.commands_only:
            sources = {"command": topics.commands, **sources}
        self.roles = [
            RoleProgress(role, topic, consumer_group(prefix, domain.name, role))
            for role, topic in sources.items()
        ]
        self._builds: Mapping[str, ViewBuilds] = {}
        self._unbuilt: list[str] = []
        self._began = time.monotonic()
        self._progressed = self._began

    async def start(self) -> None:
        """Take the present ends of the topics as the start."""
        for progress in self.roles:
            bounds = await self._reader.watermarks(progress.topic)
            progress.start = sum(limit.end for limit in bounds.values())
        self._began = self._progressed = time.monotonic()

    async def poll(self) -> bool:
        """Return True when all roles have finished. NoProgress after NO_PROGRESS_SECONDS.

        The order of the roles counts: a role's output is in the log before its offset moves. The
        project role has finished when queries read its builds, too, or those are held.
        """
        for progress in self.roles:
            progress.finished = await self._update(progress)
        if self.roles[-1].finished and await self._find_unbuilt():
            self.roles[-1].finished = False
        behind = [progress for progress in self.roles if not progress.finished]
        if behind and time.monotonic() - self._progressed > NO_PROGRESS_SECONDS:
            where = ", ".join(
                [
                    f"{each.role} at {each.done:,} of {each.total:,} in {each.topic}"
                    for each in behind
                ]
                + [f"view {each} is not built" for each in self._unbuilt]
            )
            raise NoProgress(f"nothing has moved for {NO_PROGRESS_SECONDS:.0f} seconds: {where}")
        return not behind

    async def _update(self, progress: RoleProgress) -> bool:
        committed = await self._reader.committed(progress.group, progress.topic)
        bounds = await self._reader.watermarks(progress.topic)
        done = sum(committed.values()) - progress.start
        progress.total = sum(limit.end for limit in bounds.values()) - progress.start
        if done > progress.done:
            progress.done, self._progressed = done, time.monotonic()
            progress.seconds = self._progressed - self._began
            return progress.done >= progress.total
        return await self._nothing_is_left(progress.topic, committed, bounds)

    async def _nothing_is_left(
        self, topic: str, committed: dict[int, int], bounds: dict[int, Watermarks]
    ) -> bool:
        """Check that no record lies between the offsets and the ends, transaction markers aside."""
        for partition, limit in bounds.items():
            start = committed.get(partition, limit.oldest)
            if start < limit.end:
                async for _ in self._reader.read(topic, partition, start, limit.end):
                    return False
        return True

    async def _find_unbuilt(self) -> list[str]:
        """Find the views of which queries have no build yet, and may still get one."""
        if not self._domain.views:
            return []
        assert self._views is not None
        builds = await self._views.builds()
        if builds != self._builds:
            self._builds, self._progressed = builds, time.monotonic()
        self._unbuilt = [
            view.name
            for view in self._domain.views
            for known in [builds.get(view.name, ViewBuilds())]
            if not (known.read_by(view.shape) or (known.next and known.next.held))
        ]
        return self._unbuilt


async def run_log(
    settings: Settings, domain: Domain[Any], rows: Rows, show: ShowProgress
) -> RunResult:
    """Load the rows into a running fleet and follow them to the end.

    They are loaded as commands where the domain has command rules, else as events.
    """
    async with (
        connections.log_reader(settings) as reader,
        connections.log_writer(settings) as writer,
        connections.log_admin(settings) as admin,
        connections.stores(settings, {domain.name: domain}) as stores,
    ):
        opened, commands = stores[domain.name], domain.commands_only
        watch = ProgressWatch(reader, settings.group_prefix, domain, opened.views)
        await watch.start()
        reply_starts = await replies.end_offsets(reader, domain.topics.replies)
        started = time.monotonic()

        def show_report(report: LoadReport) -> None:
            show(report, watch.roles)

        partitions = settings.partitions
        report = await load(
            rows, domain, writer, show_report, partitions=partitions, commands=commands
        )
        refused_rows, read_seconds = report.refused, report.seconds
        while not await watch.poll():
            show_report(report)
            await asyncio.sleep(POLL_SECONDS)
        seconds = time.monotonic() - started
        group_progress = GroupProgress(reader, watch.roles[0].group, SystemClock())
        if commands:
            await replies.await_replies(report, domain.topics, group_progress, reply_starts)
        else:
            await await_append(report, domain, AppendProgress(opened.events, group_progress))
        show_report(report)
        auditor = Auditor(
            domain,
            opened,
            reader,
            group_prefix=settings.group_prefix,
            exactly_once=await admin.transactional(),
        )
        audit = await auditor.run()
        return RunResult(report, refused_rows, audit, watch.roles, seconds, read_seconds)
