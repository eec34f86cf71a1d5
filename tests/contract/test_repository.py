"""Repository on the stores in memory and on MongoDB: writers in conflict, and lost answers."""

import asyncio

import pytest

from eventfleet.aggregates import (
    CommandEnvelope,
    Dispatcher,
    RetryOnConflict,
    SkipRepeated,
)
from eventfleet.aggregates.repository import DEFAULT_PARTITIONS
from eventfleet.stores.errors import EditConflict, NotFound, ServerUnavailable
from eventfleet.topics.partitioner import partition_of
from tests.contract.repository_writers import OpenWriter, lose_the_next_answer, stored
from tests.contract.repository_writers import writer as writer
from tests.unit.users import ChangeEmail, UserState, create_user, user_dispatcher, users


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
