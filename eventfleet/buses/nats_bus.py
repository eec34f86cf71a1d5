"""NatsBus: an event bus on a JetStream stream, with a durable consumer for each group."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from json import JSONDecodeError
from typing import Any
from uuid import uuid4
from zlib import crc32

from nats import errors as nats
from nats.js import errors as jetstream
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from eventfleet.buses.bus import KeptDelivery
from eventfleet.buses.errors import BusRestarted, EventRefused
from eventfleet.buses.event import DocumentEvent
from eventfleet.buses.handler import Subscriber
from eventfleet.buses.serializer import (
    CloudEventsSerializer,
    Serializer,
    decode_if_readable,
)
from eventfleet.buses.subscription import SubscriberGroup, SubscriberGroups
from eventfleet.stores.driver_faults import describe, is_outage
from eventfleet.stores.errors import Misconfigured, ServerUnavailable
from eventfleet.stores.startable import Startable

DRIVER = frozenset({"nats"})
UNAVAILABLE_ERRORS = (
    jetstream.NoStreamResponseError,
    jetstream.ServiceUnavailableError,
    jetstream.ServerError,
    JSONDecodeError,
)
BATCH_EVENTS = 100
FETCH_SECONDS = 0.5
TIMEOUT_SECONDS = 10.0
STOP_SECONDS = 5.0
CLAIM_SECONDS = 30.0
"""How long an event may be in a consumer's hands before another one gets it."""
AGAIN = "again-"
"""Begins the name of an incarnation that had another one before it."""
GROUP, REASON, TIME = "eventfleet-group", "eventfleet-reason", "eventfleet-time"
DURABLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class NatsBus(Startable):
    """EventBus on the stream `stream`, which the first start makes; the client stays open.

    Events lie in the subject `<stream>.events`; dead letters in the stream `<stream>-dead-letters`.
    A group gets the events that are published after its first start; on a server that has lost its
    data, all that are published there. The stream's description names its incarnation.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        serializer: Serializer | None = None,
        *,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._client, self._stream = client, stream
        self._subject, self._dead_letters = f"{stream}.events", f"{stream}-dead-letters"
        self._serializer: Serializer = serializer or CloudEventsSerializer()
        self._claim_seconds = claim_seconds
        self._jetstream: Any = client.jetstream(timeout=TIMEOUT_SECONDS)
        self._known_groups: set[str] = set()
        self._groups = SubscriberGroups(self._consume)

    async def start(self) -> None:
        """Make the streams and consumers that are missing. The error says what is refused."""
        async with self._translating("starting", TIMEOUT_SECONDS):
            await self._make_stream(self._stream, self._subject)
            await self._make_stream(self._dead_letters, f"{self._stream}.dead-letters")
            for group in self._groups.all():
                await self._consumer(group.name)
        self._groups.start()

    async def stop(self) -> None:
        await self._groups.stop(STOP_SECONDS)

    async def publish(self, events: Sequence[DocumentEvent]) -> None:
        await self._publish(events)

    async def incarnation(self, known: str) -> str:
        async with self._translating("reading the incarnation", TIMEOUT_SECONDS):
            await self._make_stream(self._stream, self._subject)
            config = (await self._jetstream.stream_info(self._stream)).config
            name = config.description or uuid4().hex
            if known and name != known and not name.startswith(AGAIN):
                name = f"{AGAIN}{name}"
            if name != config.description:
                await self._jetstream.update_stream(replace(config, description=name))
        return str(name)

    async def publish_in(self, incarnation: str, events: Sequence[DocumentEvent]) -> int:
        await self._check_incarnation(incarnation)
        last = await self._publish(events)
        # What came into a stream that was made anew meanwhile is published again.
        await self._check_incarnation(incarnation)
        return last

    async def _publish(self, events: Sequence[DocumentEvent]) -> int:
        """Publish all, unless one is too large; return the last one's place in the stream."""
        encoded = [self._serializer.encode(event) for event in events]
        for event, value in zip(events, encoded, strict=True):
            if len(value) > self._client.max_payload:
                raise EventRefused(
                    f"NATS stream {self._stream}: {event.event_type} {event.id} has {len(value)}"
                    f" bytes, the server takes {self._client.max_payload}"
                )
        async with self._translating("publishing", TIMEOUT_SECONDS):
            acknowledged = [
                await self._jetstream.publish_async(self._subject, value) for value in encoded
            ]
            return max((each.seq for each in await asyncio.gather(*acknowledged)), default=0)

    async def confirmed(self, incarnation: str) -> Mapping[str, int]:
        async with self._translating("reading what groups have handled", TIMEOUT_SECONDS):
            consumers = await self._jetstream.consumers_info(self._stream)
        await self._check_incarnation(incarnation)
        return {each.name: each.ack_floor.stream_seq for each in consumers}

    async def _check_incarnation(self, incarnation: str) -> None:
        """Check that the stream is still the one of this incarnation. BusRestarted."""
        async with self._translating("reading the incarnation", TIMEOUT_SECONDS):
            try:
                present = (await self._jetstream.stream_info(self._stream)).config.description
            except jetstream.NotFoundError:
                await self._make_stream(self._stream, self._subject)
                present = None
        if present != incarnation:
            raise BusRestarted(f"NATS stream {self._stream}")

    def subscribe(self, pattern: str, subscriber: Subscriber, group: str | None = None) -> None:
        self._groups.subscribe(pattern, subscriber, group)

    async def dead_letters(self, limit: int = 100) -> list[KeptDelivery]:
        found: list[KeptDelivery] = []
        async with self._translating("reading dead letters", TIMEOUT_SECONDS):
            state = (await self._jetstream.stream_info(self._dead_letters)).state
            for sequence in range(state.first_seq, state.last_seq + 1):
                if len(found) == limit or not state.messages:
                    break
                try:
                    message = await self._jetstream.get_msg(self._dead_letters, sequence)
                except jetstream.NotFoundError:
                    continue
                found.append(self._kept(sequence, message))
        return found

    async def redeliver(self, kept: KeptDelivery) -> None:
        async with self._translating("giving an event again", TIMEOUT_SECONDS):
            await self._jetstream.publish(self._subject, kept.value, headers={GROUP: kept.group})
            await self._jetstream.delete_msg(self._dead_letters, int(kept.id))

    async def discard(self, kept: KeptDelivery) -> None:
        async with self._translating("discarding an event", TIMEOUT_SECONDS):
            await self._jetstream.delete_msg(self._dead_letters, int(kept.id))

    async def _consume(self, group: SubscriberGroup) -> None:
        async with self._translating(f"reading for {group.name}", TIMEOUT_SECONDS):
            await self._make_stream(self._stream, self._subject)
            consumer = await self._consumer(group.name)
        try:
            while not self._groups.is_stopping:
                async with self._translating(f"reading for {group.name}", None):
                    try:
                        messages = await consumer.fetch(BATCH_EVENTS, timeout=FETCH_SECONDS)
                    except nats.TimeoutError:
                        await self._check_consumer(consumer)
                        continue
                    self._groups.report_well(group)
                    await self._handle_all(group, messages)
        finally:
            await consumer.unsubscribe()

    async def _check_consumer(self, consumer: Any) -> None:
        """Check that the server still has a consumer: it lets fetches run out of time otherwise."""
        try:
            await consumer.consumer_info()
        except jetstream.NotFoundError:
            raise BusRestarted(f"NATS stream {self._stream}") from None

    async def _handle_all(self, group: SubscriberGroup, messages: Sequence[Any]) -> None:
        for index, message in enumerate(messages):
            if self._groups.is_stopping:
                for left in messages[index:]:
                    await left.nak()
                return
            with self._groups.delivering():
                given_again_to = (message.headers or {}).get(GROUP)
                if reason := await group.deliver_value(
                    message.data, self._serializer, given_again_to
                ):
                    now = datetime.now(UTC).isoformat()
                    await self._jetstream.publish(
                        f"{self._stream}.dead-letters",
                        message.data,
                        headers={GROUP: group.name, REASON: _one_line(reason), TIME: now},
                    )
                await message.ack_sync(TIMEOUT_SECONDS)

    async def _make_stream(self, name: str, subject: str) -> None:
        try:
            await self._jetstream.stream_info(name)
        except jetstream.NotFoundError:
            made = {"name": name, "subjects": [subject], "description": uuid4().hex}
            await self._jetstream.add_stream(**made)

    async def _consumer(self, group: str) -> Any:
        """Make the group's consumer, unless it is there, and return a subscription to it.

        In a stream that had another one before it begins at the first event: what was not confirmed
        is published again there.
        """
        name = _durable_name(group)
        description = (await self._jetstream.stream_info(self._stream)).config.description or ""
        is_lost = name in self._known_groups or description.startswith(AGAIN)
        config = ConsumerConfig(
            durable_name=name,
            deliver_policy=DeliverPolicy.ALL if is_lost else DeliverPolicy.NEW,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._claim_seconds,
            filter_subject=self._subject,
        )
        try:
            await self._jetstream.consumer_info(self._stream, name)
        except jetstream.NotFoundError:
            await self._jetstream.add_consumer(self._stream, config)
        self._known_groups.add(name)
        return await self._jetstream.pull_subscribe_bind(consumer=name, stream=self._stream)

    def _kept(self, sequence: int, message: Any) -> KeptDelivery:
        headers = message.headers or {}
        return KeptDelivery(
            str(sequence),
            headers[GROUP],
            decode_if_readable(self._serializer, message.data),
            headers[REASON],
            datetime.fromisoformat(headers[TIME]),
            message.data,
        )

    @asynccontextmanager
    async def _translating(self, what: str, seconds: float | None) -> AsyncIterator[None]:
        where = f"{what}, NATS stream {self._stream}"
        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, nats.TimeoutError):
            raise ServerUnavailable(f"{where}: NATS has not done it in time") from None
        except UNAVAILABLE_ERRORS as error:
            raise ServerUnavailable(f"{where}: JetStream does not answer ({error})") from None
        except nats.MaxPayloadError as error:
            raise EventRefused(f"{where}: {error}") from None
        except (jetstream.APIError, ValueError) as error:
            raise Misconfigured(f"{where}: {error}") from None
        except (nats.Error, OSError) as error:
            raise ServerUnavailable(f"{where}: {error or type(error).__name__}") from None
        except (Exception, asyncio.CancelledError) as error:
            if not is_outage(DRIVER, error):
                raise
            raise ServerUnavailable(f"{where}: {describe(error)}") from error


def _durable_name(group: str) -> str:
    """Return a name that JetStream takes; another group never has the same."""
    if DURABLE_NAME.match(group):
        return group
    return f"{re.sub('[^A-Za-z0-9_-]', '_', group)[:48]}-{crc32(group.encode()):08x}"


def _one_line(reason: str) -> str:
    """Return a text that a header can hold."""
    return " ".join(reason.split()).encode("ascii", "backslashreplace").decode()
