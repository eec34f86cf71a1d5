"""Opens the connections with which an operator repairs a domain's store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.roles.repair import RepairContext
from eventfleet.roles.steady_offsets import STEADY_SECONDS
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.stores.clock import SystemClock
from eventfleet.topics.names import consumer_group


@asynccontextmanager
async def open_repair_context(
    settings: Settings, domain: Domain[Any], *, requires_topics: bool = True
) -> AsyncIterator[RepairContext]:
    """Open what a repair of this domain needs; the store's indexes are created where missing."""
    async with (
        connections.log_reader(settings) as reader,
        connections.log_admin(settings) as admin,
        connections.stores(settings, {domain.name: domain}) as stores,
        connections.log_writer(settings) as producer,
    ):
        events = domain.topics.events
        group = consumer_group(settings.group_prefix, domain.name, "append")
        if requires_topics:
            await connections.require_topics(reader, connections.topics_of(settings, domain))
        has_log = await reader.partition_count(domain.topics.parked) > 0
        partitions = await reader.watermarks(events) if await admin.transactional() else ()
        backend = connections.backend(settings)
        await stores[domain.name].events.prepare()
        yield RepairContext(
            *(domain, stores[domain.name], reader, admin, SystemClock(), settings.group_prefix),
            writers={
                partition: backend.partition_writer(group, events, partition)
                for partition in partitions
            },
            steady=STEADY_SECONDS,
            producer=producer if has_log else None,
        )
