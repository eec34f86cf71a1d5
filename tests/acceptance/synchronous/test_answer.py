"""Provider's requests and their answers, and what the stream gets."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from eventfleet.deciders import event_publisher
from eventfleet.deciders.outcomes import Accepted, IdReused, Repeated
from eventfleet.service.event_service import EventService
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import event_id
from tests.acceptance.fleet_kinds import servers_only
from tests.acceptance.synchronous.account_fleet import (
    Purses,
    PursesOnServers,
    deposit,
    kept,
    on_topic,
    opened,
    stored,
    withdraw,
)

# Provider ->> EventService: request event


async def test_provider_requests_event(service: EventService, fleet: Purses, purse: str) -> None:
    outcome = await deposit(service, purse, command_id="c-1")
    assert isinstance(outcome, Accepted)
    assert (outcome.event_id, outcome.version) == (event_id("purses", purse, "c-1"), 1)
    with pytest.raises(InvalidRecord, match=r"data\.cents"):
        await service.send(purse, "Deposit", {"cents": "ten"})
    with pytest.raises(InvalidRecord, match="type: 'Burn' is not a command"):
        await service.send(purse, "Burn", {})
    assert len(kept(fleet, purse)) == 1


# Manager ->> MessageStream: produce event


@pytest.fixture
def no_sweep(fleet: Purses) -> Iterator[None]:
    """Without the append role nobody but Managers produces to the stream."""
    for worker in fleet.workers:
        worker.stop()
    yield
    fleet.start("append")


@pytest.mark.usefixtures("no_sweep")
async def test_manager_produces_event_to_the_stream(
    service: EventService, fleet: Purses, purse: str
) -> None:
    """The last event of each command; one that is produced later may come first."""
    for outcome in (await deposit(service, purse, 10), await withdraw(service, purse, 3, fee=1)):
        assert isinstance(outcome, Accepted)
        assert outcome.published
    produced = await on_topic(fleet, "events", purse, 2)
    assert sorted((event["version"], event["id"], event["type"]) for event in produced) == [
        (event["version"], event["_id"], event["type"]) for event in kept(fleet, purse)[::2]
    ]


async def test_all_events_of_a_command_are_placed_and_passed_on(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    await withdraw(service, purse, 3, fee=1)
    events = await stored(fleet, purse, 3)
    assert [(event["version"], event["type"]) for event in events] == [
        (1, "Deposited"),
        (2, "Withdrawn"),
        (3, "Charged"),
    ]
    assert all(event["offset"] >= 0 for event in kept(fleet, purse))


@servers_only("a Kafka that stands still")
async def test_a_stream_that_is_down_leaves_the_event_to_the_sweep(
    service: EventService, fleet: PursesOnServers, purse: str
) -> None:
    await deposit(service, purse, 10)
    fleet.stream.signal(signal.SIGSTOP)
    try:
        outcomes = [await withdraw(service, purse, 3, timeout=5)]
        await asyncio.sleep(event_publisher.MAX_UNACKNOWLEDGED_AGE.total_seconds())
        outcomes.append(await withdraw(service, purse, 3, timeout=5))
    finally:
        fleet.stream.signal(signal.SIGCONT)
    # The first is answered once it is stored; the stream doesn't keep up, so the next waits for it.
    answers = [(o.version, o.published) for o in outcomes if isinstance(o, Accepted)]
    assert answers == [(2, True), (3, False)]
    events = await stored(fleet, purse, 3)
    assert [event["version"] for event in events] == [1, 2, 3]


# EventService ->> Provider: success


async def test_event_service_answers_provider(
    service: EventService, fleet: Purses, purse: str
) -> None:
    await deposit(service, purse, 10)
    first = await withdraw(service, purse, 10, command_id="w")
    assert isinstance(first, Accepted)
    assert first.published
    repeated = Repeated(first.event_id, first.place, 2)
    assert await withdraw(service, purse, 10, command_id="w") == repeated
    async with opened(fleet) as other:
        assert await withdraw(other, purse, 10, command_id="w") == repeated
        reused = await withdraw(other, purse, 9, command_id="w")
    assert reused == IdReused("the command's id was used for another, which made Withdrawn")
    assert len(await stored(fleet, purse, 2)) == 2


# All of it


def test_all_is_as_it_should_be(fleet: Purses) -> None:
    assert fleet.audited() == ([], 0, 0)
