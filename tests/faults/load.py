"""A steady load of orders, as events or as commands, that keeps the events it leads to."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Self

from msgspec.structs import replace

from eventfleet.cli.sample_orders import sample_orders
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.log_files.records import ReadyRecord
from eventfleet.model.command_rules import START
from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.producer import Producer
from eventfleet.topics.codec import encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.record import ProducerRecord

BATCH_EVENTS = 10
PATIENCE_SECONDS = 90.0


class EventLoad:
    """Produces the events of the sample's orders, `rate` a second, from `with` on until stopped.

    The first `skip` events are left out; a batch is given up after `patience` seconds. `sent` is
    what the log has acknowledged, in order. A batch without an acknowledgement is produced again,
    so the log may hold repeats: the fleet has to drop them.
    """

    topic = "orders.events"

    def __init__(
        self,
        brokers: str,
        rate: int,
        orders: int,
        skip: int = 0,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience = patience
        self.sent: list[EventRecord] = []
        self.repeats = 0
        self._brokers, self._rate, self._orders, self._skip = brokers, rate, orders, skip
        self._failure: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(PATIENCE_SECONDS)

    def stop(self) -> list[EventRecord]:
        """Stop; the events that were sent. AssertionError if the load has ended by itself."""
        lasted = self._thread.is_alive()
        self.__exit__()
        assert self._failure is None, self._failure
        assert lasted, f"the load ended by itself after {len(self.sent)} events"
        return self.sent

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:
            self._failure = error

    def _source(self) -> Iterator[ReadyRecord]:
        return history(self._orders)

    async def _produce(self) -> None:
        producer = Producer(Connection(self._brokers))
        due = time.monotonic()
        try:
            for batch in _batches(islice(self._source(), self._skip, None)):
                if self._enough.is_set():
                    break
                await self._acknowledged(producer, batch)
                self.sent += [ready.event for ready in batch]
                due = max(due + len(batch) / self._rate, time.monotonic() - 1)
                await asyncio.sleep(due - time.monotonic())
        finally:
            await producer.close()

    async def _acknowledged(self, producer: Producer, batch: Sequence[ReadyRecord]) -> None:
        records = [
            ProducerRecord(self.topic, ready.event.aggregate_id.encode(), ready.value)
            for ready in batch
        ]
        deadline = time.monotonic() + self._patience
        while True:
            try:
                await producer.produce(records)
                return
            except ServerUnavailable:
                if time.monotonic() > deadline:
                    raise
                self.repeats += 1
                await asyncio.sleep(0.5)


class CommandLoad(EventLoad):
    """Produces the commands that lead to such events, of orders with ids of their own."""

    topic = "orders.commands"

    def _source(self) -> Iterator[ReadyRecord]:
        for command, event in _accepted(_renamed(sample_orders(self._orders, seed=2))):
            yield ReadyRecord(event, encode(command))


def history(orders_placed: int) -> Iterator[ReadyRecord]:
    """The events that the sample's commands lead to, each with the one before it: `prev`."""
    for _, event in _accepted(ready.event for ready in sample_orders(orders_placed)):
        yield ReadyRecord(event, encode(event))


def _renamed(commands: Iterable[ReadyRecord]) -> Iterator[EventRecord]:
    for ready in commands:
        yield replace(ready.event, aggregate_id=f"commanded-{ready.event.aggregate_id}")


def _accepted(commands: Iterable[EventRecord]) -> Iterator[tuple[EventRecord, EventRecord]]:
    """The commands that the rules allow, each with its event."""
    latest: dict[str, EventRecord] = {}
    for command in commands:
        event, allowed, *_ = propose_event(orders, command)
        before = latest.get(event.aggregate_id)
        if allowed is None or (before.type if before else START) in allowed:
            event = replace(event, prev=before.id if before else "")
            latest[event.aggregate_id] = event
            yield command, event


def _batches(events: Iterator[ReadyRecord]) -> Iterator[list[ReadyRecord]]:
    while batch := list(islice(events, BATCH_EVENTS)):
        yield batch
