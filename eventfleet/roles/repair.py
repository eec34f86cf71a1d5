"""A repair of an event store that its consumer group did not fill, by `rewind` or `restore`.

Both need every worker and service of the domain to be stopped, and may be repeated when cut off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.steady_offsets import read_steady_offsets
from eventfleet.stores.contracts import (
    Clock,
    DomainStores,
    LogAdmin,
    LogReader,
    LogWriter,
    PartitionWriter,
    Watermarks,
)
from eventfleet.stores.contracts.views import ViewBuild, ViewBuilds
from eventfleet.stores.parked_log import TopicParkedLog
from eventfleet.stores.registry_facts import registry_record
from eventfleet.topics.names import Topics, consumer_group

ROLES = {
    "append": "events",
    "snapshot": "stored",
    "relay": "stored",
    "project": "stored",
    "command": "commands",
}


@dataclass(frozen=True)
class RepairContext:
    """The domain to repair, its servers, and the prefix of its consumer groups.

    `writers`, by partition, fence append's owners; none on a broker without transactions. Offsets
    that look lost are asked for again for `steady` seconds. `producer` writes what is decided to
    the log; without one append's owner does, once it runs.
    """

    domain: Domain[Any]
    stores: DomainStores
    reader: LogReader
    admin: LogAdmin
    clock: Clock
    group_prefix: str
    writers: Mapping[int, PartitionWriter] = field(default_factory=dict)
    steady: float = 0.0
    producer: LogWriter | None = None

    @property
    def parked_log(self) -> TopicParkedLog:
        return TopicParkedLog(self.topics, self.reader)

    @property
    def topics(self) -> Topics:
        return self.domain.topics

    def group(self, role: str) -> str:
        return consumer_group(self.group_prefix, self.domain.name, role)

    async def take_over(self) -> dict[int, int]:
        """Return append's committed offsets. Misconfigured: a group of the domain has members.

        A zombie of append is fenced, so that it can't move its offset any more.
        """
        for role, kind in ROLES.items():
            topic = getattr(self.topics, kind)
            offsets = await self._read_offsets(role)
            if offsets:  # as they are: only a group without members takes them
                await self.admin.set_offsets(self.group(role), topic, offsets)
        for writer in self.writers.values():
            await writer.open()
            await writer.close()
        return await self._read_offsets("append")

    async def _read_offsets(self, role: str) -> dict[int, int]:
        topic, noted = getattr(self.topics, ROLES[role]), dict[int, int]()
        if role == "append":
            noted = await self.stores.events.registry.next_offsets()
        begun = {partition for partition, offset in noted.items() if offset}
        return await read_steady_offsets(
            self.reader,
            self.group(role),
            topic,
            lambda found: bool(begun - found.keys()),
            self.clock,
            self.steady,
        )

    async def rebuild_views(self) -> None:
        """Begin a build of each view: the present ones may have what the wrong store had.

        Its number is one that no entry of `<domain>.parked` names: a lost store had others.
        """
        if views := self.stores.views:
            builds, parked_in = await views.builds(), await self._builds_with_parked()
            for view in self.domain.views:
                known = builds.get(view.name, ViewBuilds())
                tables = [table.name for table in view.tables]
                first, last = known.last_number, max(known.last_number, parked_in.get(view.name, 0))
                for number in range(first, last + 1):
                    await views.begin(view.name, tables, view.shape, number)
                await views.note_repaired(view.name, last)
                await self._note_stale(view.name, known.former)

    async def _builds_with_parked(self) -> dict[str, int]:
        """Return, by view, the highest number of a build in which project parks anything."""
        highest: dict[str, int] = {}
        for partition in await self.reader.watermarks(self.topics.parked):
            entries = await self.parked_log.load("project", partition)
            for name in {name for each in entries.parked for name in each.builds}:
                view, _, number = name.rpartition("/")
                highest[view] = max(highest.get(view, 0), int(number))
        return highest

    async def _note_stale(self, view: str, former: ViewBuild | None) -> None:
        """Note that the former build is to be built anew by whoever declares it again."""
        views = self.stores.views
        if former is None or views is None:
            return
        for partition, known in former.partitions.items():
            stale = known._replace(stale=True)
            await views.note_progress(view, former.number, partition, known, stale)

    async def copy_registry(self) -> None:
        """Have the log keep what the registry says now: a lost store is filled from there."""
        if self.producer:
            facts = await self.stores.events.registry.facts()
            await self.producer.produce([registry_record(self.topics.parked, facts)])

    async def set_offsets(self, offsets: Mapping[int, int]) -> None:
        await self.admin.set_offsets(self.group("append"), self.topics.events, offsets)


def nearest_in_log(offset: int, marks: Watermarks) -> int:
    """Return the offset where the log has it, else that of the oldest record."""
    return offset if marks.oldest <= offset <= marks.end else marks.oldest
