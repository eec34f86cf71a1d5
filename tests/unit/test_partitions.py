"""The number of partitions: setting, topics and stored events agree, or nothing starts."""

from dataclasses import replace

import pytest

from eventfleet.domains.orders import orders
from eventfleet.runtime.partitions import (
    register_partitions,
    require_domain_topics,
    require_partition_setting,
)
from eventfleet.runtime.settings import Settings
from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.memory.log import MemoryLog, MemoryReader
from eventfleet.stores.memory.registry import MemoryRegistry
from eventfleet.topics.names import Topics
from eventfleet.topics.topic_specs import declare_topics

FOUR, SIX = Settings(partitions=4), Settings(partitions=6)


def reader(partitions: int) -> MemoryReader:
    """Reads a log with the domain's topics."""
    log = MemoryLog()
    for spec in declare_topics(Topics.of("orders", ""), partitions, 1, -1):
        log.create(spec)
    return MemoryReader(log)


async def test_a_service_starts_with_the_number_of_its_topics() -> None:
    await require_domain_topics(FOUR, orders, reader(4), MemoryRegistry())
    await require_partition_setting(FOUR, orders, reader(4), MemoryRegistry())


async def test_another_number_than_the_topics_is_refused_with_setting_topic_and_both() -> None:
    refusal = "EVENTFLEET_PARTITIONS is 4, but topic orders.events has 6 partitions"
    with pytest.raises(Misconfigured, match=refusal):
        await require_domain_topics(FOUR, orders, reader(6), MemoryRegistry())
    with pytest.raises(Misconfigured, match=refusal):
        await require_partition_setting(FOUR, orders, reader(6), MemoryRegistry())


async def test_missing_topics_are_named() -> None:
    empty = MemoryReader(MemoryLog())
    with pytest.raises(Misconfigured, match=r"topic orders\.commands does not exist"):
        await require_domain_topics(FOUR, orders, empty, MemoryRegistry())
    await require_partition_setting(FOUR, orders, empty, MemoryRegistry())


async def test_partitions_that_were_added_to_topics_do_not_keep_a_domain_from_starting() -> None:
    registry = MemoryRegistry()
    await register_partitions(FOUR, orders, registry)
    await require_domain_topics(FOUR, orders, reader(6), registry)
    counts = await require_partition_setting(FOUR, orders, reader(6), registry)
    assert set(counts.values()) == {6}


async def test_partitions_that_were_added_are_refused_until_the_epoch_is_raised() -> None:
    registry = MemoryRegistry()
    await register_partitions(FOUR, orders, registry)
    refusal = "orders.events have 6 partitions, but the stored events of orders were divided by 4"
    with pytest.raises(Misconfigured, match=f"{refusal}.*topics with 4, and raise the epoch"):
        await require_domain_topics(SIX, orders, reader(6), registry)
    without_views = replace(orders, views=[])
    with pytest.raises(Misconfigured, match=f"{refusal}.*topics with 4, or with 6 once"):
        await register_partitions(SIX, without_views, registry)
    await registry.raise_epoch()
    await register_partitions(SIX, without_views, registry)
    await require_domain_topics(SIX, without_views, reader(6), registry)


async def test_a_domain_with_views_keeps_its_number_and_one_that_changed_it_gets_none() -> None:
    registry, without_views = MemoryRegistry(), replace(orders, views=[])
    await register_partitions(FOUR, orders, registry)
    await registry.raise_epoch()
    refusal = "orders has views, .* divided by 4 partitions, not by 6: .* Nothing was changed"
    with pytest.raises(Misconfigured, match=refusal):
        await register_partitions(SIX, orders, registry)
    assert await registry.partition_counts() == {4}
    await register_partitions(SIX, without_views, registry)
    with pytest.raises(Misconfigured, match=refusal):
        await require_domain_topics(SIX, orders, reader(6), registry)
    await registry.raise_epoch()
    with pytest.raises(Misconfigured, match="divided by 6 partitions, not by 4"):
        await register_partitions(FOUR, orders, registry)
