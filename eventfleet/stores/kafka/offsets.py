"""What a consumer group has committed, asked of its coordinator."""

from typing import Any

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetFetchRequest

from eventfleet.stores.kafka.errors import check, retry_request


async def committed(client: Any, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    """The offsets by partition (absent: none); the caller bounds the time.

    The driver's own calls take a coordinator that is still loading for a group without offsets.
    """
    return await retry_request(lambda: _fetch(client, group, topic, partitions))


async def _fetch(client: Any, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    request = OffsetFetchRequest(group, [(topic, partitions)])
    answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    check(getattr(answer, "error_code", 0))
    found = {}
    for _, entries in answer.topics:
        for partition, offset, _, code in entries:
            check(code)
            if offset >= 0:
                found[partition] = offset
    return found
