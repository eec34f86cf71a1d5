"""Creates topics, compares them with their declaration, and sets the offsets of groups."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAlreadyExistsError,
    UnknownError,
)
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, InitProducerIdRequest

from eventfleet.stores.driver_faults import describe
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import (
    OPERATOR_ERRORS,
    RIGHT_ERRORS,
    close_quietly,
    raise_for_code,
    retry_request,
    translate_errors,
)
from eventfleet.stores.kafka.offsets import commit_offsets
from eventfleet.stores.kafka.watermarks import fetch_leaders
from eventfleet.stores.topic_diff import describe_differences, describe_missing
from eventfleet.topics.topic_specs import TopicSpec

TRANSACTION_APIS = {InitProducerIdRequest.API_KEY, AddPartitionsToTxnRequest.API_KEY}


class Admin:
    """LogAdmin on Kafka. Each call opens a connection of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing topics; when it returns, they can be written to."""
        async with self._admin("creating topics") as admin:
            response = await admin.create_topics([_new(spec) for spec in specs])
            created = []
            for topic, code, *reasons in response.topic_errors:
                if code == TopicAlreadyExistsError.errno:
                    continue
                _raise_refusal(topic, code, *reasons)
                created.append(topic)
            await _wait_for_leaders(admin, created)
            return created

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        async with self._admin("checking topics") as admin:
            topics = {topic["topic"]: topic for topic in await admin.describe_topics()}
            for spec in specs:
                if spec.name not in topics:  # or the user has no right to see it: that is an error
                    await fetch_leaders(admin._client, spec.name)
            existing = [spec for spec in specs if spec.name in topics]
            configs = await _configs(admin, existing)
        sentences: list[str] = []
        for spec in specs:
            topic = topics.get(spec.name)
            sentences += (
                _compare(spec, topic, configs[spec.name]) if topic else [describe_missing(spec)]
            )
        return sentences

    async def transactional(self) -> bool:
        """Return whether the broker lists the APIs of transactions, and gives out producer ids.

        Some brokers list the APIs, but give out no ids.
        """
        async with self._admin("looking for transactions") as admin:
            response = await admin._send_request(ApiVersionRequest())
            raise_for_code(response.error_code)
            apis = {key for key, *_ in response.api_versions}
            return apis >= TRANSACTION_APIS and await retry_request(lambda: _has_ids(admin))

    async def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        async with self._admin(f"setting the offsets of {group}") as admin:
            await commit_offsets(admin._client, group, topic, offsets)

    async def close(self) -> None:
        """There is nothing to release."""

    @asynccontextmanager
    async def _admin(self, what: str) -> AsyncIterator[Any]:
        async with translate_errors(what, self._connection.timeout):
            admin = self._connection.admin()
            try:
                await admin.start()
                yield admin
            finally:
                await close_quietly(admin.close)


def _new(spec: TopicSpec) -> Any:
    return NewTopic(spec.name, spec.partitions, spec.replication, topic_configs=spec.config)


def _raise_refusal(topic: str, code: int, reason: str | None = None) -> None:
    """Raise the error of a topic that was not created, with the broker's reason; 0 is none."""
    try:
        raise_for_code(code, f"Create on topic {topic}")
    except RIGHT_ERRORS:
        raise
    except OPERATOR_ERRORS as error:
        raise Misconfigured(
            f"topic {topic} can't be created: {reason or describe(error)}"
        ) from error


async def _has_ids(admin: Any) -> bool:
    """Return whether the broker gives out producer ids."""
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
    code = (await admin._send_request(request)).error_code
    if code == UnknownError.errno:
        return False
    if code == ClusterAuthorizationFailedError.errno:
        return True  # it gives them to users who may write
    raise_for_code(code)
    return True


async def _wait_for_leaders(admin: Any, topics: Sequence[str]) -> None:
    """Wait until every partition has a leader; the caller bounds the time."""
    waiting = set(topics)
    while waiting:
        for topic in await admin.describe_topics():
            if all(partition["leader"] >= 0 for partition in topic["partitions"]):
                waiting.discard(topic["topic"])
        if waiting:
            await asyncio.sleep(0.05)


async def _configs(admin: Any, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
    """Read all settings of each topic; some brokers can't describe single ones."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
    configs = {}
    for response in await admin.describe_configs(resources) if resources else ():
        for code, _, _, name, entries in response.resources:
            raise_for_code(code, f"DescribeConfigs on topic {name}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def _compare(spec: TopicSpec, topic: dict[str, Any], config: dict[str, str]) -> list[str]:
    partitions = topic["partitions"]
    replication = min(len(partition["replicas"]) for partition in partitions)
    return describe_differences(spec, len(partitions), replication, config)
