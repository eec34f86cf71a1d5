"""Sets the offsets of a role's group, as an operator decides."""

from collections.abc import Callable
from typing import Literal

from eventfleet.stores.contracts import LogAdmin, LogReader
from eventfleet.topics.names import Topics

Where = Literal["earliest", "latest"]

SOURCES: dict[str, Callable[[Topics], str]] = {
    "command": lambda topics: topics.commands,
    "snapshot": lambda topics: topics.stored,
    "relay": lambda topics: topics.stored,
    "project": lambda topics: topics.stored,
}
"""The topic that each role consumes whose offset may be set; append's goes with its store."""


async def set_unusable_offsets(
    reader: LogReader, admin: LogAdmin, group: str, topic: str, where: Where
) -> dict[int, int]:
    """Set the offsets of the partitions without one, or with one that the log does not have.

    Returns them by partition. Misconfigured: the group has members.
    """
    committed = await reader.committed(group, topic)
    offsets = {
        partition: oldest if where == "earliest" else end
        for partition, (oldest, end) in (await reader.watermarks(topic)).items()
        if not oldest <= committed.get(partition, -1) <= end
    }
    if offsets:
        await admin.set_offsets(group, topic, offsets)
    return offsets
