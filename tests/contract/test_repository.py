"""Repository on the stores in memory and on MongoDB: writers in conflict, and lost answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.aggregates import (
    CommandEnvelope,
    Dispatcher,
    Repository,
    RetryOnConflict,
    SkipRepeated,
)
from eventfleet.aggregates.repository import DEFAULT_PARTITIONS
from eventfleet.stores.contracts import DomainStores
from eventfleet.stores.errors import EditConflict, NotFound, ServerUnavailable
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.mongo import open_stores
from eventfleet.topics.event import EventRecord
from eventfleet.topics.partitioner import partition_of
from tests.unit.users import ChangeEmail, User, UserState, create_user, user_dispatcher, users

OpenWriter = Callable[..., AbstractAsyncContextManager[Repository[User]]]


@pytest.fixture(params=["memory", "mongodb"])
def writer(request: pytest.FixtureRequest, prefix: str) -> Iterator[OpenWriter]:
    """Opens repositories of users, each with a client of its own, over the same stored events."""
    if request.param == "memory":
        kept = DomainStores(MemoryEvents(DEFAULT_PARTITIONS, domain="users"), MemorySnapshots())

        @asynccontextmanager
        async def opened(**options: Any) -> AsyncIterator[Repository[User]]:
            yield Repository(User, kept, **options)

        yield opened
        return
    url = request.getfixturevalue("mongo_url")

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncIterator[Repository[User]]:
        async with open_stores(url, prefix, ["users"], timeout=30, snapshots_kept=3) as stores:
            yield Repository(User, stores["users"], **options)

    yield connected
    with MongoClient(url) as client:
        client.drop_database(prefix)


async def stored(repository: Repository[User], id: str = "user123") -> list[EventRecord]:
    return [event async for event in repository._stores.events.read(id)]


def lose_the_next_answer(repository: Repository[User], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next put is done, and its answer does not arrive."""
    events: Any = repository._stores.events
    put = events.put

    async def unanswered(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(events, "put", put)
        await put(*arguments, **options)
        raise ServerUnavailable("no answer")

    monkeypatch.setattr(events, "put", unanswered)


async def test_the_quick_start_of_users(writer: OpenWriter) -> None:
    async with writer() as repository:
        dispatcher = user_dispatcher(repository)
        with pytest.raises(NotFound):
            await dispatcher.dispatch(CommandEnvelope.of(ChangeEmail("a@b"), "user123"))
        assert await dispatcher.dispatch(create_user()) == 1
        change = CommandEnvelope.of("ChangeEmail", "user123", {"email": "john.doe@example.com"})
        assert await dispatcher.dispatch(change) == 2
    async with writer() as repository:
        user = await repository.load("user123")
        assert user.state == UserState(name="John Doe", email="john.doe@example.com")
        assert [event.type for event in await stored(repository)] == ["UserCreated", "EmailChanged"]


async def test_a_snapshot_is_loaded_with_the_events_after_it(writer: OpenWriter) -> None:
    async with writer() as repository:
        user = await repository.load_or_new("user123")
        user.create("John", "john@example.com")
        for number in range(3):
            user.rename(f"John {number}")
        await repository.save(user)
        user.rename("Jane")
        await repository.save(user)
        found = await repository._stores.snapshots.latest(["user123"], users.state_shape)
        assert found["user123"].version == 4
    async with writer() as repository:
        user = await repository.load("user123")
        assert (user.version, user.state.name) == (5, "Jane")


async def test_of_two_writers_one_meets_a_conflict_and_stores_nothing(writer: OpenWriter) -> None:
    async with writer() as first, writer() as second:
        await user_dispatcher(first).dispatch(create_user())
        loaded = [(repository, await repository.load("user123")) for repository in (first, second)]
        for _, user in loaded:
            user.rename("Jane")
            user.change_email("jane@example.com")
        saves = [repository.save(user) for repository, user in loaded]
        results = await asyncio.gather(*saves, return_exceptions=True)
        [conflict] = [result for result in results if isinstance(result, EditConflict)]
        assert (conflict.expected, conflict.present) == (1, 3)
        events = await stored(first)
        assert [event.version for event in events] == [1, 2, 3]
        assert events[1:] in results


async def test_writers_that_retry_are_all_stored_in_some_order(writer: OpenWriter) -> None:
    async with writer() as first, writer() as second:
        await user_dispatcher(first).dispatch(create_user())
        dispatchers = [user_dispatcher(each, RetryOnConflict(50)) for each in (first, second)]

        async def change(dispatcher: Dispatcher, writer: int) -> list[int]:
            emails = [f"{writer}-{number}@example.com" for number in range(5)]
            commands = [CommandEnvelope.of(ChangeEmail(email), "user123") for email in emails]
            return [await dispatcher.dispatch(command) for command in commands]

        versions = await asyncio.gather(*map(change, dispatchers, range(2)))
        assert sorted(versions[0] + versions[1]) == [*range(2, 12)]
        assert [event.version for event in await stored(first)] == [*range(1, 12)]


async def test_a_save_whose_answer_was_lost_succeeds_when_it_is_repeated(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with writer() as repository, writer() as other:
        user = await repository.load_or_new("user123")
        user.create("John", "john@example.com")
        user.rename("Jack")
        lose_the_next_answer(repository, monkeypatch)
        with pytest.raises(ServerUnavailable):
            await repository.save(user)
        later = await other.load("user123")
        later.rename("Jill")
        await other.save(later)
        found = await repository.save(user)
        assert [(event.version, event.type) for event in found] == [
            (1, "UserCreated"),
            (2, "Renamed"),
        ]
        assert (user.expected_version, user.uncommitted_changes) == (2, ())
        assert len(await stored(repository)) == 3


async def test_a_command_whose_answer_was_lost_is_done_once_when_it_is_sent_again(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with writer() as repository:
        dispatcher = user_dispatcher(repository, SkipRepeated(repository))
        command = create_user()
        lose_the_next_answer(repository, monkeypatch)
        with pytest.raises(ServerUnavailable):
            await dispatcher.dispatch(command)
        await dispatcher.dispatch(command)
        assert [event.causation_id for event in await stored(repository)] == [command.id]


async def test_events_wait_for_append_in_their_aggregates_partition(writer: OpenWriter) -> None:
    async with writer() as repository:
        await user_dispatcher(repository).dispatch(create_user())
        partition = partition_of("user123", DEFAULT_PARTITIONS)
        assert await repository._stores.events.sweep(partition, 9) == await stored(repository)
