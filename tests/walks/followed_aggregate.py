"""Print the walk of a followed aggregate's message: python -m tests.walks.followed_aggregate."""

import asyncio
import json
from typing import Any

from eventfleet.deciders.commander import Commander
from eventfleet.deciders.event_publisher import EventPublisher
from eventfleet.deciders.manager import Manager
from eventfleet.feeds.channel_commands import ChannelCommandSender, ChannelCommandSubscriber
from eventfleet.feeds.feed_hub import EventBroadcast, FeedHub
from eventfleet.feeds.feed_session import FollowedDomain
from eventfleet.service.event_service import EventService
from eventfleet.service.shares import Shares
from eventfleet.states.lru_cache import LruCache
from eventfleet.states.querier import Querier
from eventfleet.states.snapshot_saver import SnapshotSaver
from eventfleet.stores.clock import SystemClock
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.log import MemoryFollower, MemoryLog, MemoryProducer
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.topics.topic_specs import declare_topics
from eventfleet.web import LocalAccess
from eventfleet.web.feed_sockets import FeedPath, FeedSockets
from examples.chat.domain import chat
from tests.walks.walk import Walk

SETTLE_SECONDS = 0.5
"""For what is left of the first message: its record in the log, ends of tasks."""


class Client:
    """A socket of a room, with no server between."""

    def __init__(self, sockets: FeedSockets, sender: str) -> None:
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/domains/chat/lobby/socket",
            "path_params": {"domain": "chat", "id": "lobby"},
            "query_string": f"sender={sender}".encode(),
            "headers": [(b"host", b"localhost")],
        }
        self._received.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(sockets(scope, self._received.get, self._sent.put))  # type: ignore[arg-type]

    def say(self, message_id: str) -> None:
        frame = {"id": message_id, "command": "SendMessage", "data": {"content": "hi"}}
        self._received.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def frame(self, kind: str) -> None:
        """Wait for the next frame of a kind."""
        while True:
            sent = await self._sent.get()
            if f'"kind":"{kind}"' in sent.get("text", ""):
                return

    async def leave(self) -> None:
        self._received.put_nowait({"type": "websocket.disconnect"})
        await self._serving


async def take_walk() -> Walk:
    """Say something in an open room: from the frame of a socket to that of another one.

    Snapshots, which follow the answer, are not saved.
    """
    log, clock, channels = MemoryLog(), SystemClock(), MemoryChannels()
    for spec in declare_topics(chat.topics, 1, 1, -1):
        log.create(spec)
    stores = DomainStores(MemoryEvents(domain=chat.name), MemorySnapshots())
    querier = Querier(chat, stores, clock, cache=LruCache(100))
    saver = SnapshotSaver(chat, stores.snapshots, clock, limit=1_000_000)
    commander = Commander(stores.events, saver, partitions=1)
    publisher = EventPublisher(MemoryProducer(log), chat.topics.events, clock, partitions=1)
    broadcast = EventBroadcast(channels, chat.name)
    manager = Manager(chat, querier, commander, publisher, clock, announce=broadcast.announce)
    service = EventService(chat, manager, querier, clock, Uuid7Generator())
    hub = FeedHub(MemoryFollower(log), channels, chat, querier, 1)
    sender = ChannelCommandSender(channels, chat.name)
    subscriber = ChannelCommandSubscriber(channels, chat.name, service)
    followed = {chat.name: FollowedDomain(chat, querier, hub, sender)}
    shares = Shares(10, "open sockets"), Shares(10, "commands")
    sockets = FeedSockets(LocalAccess(), followed, FeedPath(), *shares)
    async with service, hub.running(), sender.running(), subscriber.running(), broadcast.running():
        ann, bob = Client(sockets, "ann"), Client(sockets, "bob")
        for client in (ann, bob):
            await client.frame("opened")
        ann.say("m1")
        await ann.frame("outcome")
        await bob.frame("event")
        await asyncio.sleep(SETTLE_SECONDS)
        walk = Walk()
        ann.say("m2")
        await walk.during(lambda: bob.frame("event"))
        for client in (ann, bob):
            await client.leave()
    return walk


if __name__ == "__main__":
    print(asyncio.run(take_walk()))
