"""RedisBus: an event bus on a Redis stream, with a consumer group for each group of subscribers."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from eventfleet.buses.bus import KeptDelivery
from eventfleet.buses.errors import BusRestarted
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import Subscriber
from eventfleet.buses.serializer import (
    CloudEventsSerializer,
    Serializer,
    decode_if_readable,
)
from eventfleet.buses.subscription import SubscriberGroup, SubscriberGroups
from eventfleet.stores.redis.errors import ResponseError, translate_errors
from eventfleet.stores.startable import Startable

BATCH_EVENTS = 100
BLOCK_MS = 500
TIMEOUT_SECONDS = 10.0
STOP_SECONDS = 5.0
CLAIM_SECONDS = 30.0
"""How long an event may be in a consumer's hands before another one takes it over."""

AGAIN = "again-"
"""Begins the name of an incarnation that had another one before it."""
SEQUENCE_BITS = 20
"""An entry's offset is its id: milliseconds, then a sequence number of so many bits."""

# KEYS: the stream, the incarnation. ARGV: the incarnation, the stream's length or "", the events.
PUBLISH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return false end
local last
for n = 3, #ARGV do
  if ARGV[2] == '' then last = redis.call('XADD', KEYS[1], '*', 'event', ARGV[n])
  else last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[n]) end
