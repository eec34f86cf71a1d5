"""Opens the feeds of the domains whose aggregates are followed over sockets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from eventfleet.feeds.channel_commands import ChannelCommandSender, ChannelCommandSubscriber
from eventfleet.feeds.event_feed import EventFeed
from eventfleet.feeds.feed_hub import FeedHub
from eventfleet.feeds.feed_session import FollowedDomain
from eventfleet.model.domain import Domain
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.states.querier import Querier
from eventfleet.stores.contracts import Channels, EventStore
from eventfleet.web import DomainServices

FOLLOWER_WAIT_SECONDS = 0.1
"""The log may let records wait for others: most events come sooner, by broadcast."""


@asynccontextmanager
async def open_channels(settings: Settings) -> AsyncIterator[Channels]:
    """Opens the channels of this process; they connect at the first call."""
    channels = connections.backend(settings).channels()
    try:
        yield channels
    finally:
        await channels.close()


def event_feed(
    settings: Settings, domain: Domain[Any], queries: Querier[Any], events: EventStore
) -> EventFeed:
    """Make the feed of a domain's events; its servers are asked once it has a client."""
    follower = connections.backend(settings).follower(FOLLOWER_WAIT_SECONDS)
    registry, partitions = events.registry, settings.partitions
    topic = domain.topics.stored
    return EventFeed(domain.name, topic, queries, events, registry, follower, partitions)


@asynccontextmanager
async def followed_domains(
    settings: Settings, services: Mapping[str, DomainServices], channels: Channels
) -> AsyncIterator[dict[str, FollowedDomain]]:
    """Opens the feeds of those domains among the served ones that are followed, by name."""
    async with AsyncExitStack() as stack:
        followed = {}
        for name, served in services.items():
            if served.domain.followed:
                follower = connections.backend(settings).follower(FOLLOWER_WAIT_SECONDS)
                partitions = settings.partitions
                hub = FeedHub(follower, channels, served.domain, served.queries, partitions)
                subscriber = ChannelCommandSubscriber(channels, name, served.commands)
                sender = ChannelCommandSender(channels, name)
                for part in (hub, subscriber, sender):
                    await stack.enter_async_context(part.running())
                followed[name] = FollowedDomain(served.domain, served.queries, hub, sender)
        yield followed
