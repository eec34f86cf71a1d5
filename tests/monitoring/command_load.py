"""A steady load of commands, through HTTP and through the topics of commands."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any, NamedTuple, Self
from uuid import uuid4

import aiohttp

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord, truncate_to_milliseconds
from eventfleet.topics.record import ProducerRecord

HTTP_PER_SECOND, TOPIC_PER_SECOND = 4, 4
QUERY_EACH = 5
AGGREGATES = 15
ANSWER_SECONDS = 20.0
BATCH_SECONDS = 0.5
JOIN_SECONDS = 60.0
PLACES = ("north", "south", "nowhere")
OPEN = {"owner": "ann", "currency": "EUR", "overdraft_limit": 100_00}


class SentCommand(NamedTuple):
    """A command: its domain, aggregate, name and payload."""

    domain: str
    aggregate_id: str
    name: str
    data: dict[str, Any]


class CommandLoad:
    """Sends commands at fixed rates from a thread of its own, whatever the answers are.

    `answers` counts HTTP statuses, 0 where no answer came. Some commands are against the rules.
    """

    def __init__(self, http_url: str, kafka: str) -> None:
        self.answers: Counter[int] = Counter()
        self.produced = 0
        self._url, self._kafka = http_url, kafka
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(JOIN_SECONDS)

    def check(self) -> None:
        """AssertionError if the load has ended by itself."""
        assert self._failure is None, self._failure
        assert self._thread.is_alive(), "the load has ended by itself"

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:
            self._failure = error

    async def _send(self) -> None:
        await asyncio.gather(self._send_by_http(), self._send_by_topic())

    async def _send_by_http(self) -> None:
        commands, start = _commands("h"), time.monotonic()
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(self._url, timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as calls,
        ):
            for number in count():
                if self._over.is_set():
                    break
                command = next(commands)
                calls.create_task(self._post(session, command))
                if number % QUERY_EACH == 0:
                    calls.create_task(self._get(session, command))
                await asyncio.sleep(start + number / HTTP_PER_SECOND - time.monotonic())

    async def _post(self, session: aiohttp.ClientSession, command: SentCommand) -> None:
        path = f"/domains/{command.domain}/{command.aggregate_id}/commands/{command.name}"
        await self._note(session.post(path, json=command.data))

    async def _get(self, session: aiohttp.ClientSession, command: SentCommand) -> None:
        await self._note(session.get(f"/domains/{command.domain}/{command.aggregate_id}/state"))

    async def _note(self, call: Any) -> None:
        try:
            async with call as answer:
                self.answers[answer.status] += 1
        except (aiohttp.ClientError, TimeoutError):
            self.answers[0] += 1

    async def _send_by_topic(self) -> None:
        commands, start = _commands("t"), time.monotonic()
        producer = Producer(Connection(self._kafka))
        try:
            while not self._over.is_set():
                due = int(TOPIC_PER_SECOND * (time.monotonic() - start)) - self.produced
                batch = [_record(next(commands)) for _ in range(due)]
                try:
                    await producer.produce(batch)
                except ServerUnavailable:
                    continue
                finally:
                    self.produced += due
                await asyncio.sleep(BATCH_SECONDS)
        finally:
            await producer.close()


def _commands(prefix: str) -> Iterator[SentCommand]:
    """Commands of both domains by turns, on ever new aggregates, some of them in a wrong order."""
    chance = Random(prefix)
    for generation in count():
        for step in range(6):
            for number in range(AGGREGATES):
                key = f"{prefix}-{generation}-{number}"
                yield _parcel_command(key, step, chance)
                yield _bank_command(key, step, chance)


def _parcel_command(key: str, step: int, chance: Random) -> SentCommand:
    if step == 0:
        return SentCommand("parcels", key, "Post", {"grams": chance.randint(1, 9000)})
    if step == 5 or chance.random() < 0.05:
        return SentCommand("parcels", key, "Deliver", {})
    return SentCommand("parcels", key, "Scan", {"place": chance.choice(PLACES)})


def _bank_command(key: str, step: int, chance: Random) -> SentCommand:
    if step == 0:
        return SentCommand("bank", key, "Open", OPEN)
    name = chance.choice(("Deposit", "Deposit", "Withdraw"))
    return SentCommand("bank", key, name, {"amount": chance.randint(1, 90_00)})


def _record(command: SentCommand) -> ProducerRecord:
    value = encode(
        EventRecord(
            id=str(uuid4()),
            type=command.name,
            domain=command.domain,
            aggregate_id=command.aggregate_id,
            time=truncate_to_milliseconds(datetime.now(UTC)),
            data=command.data,
        )
    )
    return ProducerRecord(f"{command.domain}.commands", command.aggregate_id.encode(), value)