end
return last
"""


class RedisBus(Startable):
    """EventBus on the stream `channel`; the client stays open.

    `max_length` bounds the stream, roughly: older events are gone, handled or not. A group gets the
    events that are published after its first start; on a server that has lost its data, all that
    are published there. Dead letters lie in `<channel>.dead-letters`, the name of the server's
    incarnation in `<channel>.incarnation`.
    """

    def __init__(
        self,
        client: Any,
        channel: str,
        serializer: Serializer | None = None,
        *,
        max_length: int | None = None,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._client, self._channel = client, channel
        self._serializer: Serializer = serializer or CloudEventsSerializer()
        self._max_length, self._claim_ms = max_length, int(claim_seconds * 1000)
        self._dead_letters = f"{channel}.dead-letters"
        self._incarnation = f"{channel}.incarnation"
        self._groups = SubscriberGroups(self._consume)
        self._known_groups: set[str] = set()
        self._consumer = uuid4().hex

    async def start(self) -> None:
        """Connect. The error names the server's reason, or the key that is no stream."""
        with self._translating("starting"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._client.ping()
                for group in self._groups.all():
                    await self._create(group.name)
        self._groups.start()

    async def stop(self) -> None:
        await self._groups.stop(STOP_SECONDS)

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        with self._translating("publishing"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                pipeline = self._client.pipeline(transaction=False)
                for event in events:
                    self._add(pipeline, {"event": self._serializer.encode(event)})
                await pipeline.execute()

    async def incarnation(self, known: str) -> str:
        with self._translating("reading the incarnation"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                name = f"{AGAIN if known else ''}{uuid4().hex}"
                await self._client.set(self._incarnation, name, nx=True)
                return str((await self._client.get(self._incarnation)).decode())

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        length = "" if self._max_length is None else str(self._max_length)
        encoded = [self._serializer.encode(event) for event in events]
        with self._translating("publishing"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                last = await self._client.eval(
                    *(PUBLISH, 2, self._channel, self._incarnation),
                    *(incarnation, length, *encoded),
                )
        if last is None:
            raise BusRestarted(f"channel {self._channel}")
        return _offset(last)

    async def confirmed(self, incarnation: str) -> Mapping[str, int]:
        with self._translating("reading what groups have handled"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                groups = await self._groups_handled()
                present = await self._client.get(self._incarnation)
        if present is None or present.decode() != incarnation:
            raise BusRestarted(f"channel {self._channel}")
        return groups

    async def _groups_handled(self) -> dict[str, int]:
        """Return each group's offset below which it has nothing left to handle."""
        try:
            groups = await self._client.xinfo_groups(self._channel)
        except ResponseError:
            return {}  # there is no stream yet
        handled = {}
        for group in groups:
            name, handled_to = group["name"], _offset(group["last-delivered-id"])
            pending = await self._client.xpending(self._channel, name) if group["pending"] else None
            if pending and pending["pending"]:
                handled_to = _offset(pending["min"]) - 1
            handled[name.decode()] = handled_to
        return handled

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        self._groups.subscribe(pattern, subscriber, group)

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        with self._translating("reading dead letters"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await self._client.xrange(self._dead_letters, count=limit)
        return [self._kept(id, fields) for id, fields in found]

    async def redeliver(self, kept: KeptDelivery) -> None:
        with self._translating("giving an event again"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                again = {"event": kept.value, "group": kept.group}
                pipeline = self._client.pipeline(transaction=True)
                self._add(pipeline, again)
                pipeline.xdel(self._dead_letters, kept.id)
                await pipeline.execute()

    async def discard(self, kept: KeptDelivery) -> None:
        with self._translating("discarding an event"):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._client.xdel(self._dead_letters, kept.id)

    async def _consume(self, group: SubscriberGroup) -> None:
        with self._translating(f"reading for {group.name}"):
            await self._create(group.name)
            claimed_at = 0.0
            while not self._groups.is_stopping:
                now = asyncio.get_running_loop().time()
                if now - claimed_at > self._claim_ms / 2000:
                    claimed_at = now
                    await self._handle_all(group, await self._claim(group.name))
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    read = await self._client.xreadgroup(
                        group.name, self._consumer, {self._channel: ">"}, BATCH_EVENTS, BLOCK_MS
                    )
                self._groups.report_well(group)
                for _, entries in read or ():
                    await self._handle_all(group, entries)

    async def _claim(self, name: str) -> list[Any]:
        """Take over what a consumer that died has in hand."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            claimed = await self._client.xautoclaim(
                self._channel, name, self._consumer, self._claim_ms, count=BATCH_EVENTS
            )
        return [(id, fields) for id, fields in claimed[1] if fields]

    async def _give_back(self, name: str, ids: list[bytes]) -> None:
        """Let another consumer take these over at once."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await self._client.xclaim(
                self._channel, name, self._consumer, 0, ids, idle=self._claim_ms, justid=True
            )

    async def _handle_all(self, group: SubscriberGroup, entries: Sequence[Any]) -> None:
        for index, (id, fields) in enumerate(entries):
            if self._groups.is_stopping:
                await self._give_back(group.name, [id for id, _ in entries[index:]])
                return
            with self._groups.delivering():
                reason = await group.deliver_value(
                    fields.get(b"event", b""), self._serializer, _given_again_to(fields)
                )
                pipeline = self._client.pipeline(transaction=True)
                if reason:
                    kept = {**fields, "group": group.name, "reason": reason}
                    pipeline.xadd(self._dead_letters, kept)
                pipeline.xack(self._channel, group.name, id)
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await pipeline.execute()

    async def _create(self, name: str) -> None:
        """Make the group, unless it is there.

        On a server that has lost its data it begins at the first entry: what was not confirmed is
        published again there.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                incarnation = await self._client.get(self._incarnation) or b""
                is_lost = name in self._known_groups or incarnation.startswith(AGAIN.encode())
                start = "0" if is_lost else "$"
                await self._client.xgroup_create(self._channel, name, id=start, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._known_groups.add(name)

    def _add(self, pipeline: Any, fields: dict[str, Any]) -> None:
        pipeline.xadd(self._channel, fields, maxlen=self._max_length, approximate=True)

    def _kept(self, id: bytes, fields: dict[bytes, bytes]) -> KeptDelivery:
        millis = int(id.decode().partition("-")[0])
        value = fields.get(b"event", b"")
        return KeptDelivery(
            id.decode(),
            fields[b"group"].decode(),
            decode_if_readable(self._serializer, value),
            fields[b"reason"].decode(),
            datetime.fromtimestamp(millis / 1000, UTC),
            value,
        )

    def _translating(self, what: str) -> Any:
        return translate_errors(f"{what}, channel {self._channel}", TIMEOUT_SECONDS)


def _given_again_to(fields: dict[bytes, bytes]) -> str | None:
    group = fields.get(b"group")
    return None if group is None else group.decode()


def _offset(id: bytes) -> int:
    """Return an entry's id as one number."""
    millis, _, sequence = id.partition(b"-")
    return (int(millis) << SEQUENCE_BITS) + int(sequence)
