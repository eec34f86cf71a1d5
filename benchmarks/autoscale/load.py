"""The load of a rehearsal: commands of the sample's orders, at a rate that changes."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count, islice

from msgspec.structs import replace

from benchmarks.contenders.command_data import to_record
from eventfleet.cli.sample_orders import sample_orders
from eventfleet.deciders.proposed_event import propose_event
from eventfleet.domains.orders import orders
from eventfleet.model.command_rules import START
from eventfleet.stores.contracts import LogWriter
from eventfleet.topics.event import EventRecord

ORDERS_PER_SEED = 2_000
INTERVAL_SECONDS = 0.2


class Expectation:
    """What becomes of commands that each aggregate's partition keeps in order."""

    def __init__(self) -> None:
        self.accepted = 0
        self._latest: dict[str, str] = {}
        self._ids: set[str] = set()

    def add(self, command: EventRecord) -> None:
        event, allowed, *_ = propose_event(orders, command)
        latest = self._latest.get(event.aggregate_id, START)
        if event.id in self._ids or (allowed is not None and latest not in allowed):
            return
        self._latest[event.aggregate_id] = event.type
        self._ids.add(event.id)
        self.accepted += 1


class CommandLoad:
    """Produces commands, `rate` a second from each call of `set_rate` on."""

    def __init__(self, writer: LogWriter) -> None:
        self.sent, self.expectation = 0, Expectation()
        self._writer, self._commands = writer, generate_commands()
        self._rate, self._since, self._sent_before = 0, time.monotonic(), 0

    def set_rate(self, rate: int) -> None:
        self._rate, self._since, self._sent_before = rate, time.monotonic(), self.sent

    async def run(self) -> None:
        """Produce until cancelled."""
        topic = orders.topics.commands
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            due = self._sent_before + int((time.monotonic() - self._since) * self._rate)
            if batch := list(islice(self._commands, max(0, due - self.sent))):
                await self._writer.produce([to_record(topic, command) for command in batch])
                for command in batch:
                    self.expectation.add(command)
                self.sent += len(batch)


def generate_commands() -> Iterator[EventRecord]:
    """Yield the sample's commands for one seed after another, each with orders of its own."""
    for seed in count(1):
        for command, *_ in sample_orders(ORDERS_PER_SEED, seed):
            yield replace(command, aggregate_id=f"{command.aggregate_id}-of-{seed}")
