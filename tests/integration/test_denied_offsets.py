"""A coordinator that denies the offsets of a group for a while, as after a crash of its broker."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from aiokafka.errors import GroupLoadInProgressError

from eventfleet.roles.role import Role
from eventfleet.roles.takeover import RoleStart
from eventfleet.runtime.settings import Settings
from eventfleet.stores.kafka import offsets
from eventfleet.stores.kafka.connection import Connection
from eventfleet.stores.kafka.transactional_writer import TransactionalWriter
from eventfleet.topics.names import consumer_group
from eventfleet.workers.app import RoleFailed
from eventfleet.workers.owner import Ack, RoleFactory
from eventfleet.workers.owner_outage import OwnerTimeouts
from tests.integration.copied_topic import (
    PARTITIONS,
    assert_copied_once,
    produce,
    running,
    settings,
    source,
    stopped,
    until,
)
from tests.integration.copy_role import ROLE, Copy, Mood
from tests.simulation.in_memory_servers import InMemoryServers
from tests.simulation.recording_domain import tally

__all__ = ["settings", "source"]

DENIALS = 30


class Starting(Copy):
    """A copy that begins at the oldest record, once only."""

    start: RoleStart

    async def open(self) -> int:
        return await self.start.take_over(self.writer)


def starting(settings: Settings, source: str) -> RoleFactory:
    registry = InMemoryServers(tally).events.registry
    connection = Connection(settings.kafka_brokers)

    def make(partition: int, ack: Ack) -> Role:
        group = consumer_group(settings.group_prefix, source, ROLE)
        writer = TransactionalWriter(connection, group, source, partition)
        role = Starting(writer, f"{source}.copy", Mood())
        role.start = RoleStart(registry, source, ROLE, partition)
        return role

    return make


def deny(monkeypatch: pytest.MonkeyPatch, how: Callable[[int], Any]) -> None:
    """Let the answers about offsets be these; None: the true ones."""
    fetch, numbers = offsets._fetch, count()

    async def answer(*args: Any) -> dict[int, int]:
        said = how(next(numbers))
        if isinstance(said, Exception):
            raise said
        return await fetch(*args) if said is None else said

    monkeypatch.setattr(offsets, "_fetch", answer)


def absent(number: int) -> Any:
    return {} if number < DENIALS * PARTITIONS else None


def by_turns(number: int) -> Any:
    if number >= DENIALS * PARTITIONS:
        return None
    return {} if number % 2 else GroupLoadInProgressError()


@pytest.mark.parametrize("how", [absent, by_turns])
async def test_a_worker_goes_on_when_its_offsets_are_there_again(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch, how: Callable[[int], Any]
) -> None:
    kafka, make = settings.kafka_brokers, starting(settings, source)
    timeouts = OwnerTimeouts(doubted=60, longest_pause=0.1)
    await produce(kafka, source, 40)
    async with running(settings, source, make, timeouts) as app:
        await until(lambda: app.meter.total.emitted == 40)
    await produce(kafka, source, 40, start=40)
    deny(monkeypatch, how)
    async with running(settings, source, make, timeouts) as app:
        await until(lambda: app.meter.total.emitted == 40)
        assert stopped(app) == []
    await assert_copied_once(kafka, source)


async def test_a_worker_stops_where_its_offsets_stay_away(
    settings: Settings, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, make = settings.kafka_brokers, starting(settings, source)
    timeouts = OwnerTimeouts(doubted=0.5, longest_pause=0.1)
    await produce(kafka, source, 40)
    async with running(settings, source, make, timeouts) as app:
        await until(lambda: app.meter.total.emitted == 40)
    deny(monkeypatch, lambda number: {})
    with pytest.raises(RoleFailed, match=r"lost its offset.*make sure.*set-offset"):
        async with running(settings, source, make, timeouts) as app:
            await until(lambda: len(stopped(app)) == PARTITIONS)
