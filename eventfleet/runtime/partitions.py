"""The number of partitions: the setting, the topics and the stored events must agree on it.

Each aggregate has one partition, by its id and this number: with two numbers it would have two
sequencers.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eventfleet.model.domain import Domain
from eventfleet.runtime.connections import CREATE_TOPICS_HINT, topics_of
from eventfleet.runtime.settings import Settings, variable
from eventfleet.stores.contracts import LogReader, StoreRegistry
from eventfleet.stores.errors import Misconfigured


async def require_domain_topics(
    settings: Settings, domain: Domain[Any], reader: LogReader, registry: StoreRegistry
) -> None:
    """Raise Misconfigured where topics of the domain are missing, or where the setting, the topics
    and the stored events differ in the number of partitions."""
    counts = await count_topic_partitions(settings, domain, reader)
    missing = [f"topic {name} does not exist" for name, count in counts.items() if not count]
    if missing:
        raise Misconfigured("\n".join([*missing, CREATE_TOPICS_HINT]))
    registered = await registry.partition_count()
    _require_setting(settings, counts, registered)
    await _require_stored(settings, domain, registry, registered)


async def require_partition_setting(
    settings: Settings, domain: Domain[Any], reader: LogReader, registry: StoreRegistry
) -> dict[str, int]:
    """Return the partitions of each topic of the domain; topics may be missing. Misconfigured where
    the setting is another number.

    A topic has more where partitions were added to it: the stored events have the setting's number,
    so nothing is at the others.
    """
    counts = await count_topic_partitions(settings, domain, reader)
    _require_setting(settings, counts, await registry.partition_count())
    return counts


async def register_partitions(
    settings: Settings, domain: Domain[Any], registry: StoreRegistry
) -> None:
    """Register the number with the stored events.

    Misconfigured where they have another one; nor may a domain with views have had another before.
    """
    await _require_stored(settings, domain, registry, await registry.partition_count())
    count = await registry.register_partition_count(settings.partitions)
    await _require_stored(settings, domain, registry, count)


async def count_topic_partitions(
    settings: Settings, domain: Domain[Any], reader: LogReader
) -> dict[str, int]:
    """Return the partitions of each topic of the domain; 0 for one that does not exist."""
    names = [spec.name for spec in topics_of(settings, domain)]
    return {name: await reader.partition_count(name) for name in names}


def find_setting_faults(settings: Settings, counts: Mapping[str, int]) -> list[str]:
    """Return a sentence for each existing topic that has not the setting's number of partitions."""
    setting = f"{variable('partitions')} is {settings.partitions}"
    return [
        f"{setting}, but topic {name} has {count} partitions"
        for name, count in counts.items()
        if count not in (0, settings.partitions)
    ]


def find_stored_fault(settings: Settings, domain: Domain[Any], count: int | None) -> str:
    """Say why the setting is not the number that stored events were divided by; else nothing."""
    if count in (None, settings.partitions):
        return ""
    topic, number = domain.topics.events, settings.partitions
    anew = "" if domain.views else f", or with {number} once every role has reached its topic's end"
    return (
        f"{variable('partitions')} and topic {topic} have {number} partitions, but the stored "
        f"events of {domain.name} were divided by {count}. Partitions that are added give an "
        "aggregate a second sequencer: nothing was changed. Recreate the domain's topics with "
        f"{count}{anew}, and raise the epoch: eventfleet topics raise-epoch {domain.name}"
    )


def find_views_fault(domain: Domain[Any], counts: Collection[int], count: int) -> str:
    """Say that views can't be built of events that were divided by another number; else nothing.

    A build is made partition by partition, and each partition's has the whole of its aggregates.
    """
    others = ", ".join(map(str, sorted({*counts} - {count})))
    if not (domain.views and others):
        return ""
    return (
        f"{domain.name} has views, which are built partition by partition, but its stored events "
        f"were divided by {others} partitions, not by {count}: views would have wrong rows. "
        "Nothing was changed. The number of a domain with views can't be changed, and a domain "
        "whose number was changed can't have views"
    )


def _require_setting(settings: Settings, counts: Mapping[str, int], registered: int | None) -> None:
    if registered == settings.partitions:
        counts = {name: min(count, registered) for name, count in counts.items()}
    if lines := find_setting_faults(settings, counts):
        raise Misconfigured(
            "\n".join([*lines, "All processes of a domain, and all its topics, need one number"])
        )


async def _require_stored(
    settings: Settings, domain: Domain[Any], registry: StoreRegistry, count: int | None
) -> None:
    fault = find_stored_fault(settings, domain, count)
    if not fault and domain.views:
        counts = await registry.partition_counts()
        fault = find_views_fault(domain, counts, settings.partitions)
    if fault:
        raise Misconfigured(fault)
