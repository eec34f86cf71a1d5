"""Reads the committed offsets of a consumer group from its coordinator."""

from typing import Any

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetFetchRequest

from eventfleet.stores.kafka.errors import raise_for_code, retry_request


async def fetch_committed(
    client: Any, group: str, topic: str, partitions: list[int]
) -> dict[int, int]:
    """Return the offsets by partition (absent: none); the caller bounds the time.

    The driver's own calls mistake a coordinator that is still loading for a group without offsets.
    """
    return await retry_request(lambda: _fetch(client, group, topic, partitions))


async def _fetch(client: Any, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    request = OffsetFetchRequest(group, [(topic, partitions)])
    response = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    raise_for_code(getattr(response, "error_code", 0))
    offsets = {}
    for _, entries in response.topics:
        for partition, offset, _, code in entries:
            raise_for_code(code)
            if offset >= 0:
                offsets[partition] = offset
    return offsets
