"""Topics: created, and compared with their declaration."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, UnknownError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, InitProducerIdRequest

from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.errors import check, close_quietly, retry_request, translate_errors
from eventfleet.stores.topic_diff import describe_differences, describe_missing
from eventfleet.topics.topic_specs import TopicSpec

TRANSACTIONS = {InitProducerIdRequest.API_KEY, AddPartitionsToTxnRequest.API_KEY}


class Admin:
    """LogAdmin. Each call has its own connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Those created can be written to when it returns."""
        async with self._admin("creating topics") as admin:
            answer = await admin.create_topics([_new(spec) for spec in specs])
            created = []
            for topic, code, *_ in answer.topic_errors:
                if code == TopicAlreadyExistsError.errno:
                    continue
                check(code)
                created.append(topic)
            await _led(admin, created)
            return created

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        async with self._admin("checking topics") as admin:
            topics = {topic["topic"]: topic for topic in await admin.describe_topics()}
            there = [spec for spec in specs if spec.name in topics]
            configs = await _configs(admin, there)
        found: list[str] = []
        for spec in specs:
            topic = topics.get(spec.name)
            found += (
                _compare(spec, topic, configs[spec.name]) if topic else [describe_missing(spec)]
            )
        return found

    async def transactional(self) -> bool:
        """Whether the broker lists what transactions need, and hands out producer ids.

        The embedded broker lists it too, but hands out none.
        """
        async with self._admin("asking for transactions") as admin:
            answer = await admin._send_request(ApiVersionRequest())
            check(answer.error_code)
            listed = {key for key, *_ in answer.api_versions}
            return listed >= TRANSACTIONS and await retry_request(lambda: _numbers(admin))

    async def close(self) -> None:
        """There is nothing to let go."""

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


async def _numbers(admin: Any) -> bool:
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
    code = (await admin._send_request(request)).error_code
    if code == UnknownError.errno:
        return False
    check(code)
    return True


async def _led(admin: Any, topics: Sequence[str]) -> None:
    """Wait until every partition has a leader; the caller bounds the time."""
    waiting = set(topics)
    while waiting:
        for topic in await admin.describe_topics():
            if all(partition["leader"] >= 0 for partition in topic["partitions"]):
                waiting.discard(topic["topic"])
        if waiting:
            await asyncio.sleep(0.05)


async def _configs(admin: Any, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
    """Every setting as it is, by topic; the embedded broker can't be asked for single ones."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
    configs = {}
    for answer in await admin.describe_configs(resources) if resources else ():
        for code, _, _, name, entries in answer.resources:
            check(code)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def _compare(spec: TopicSpec, topic: dict[str, Any], config: dict[str, str]) -> list[str]:
    partitions = topic["partitions"]
    replication = min(len(partition["replicas"]) for partition in partitions)
    return describe_differences(spec, len(partitions), replication, config)
