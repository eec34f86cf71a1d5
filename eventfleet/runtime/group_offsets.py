"""Lists the offsets of a domain's groups, and sets those of a role, as an operator decides."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

from eventfleet.model.domain import Domain
from eventfleet.roles.steady_offsets import read_steady_offsets
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import LogAdmin, LogReader, StoreRegistry, Watermarks
from eventfleet.topics.names import Topics, consumer_group

Where = Literal["earliest", "latest"]

SOURCES: dict[str, Callable[[Topics], str]] = {
    "command": lambda topics: topics.commands,
    "snapshot": lambda topics: topics.stored,
    "relay": lambda topics: topics.stored,
    "project": lambda topics: topics.stored,
}
"""The topic that each role consumes whose offset may be set; append's goes with its store."""

APPEND = "append"


class GroupOffset(NamedTuple):
    """The offset of a role's group in one partition, beside what log and store know of it.

    `offset` is None where there is none. `noted` is how far the store says that append has come;
    for the other roles `begun` says whether the store knows that the role has begun.
    """

    role: str
    partition: int
    offset: int | None
    oldest: int
    end: int
    noted: int | None = None
    begun: bool | None = None


class OffsetList:
    """Lists the offsets of a domain's roles; those that look lost are asked for again.

    `seconds`: for how long.
    """

    def __init__(
        self,
        reader: LogReader,
        registry: StoreRegistry,
        domain: Domain[Any],
        prefix: str,
        seconds: float,
    ) -> None:
        self._reader, self._registry, self._seconds = reader, registry, seconds
        self._domain, self._prefix, self._topics = domain.name, prefix, domain.topics

    async def read(self) -> list[GroupOffset]:
        """Read those of append, and then of the other roles, by partition."""
        others = [self._read_other(role, source(self._topics)) for role, source in SOURCES.items()]
        found = await asyncio.gather(self._read_append(), *others)
        return [line for lines in found for line in lines]

    async def _read_append(self) -> list[GroupOffset]:
        noted = await self._registry.next_offsets()
        taken = {partition for partition, offset in noted.items() if offset}
        found = await self._read_role(APPEND, self._topics.events, taken)
        return [each._replace(noted=noted.get(each.partition, 0)) for each in found]

    async def _read_other(self, role: str, topic: str) -> list[GroupOffset]:
        count = await self._reader.partition_count(topic)
        begun = await find_begun(self._registry, role, range(count))
        found = await self._read_role(role, topic, begun)
        return [each._replace(begun=each.partition in begun) for each in found]

    async def _read_role(self, role: str, topic: str, begun: Collection[int]) -> list[GroupOffset]:
        group = consumer_group(self._prefix, self._domain, role)
        offsets = await read_steady_offsets(
            *(self._reader, group, topic),
            lambda found: any(partition not in found for partition in begun),
            *(SystemClock(), self._seconds),
        )
        marks = await self._reader.watermarks(topic)
        return [GroupOffset(role, p, offsets.get(p), *each) for p, each in marks.items()]


async def find_begun(registry: StoreRegistry, role: str, partitions: Collection[int]) -> set[int]:
    """Find the partitions on which a role has begun, as the store knows."""
    return {p for p in partitions if await registry.has_begun(role, p)}


async def set_unusable_offsets(
    reader: LogReader,
    admin: LogAdmin,
    group: str,
    topic: str,
    where: Where,
    begun: Collection[int] = (),
    seconds: float = 0.0,
) -> dict[int, int]:
    """Set the offsets of the partitions without one, or with one that the log does not have.

    Where the role has `begun`, such an offset is asked for again for some seconds before. Returns
    them by partition. Misconfigured: the group has members.
    """
    marks = await reader.watermarks(topic)
    offsets = await read_steady_offsets(
        reader,
        group,
        topic,
        lambda found: any(p in begun and not _is_usable(found.get(p), marks[p]) for p in marks),
        SystemClock(),
        seconds,
    )
    unusable = {
        partition: each.oldest if where == "earliest" else each.end
        for partition, each in marks.items()
        if not _is_usable(offsets.get(partition), each)
    }
    if unusable:
        await admin.set_offsets(group, topic, unusable)
    return unusable


def _is_usable(offset: int | None, marks: Watermarks) -> bool:
    return offset is not None and marks.oldest <= offset <= marks.end
