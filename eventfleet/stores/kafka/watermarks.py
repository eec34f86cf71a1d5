"""Where a topic's partitions begin and end, asked of their leaders."""

import asyncio
from collections import defaultdict
from typing import Any

from aiokafka import errors as kafka
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.kafka.errors import check, retry_request

ANY_REPLICA = -1
UNCOMMITTED = 0
ONE_BYTE = 1
WAIT_MS = 20
"""Apache Kafka answers at once; the embedded broker leaves out what it has not found by then."""


async def watermarks(client: Any, topic: str) -> dict[int, Watermarks]:
    """The bounds of each partition (empty for an unknown topic); the caller bounds the time."""
    return await retry_request(lambda: _of_all(client, topic))


async def fetch_leaders(client: Any, topic: str) -> dict[int, int]:
    """The leader of each partition; empty for an unknown topic, which asking does not make.

    The client's own call asks for all topics, and reads the answer for as long as there are many.
    """
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    ((code, _, _, partitions),) = (await client.send(client.get_random_node(), request)).topics
    if code == kafka.UnknownTopicOrPartitionError.errno:
        return {}
    check(code)
    found = {partition: leader for _, partition, leader, *_ in partitions}
    if any(leader < 0 for leader in found.values()):
        raise kafka.LeaderNotAvailableError
    return dict(sorted(found.items()))


async def _of_all(client: Any, topic: str) -> dict[int, Watermarks]:
    led: dict[int, list[int]] = defaultdict(list)
    for partition, leader in (await fetch_leaders(client, topic)).items():
        led[leader].append(partition)
    asked = [_of_leader(client, node, topic, partitions) for node, partitions in led.items()]
    found = [pair for pairs in await asyncio.gather(*asked) for pair in pairs.items()]
    return dict(sorted(found))


async def _of_leader(
    client: Any, node: int, topic: str, partitions: list[int]
) -> dict[int, Watermarks]:
    """Ends come from fetches near them: asked for the end, the embedded broker is too low."""
    oldest = await _listed(client, node, topic, partitions, OffsetResetStrategy.EARLIEST)
    listed = await _listed(client, node, topic, partitions, OffsetResetStrategy.LATEST)
    wanted = [(partition, listed[partition], ONE_BYTE) for partition in partitions]
    request = FetchRequest(WAIT_MS, 0, ONE_BYTE, UNCOMMITTED, [(topic, wanted)])
    ends = {}
    for _, parts in (await client.send(node, request)).topics:
        for partition, code, end, *_ in parts:
            check(code)
            ends[partition] = end
    if len(ends) < len(partitions):
        raise kafka.RequestTimedOutError
    return {partition: Watermarks(oldest[partition], ends[partition]) for partition in partitions}


async def _listed(
    client: Any, node: int, topic: str, partitions: list[int], which: int
) -> dict[int, int]:
    wanted = [(partition, which) for partition in partitions]
    answer = await client.send(node, OffsetRequest(ANY_REPLICA, UNCOMMITTED, [(topic, wanted)]))
    found = {}
    for _, parts in answer.topics:
        for partition, code, _, offset in parts:
            check(code)
            found[partition] = offset
    return found
