"""Reads and sets the committed offsets of a consumer group, at its coordinator."""

from collections.abc import Mapping
from typing import Any

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.kafka.errors import NeededRight, raise_for_code, retry_request

# Only a group without members takes offsets from an outsider.
HAS_MEMBERS_ERRORS = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


async def fetch_committed(
    client: Any, group: str, topic: str, partitions: list[int]
) -> dict[int, int]:
    """Return the offsets by partition (absent: none); the caller bounds the time.

    The driver's own calls mistake a coordinator that is still loading for a group without offsets.
    """
    return await retry_request(lambda: _fetch(client, group, topic, partitions))


async def commit_offsets(client: Any, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set the offsets by partition; the caller bounds the time.

    Misconfigured: the group has members.
    """
    try:
        await retry_request(lambda: _commit(client, group, topic, offsets))
    except HAS_MEMBERS_ERRORS:
        raise Misconfigured(f"the consumer group {group} has members: stop its workers") from None


async def _fetch(client: Any, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    request = OffsetFetchRequest(group, [(topic, partitions)])
    response = await _send(client, group, request)
    raise_for_code(getattr(response, "error_code", 0), f"Describe on group {group}")
    offsets = {}
    for _, entries in response.topics:
        for partition, offset, _, code in entries:
            raise_for_code(code, f"Describe on topic {topic}")
            if offset >= 0:
                offsets[partition] = offset
    return offsets


async def _commit(client: Any, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    entries = [(partition, offset, "") for partition, offset in offsets.items()]
    generation, member, retention = -1, "", OffsetCommitRequest.DEFAULT_RETENTION_TIME
    request = OffsetCommitRequest(group, generation, member, retention, [(topic, entries)])
    response = await _send(client, group, request)
    for _, results in response.topics:
        for _, code in results:
            raise_for_code(code, f"Read on group {group} and topic {topic}")


async def _send(client: Any, group: str, request: Any) -> Any:
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    except GroupAuthorizationFailedError as error:
        raise type(error)(NeededRight(f"Describe on group {group}")) from error
    return await client.send(node, request, group=ConnectionGroup.COORDINATION)
