"""Reads the watermarks of a topic's partitions from their leaders."""

import asyncio
from collections import defaultdict
from typing import Any

from aiokafka import errors as kafka
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from eventfleet.stores.contracts import Watermarks
from eventfleet.stores.errors import TopicRefused
from eventfleet.stores.kafka.errors import raise_for_code, retry_request

ANY_REPLICA = -1
UNCOMMITTED = 0
ONE_BYTE = 1
MAX_LOOKS = 6
LOOK_SECONDS = 0.5
FETCH_WAIT_MS = 20
"""Apache Kafka answers at once; some brokers omit what they have not found by then."""


async def fetch_watermarks(client: Any, topic: str) -> dict[int, Watermarks]:
    """Return the watermarks by partition (empty: unknown topic); the caller bounds the time."""
    return await retry_request(lambda: _fetch_all(client, topic))


async def fetch_watermarks_beyond(
    client: Any, topic: str, partition: int, offset: int
) -> Watermarks:
    """Return a partition's watermarks; asked again, for some seconds, while the end is below
    `offset`: a new leader learns only then how far its followers have come. The caller bounds the
    time. TopicRefused: no such partition.
    """
    look = 1
    while True:
        found = (await fetch_watermarks(client, topic)).get(partition)
        if found is None:
            raise TopicRefused(f"topic {topic} has no partition {partition}")
        if found.end >= offset or look == MAX_LOOKS:
            return found
        look += 1
        await asyncio.sleep(LOOK_SECONDS)


async def fetch_leaders(client: Any, topic: str) -> dict[int, int]:
    """Return the leader of each partition; empty for an unknown topic, which is not created.

    The client's own call requests all topics, and takes long to read the answer when they are many.
    """
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    ((code, _, _, partitions),) = (await client.send(client.get_random_node(), request)).topics
    if code == kafka.UnknownTopicOrPartitionError.errno:
        return {}
    raise_for_code(code, f"Describe on topic {topic}")
    leaders = {partition: leader for _, partition, leader, *_ in partitions}
    if any(leader < 0 for leader in leaders.values()):
        raise kafka.LeaderNotAvailableError
    return dict(sorted(leaders.items()))


async def _fetch_all(client: Any, topic: str) -> dict[int, Watermarks]:
    by_leader: dict[int, list[int]] = defaultdict(list)
    for partition, leader in (await fetch_leaders(client, topic)).items():
        by_leader[leader].append(partition)
    requests = [_fetch_from(client, node, topic, parts) for node, parts in by_leader.items()]
    found = [pair for pairs in await asyncio.gather(*requests) for pair in pairs.items()]
    return dict(sorted(found))


async def _fetch_from(
    client: Any, node: int, topic: str, partitions: list[int]
) -> dict[int, Watermarks]:
    """Take the ends from fetches near them: some brokers list them too low."""
    oldest = await _list_offsets(client, node, topic, partitions, OffsetResetStrategy.EARLIEST)
    listed = await _list_offsets(client, node, topic, partitions, OffsetResetStrategy.LATEST)
    wanted = [(partition, listed[partition], ONE_BYTE) for partition in partitions]
    request = FetchRequest(FETCH_WAIT_MS, 0, ONE_BYTE, UNCOMMITTED, [(topic, wanted)])
    ends = {}
    for _, parts in (await client.send(node, request)).topics:
        for partition, code, end, *_ in parts:
            raise_for_code(code, f"Read on topic {topic}")
            ends[partition] = end
    if len(ends) < len(partitions):
        raise kafka.RequestTimedOutError
    return {partition: Watermarks(oldest[partition], ends[partition]) for partition in partitions}


async def _list_offsets(
    client: Any, node: int, topic: str, partitions: list[int], which: int
) -> dict[int, int]:
    wanted = [(partition, which) for partition in partitions]
    request = OffsetRequest(ANY_REPLICA, UNCOMMITTED, [(topic, wanted)])
    offsets = {}
    for _, parts in (await client.send(node, request)).topics:
        for partition, code, _, offset in parts:
            raise_for_code(code, f"Describe on topic {topic}")
            offsets[partition] = offset
    return offsets
