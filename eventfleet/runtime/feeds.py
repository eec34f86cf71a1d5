"""Opens the rooms of the chat domain: their queries over HTTP, and their sockets."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.types import ASGIApp

from eventfleet.domains.chat import chat
from eventfleet.feeds.channel_commands import ChannelCommandSender, ChannelCommandSubscriber
from eventfleet.feeds.event_broadcast import EventBroadcast
from eventfleet.feeds.feed_hub import FeedHub
from eventfleet.runtime import connections
from eventfleet.runtime.settings import Settings
from eventfleet.web import Access, DomainServices, feed_sockets, rooms
from eventfleet.web.operation import Operation

FOLLOWER_WAIT_SECONDS = 0.1
"""The log may let records wait for others: most events come sooner, by broadcast."""


class ChatRooms(NamedTuple):
    """The parts of an application for rooms: operations, and sockets by path."""

    operations: Sequence[Operation] = ()
    sockets: Mapping[str, ASGIApp] = {}


@asynccontextmanager
async def event_broadcast(settings: Settings) -> AsyncIterator[EventBroadcast]:
    """Opens the broadcast of the chat domain's events; it connects at the first one."""
    channels = connections.channels(settings)
    try:
        async with EventBroadcast(channels).running() as broadcast:
            yield broadcast
    finally:
        await channels.close()


@asynccontextmanager
async def chat_rooms(
    settings: Settings, services: Mapping[str, DomainServices], access: Access
) -> AsyncIterator[ChatRooms]:
    """Opens the rooms where the chat domain is among those served; no rooms where it is not."""
    served = services.get(chat.name)
    if served is None or served.domain is not chat:
        yield ChatRooms()
        return
    channels = connections.channels(settings)
    sender = ChannelCommandSender(channels)
    follower = connections.log_follower(settings, FOLLOWER_WAIT_SECONDS)
    hub = FeedHub(follower, channels, served.queries, settings.partitions)
    subscriber = ChannelCommandSubscriber(channels, served.commands)
    try:
        async with hub.running(), subscriber.running(), sender.running():
            sockets = feed_sockets.FeedSockets(access, served.queries, hub, sender)
            yield ChatRooms(rooms.OPERATIONS, {feed_sockets.PATH: sockets})
    finally:
        await channels.close()
