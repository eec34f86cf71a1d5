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
from eventfleet.stores.kafka.offset_fetch import (
    UNSTABLE_OFFSET_COMMIT,
    StableOffsetFetchRequest,
    UnstableOffset,
)
from eventfleet.stores.kafka.offset_proof import prove_offsets

# Only a group without members takes offsets from an outsider.
HAS_MEMBERS_ERRORS = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


async def fetch_committed(
    client: Any, group: str, topic: str, partitions: list[int], *, stable: bool = False
) -> dict[int, int]:
    """Return the offsets by partition (absent: none); the caller bounds the time.

    Where it is to be `stable`, transactions that are about to end are waited for. The driver's own
    calls mistake a coordinator that is still loading for a group without offsets.
    """
    return await prove_offsets(lambda: _fetch(client, group, topic, partitions, stable), partitions)


async def commit_offsets(client: Any, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set the offsets by partition; the caller bounds the time.

    Misconfigured: the group has members.
    """
    try:
        await retry_request(lambda: _commit(client, group, topic, offsets))
    except HAS_MEMBERS_ERRORS:
        raise Misconfigured(f"the consumer group {group} has members: stop its workers") from None


async def _fetch(
    client: Any, group: str, topic: str, partitions: list[int], stable: bool
) -> dict[int, int]:
    request = (
        StableOffsetFetchRequest(group, topic, partitions)
        if stable
        else OffsetFetchRequest(group, [(topic, partitions)])
    )
    response = (await _send(client, group, request)).to_object()
    raise_for_code(response.get("error_code", 0), f"Describe on group {group}")
    offsets = {}
    for entry in [entry for each in response["topics"] for entry in each["partitions"]]:
        if entry["error_code"] == UNSTABLE_OFFSET_COMMIT:
            raise UnstableOffset
        raise_for_code(entry["error_code"], f"Describe on topic {topic}")
        if entry["offset"] >= 0:
            offsets[entry["partition"]] = entry["offset"]
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
