"""Repository, of document 003's `pkg/aggregate`, on the stores in memory."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from eventfleet import DeclarationError, Domain, Emits, InvalidRecord
from eventfleet.aggregates import (
    Aggregate,
    AggregateFactory,
    CommandEnvelope,
    NotRegistered,
    Repository,
    RetryOnConflict,
    SkipRepeated,
)
from eventfleet.aggregates.repository import DEFAULT_PARTITIONS
from eventfleet.deciders.outcomes import Accepted, Repeated
from eventfleet.stores.contracts import DomainStores, StoreRegistry
from eventfleet.stores.errors import (
    Duplicate,
    EditConflict,
    Misconfigured,
    NotFound,
    ServerUnavailable,
)
from eventfleet.stores.memory.events import MemoryEvents
from eventfleet.stores.memory.snapshots import MemorySnapshots
from eventfleet.stores.retry import CONFLICT
from eventfleet.topics.event import EventRecord, event_id
from eventfleet.topics.partitioner import partition_of
from tests.unit import sync_domain
from tests.unit.marker_fixture import Failing
from tests.unit.sync_domain import Counted, SyncFixture, TakeOut, Till
from tests.unit.users import (
    ChangeEmail,
    EmailChanged,
    Refused,
    User,
    UserCreated,
    UserState,
    create_user,
    user_dispatcher,
    users,
)


class Store(Counted):
    """An event store whose calls are counted, and may fail before or after they are done."""

    @property
    def registry(self) -> StoreRegistry:
        return self._inner.registry


class Kept:
    """The stores of users in memory."""

    def __init__(self) -> None:
        self.memory, self.shots = MemoryEvents(domain="users"), MemorySnapshots()
        self.events, self.snapshots = Store(self.memory), Failing(self.shots)
        self.stores = DomainStores(self.events, self.snapshots)  # type: ignore[arg-type]
        self.repository = Repository(User, self.stores)

    async def stored(self, id: str = "user123") -> list[EventRecord]:
        return [event async for event in self.memory.read(id)]

    async def created(self, id: str = "user123") -> User:
        user = await self.repository.load_or_new(id)
        user.create("John Doe", "john@example.com")
        await self.repository.save(user)
        return user


def summary(events: Iterable[EventRecord]) -> list[tuple[int, str]]:
    return [(event.version, event.type) for event in events]


# Loading


async def test_an_absent_aggregate_is_not_found() -> None:
    with pytest.raises(NotFound, match="users 'user123' does not exist") as caught:
        await Kept().repository.load("user123")
    assert (caught.value.kind, caught.value.id) == ("users", "user123")


async def test_an_absent_aggregate_is_new_where_that_is_wanted() -> None:
    user = await Kept().repository.load_or_new("user123")
    assert (user.id, user.version, user.state) == ("user123", 0, UserState())


async def test_a_saved_aggregate_is_loaded_as_it_was() -> None:
    kept = Kept()
    user = await kept.created()
    user.change_email("doe@example.com")
    await kept.repository.save(user)
    for loaded in (
        await kept.repository.load("user123"),
        await kept.repository.load_or_new("user123"),
    ):
        assert (loaded.version, loaded.expected_version, loaded.uncommitted_changes) == (2, 2, ())
        assert loaded.state == UserState(name="John Doe", email="doe@example.com")


async def test_an_aggregate_is_loaded_from_its_snapshot_and_the_events_after_it() -> None:
    kept = Kept()
    user = await kept.created()
    for number in range(4):
        user.rename(f"John {number}")
        await kept.repository.save(user)
    [snapshot] = (await kept.shots.latest(["user123"], users.state_shape)).values()
    assert snapshot.version == 3

    read_after: list[int] = []

    class Noting(MemoryEvents):
        def read(self, aggregate_id: str, after: int = 0, *more: Any, **named: Any) -> Any:
            read_after.append(after)
            return super().read(aggregate_id, after, *more, **named)

    noting = Noting(domain="users")
    noting.__dict__ |= kept.memory.__dict__
    loaded = await Repository(User, DomainStores(noting, kept.shots)).load("user123")
    assert read_after == [3]
    assert (loaded.version, loaded.state.name) == (5, "John 3")


async def test_the_factory_makes_the_aggregates_that_are_loaded() -> None:
    class Named(User):
        def __init__(self, id: str, note: str) -> None:
            super().__init__(id)
            self.note = note

    kept, factory = Kept(), AggregateFactory()
    await kept.created()
    named = Repository(Named, kept.stores, factory=factory)
    with pytest.raises(NotRegistered, match="aggregate 'Named'"):
        await named.load("user123")
    factory.register(Named, lambda id: Named(id, "of the factory"))
    loaded = await named.load("user123")
    assert (loaded.note, loaded.state.name, loaded.version) == ("of the factory", "John Doe", 1)


# Saving


async def test_the_uncommitted_changes_are_stored_with_the_next_versions() -> None:
    kept = Kept()
    user = await kept.created()
    user.change_email("doe@example.com")
    user.rename("Jane Doe")
    stored = await kept.repository.save(user)
    assert summary(stored) == [(2, "EmailChanged"), (3, "Renamed")]
    assert await kept.stored() == [(await kept.stored())[0], *stored]
    assert (user.version, user.expected_version, user.uncommitted_changes) == (3, 3, ())
    user.rename("Jane")
    assert summary(await kept.repository.save(user)) == [(4, "Renamed")]


async def test_without_changes_nothing_is_stored() -> None:
    kept = Kept()
    user = await kept.created()
    assert await kept.repository.save(user) == []
    assert len(await kept.stored()) == 1


async def test_another_writers_version_is_a_conflict_that_stores_nothing() -> None:
    kept = Kept()
    await kept.created()
    mine, theirs = [await kept.repository.load("user123") for _ in range(2)]
    theirs.rename("Jane")
    theirs.change_email("jane@example.com")
    await kept.repository.save(theirs)
    mine.rename("Jack")
    mine.change_email("jack@example.com")
    with pytest.raises(EditConflict) as caught:
        await kept.repository.save(mine)
    error = caught.value
    assert (error.kind, error.id) == ("users", "user123")
    assert (error.expected, error.present) == (1, 3)
    assert str(error) == (
        "users 'user123' is at version 3, not at 1: load it again and repeat the change"
    )
    kinds = ["UserCreated", "Renamed", "EmailChanged"]
    assert summary(await kept.stored()) == [*enumerate(kinds, 1)]
    assert (mine.expected_version, len(mine.uncommitted_changes)) == (1, 2)


async def test_two_that_create_one_aggregate_conflict() -> None:
    kept = Kept()
    first, second = [await kept.repository.load_or_new("user123") for _ in range(2)]
    for user in first, second:
        user.create("John", "john@example.com")
    await kept.repository.save(first)
    with pytest.raises(EditConflict) as caught:
        await kept.repository.save(second)
    assert (caught.value.expected, caught.value.present) == (0, 1)


async def test_an_expected_version_must_be_the_one_that_was_loaded() -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    with pytest.raises(EditConflict) as caught:
        await kept.repository.save(user, expected_version=0)
    assert (caught.value.expected, caught.value.present) == (0, 1)
    assert len(await kept.stored()) == 1
    assert summary(await kept.repository.save(user, expected_version=1)) == [(2, "Renamed")]


async def test_a_save_that_did_not_reach_the_store_may_be_repeated() -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    kept.events.before["put"] = 1
    with pytest.raises(ServerUnavailable):
        await kept.repository.save(user)
    assert summary(await kept.repository.save(user)) == [(2, "Renamed")]
    assert user.expected_version == 2


@pytest.mark.parametrize("others", [0, 1])
async def test_a_save_whose_answer_was_lost_is_recognised_by_its_events_ids(others: int) -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    user.change_email("jane@example.com")
    kept.events.after["put"] = 1
    with pytest.raises(ServerUnavailable):
        await kept.repository.save(user)
    for _ in range(others):
        other = await kept.repository.load("user123")
        other.rename("Jack")
        await kept.repository.save(other)
    before = await kept.stored()
    stored = await kept.repository.save(user)
    assert summary(stored) == [(2, "Renamed"), (3, "EmailChanged")]
    assert (user.expected_version, user.uncommitted_changes) == (3, ())
    assert await kept.stored() == before


async def test_no_event_is_raised_while_a_save_is_unanswered() -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    kept.events.after["put"] = 1
    with pytest.raises(ServerUnavailable):
        await kept.repository.save(user)
    with pytest.raises(ValueError, match=r"users 'user123' may have been saved, .*: save it again"):
        user.change_email("jane@example.com")
    await kept.repository.save(user)
    user.change_email("jane@example.com")
    await kept.repository.save(user)
    assert summary(await kept.stored()) == [(1, "UserCreated"), (2, "Renamed"), (3, "EmailChanged")]


async def test_a_conflict_is_an_answer() -> None:
    kept = Kept()
    await kept.created()
    mine, theirs = [await kept.repository.load("user123") for _ in range(2)]
    for user in theirs, mine:
        user.rename("Jane")
    await kept.repository.save(theirs)
    with pytest.raises(EditConflict):
        await kept.repository.save(mine)
    mine.rename("Jack")
    assert len(mine.uncommitted_changes) == 2


async def test_a_put_that_clashes_with_itself_is_stored() -> None:
    kept = Kept()

    class Twice(Store):
        async def put(self, events: Any, partition: int, **options: Any) -> None:
            await kept.memory.put(events, partition, **options)
            await kept.memory.put(events, partition, **options)

    stores = DomainStores(Twice(kept.memory), kept.snapshots)  # type: ignore[arg-type]
    repository = Repository(User, stores)
    user = await repository.load_or_new("user123")
    user.create("John", "john@example.com")
    assert summary(await repository.save(user)) == [(1, "UserCreated")]


class Clashing(Store):
    """A store where another writer's event takes a version, and can't be read so many times."""

    clashes = 0

    async def put(self, events: Any, partition: int, **options: Any) -> None:
        if self.clashes:
            self.clashes -= 1
            raise Duplicate(0, "users/user123", events[0].version, "version")
        await self._inner.put(events, partition, **options)


class Waiting:
    """A clock that notes the pauses, and takes none."""

    def __init__(self, clock: Any) -> None:
        self._clock, self.pauses = clock, list[float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.mark.parametrize("clashes", [2, CONFLICT.attempts])
async def test_a_clash_that_can_not_be_read_is_tried_again_within_bounds(clashes: int) -> None:
    kept, clock = Kept(), Waiting(sync_domain.SystemClock())
    store = Clashing(kept.memory)
    store.clashes = clashes
    stores = DomainStores(store, kept.snapshots)  # type: ignore[arg-type]
    repository = Repository(User, stores, clock=clock)  # type: ignore[arg-type]
    user = await repository.load_or_new("user123")
    user.create("John", "john@example.com")
    if clashes < CONFLICT.attempts:
        await repository.save(user)
        assert user.expected_version == 1
    else:
        with pytest.raises(ServerUnavailable, match="version 1 is taken by an event that can't"):
            await repository.save(user)
        assert await kept.stored() == []
    assert len(clock.pauses) == clashes


async def test_an_event_that_no_store_can_keep_is_refused_and_nothing_is_stored() -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    user.rename("x" * 1_000_000)
    with pytest.raises(InvalidRecord, match="bytes as an event, more than 950000"):
        await kept.repository.save(user)
    assert len(await kept.stored()) == 1


@pytest.mark.parametrize("id", ["", "a\0b", "x" * 256])
async def test_an_id_that_no_store_can_keep_is_refused(id: str) -> None:
    kept = Kept()
    user = User(id)
    user.create("John", "john@example.com")
    with pytest.raises(InvalidRecord, match=r"^subject: "):
        await kept.repository.save(user)
    assert await kept.memory.count() == 0


# Snapshots


async def test_snapshots_are_saved_by_the_domains_rule() -> None:
    kept = Kept()
    user = await kept.created()
    taken = []
    for number in range(6):
        user.rename(f"John {number}")
        await kept.repository.save(user)
        found = await kept.shots.latest(["user123"], users.state_shape)
        taken.append(found["user123"].version if found else 0)
    assert taken == [0, 3, 3, 3, 6, 6]


async def test_a_snapshot_that_fails_is_logged_and_comes_with_a_later_save(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept()
    user = await kept.created()
    user.rename("Jane")
    user.rename("Jill")
    kept.snapshots.before["save"] = 1
    await kept.repository.save(user)
    assert "users 'user123' version 3: no snapshot was saved" in caplog.text
    user.rename("Joan")
    await kept.repository.save(user)
    [snapshot] = (await kept.shots.latest(["user123"], users.state_shape)).values()
    assert snapshot.version == 4


async def test_a_state_that_is_too_large_for_a_snapshot_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = Kept()
    user = await kept.created()
    user.change_email("@" * 900_000)
    user.rename("x" * 900_000)
    with caplog.at_level(logging.WARNING):
        await kept.repository.save(user)
    assert "users 'user123' version 3: no store can keep a snapshot of its state" in caplog.text
    assert await kept.shots.count() == 0


# Commands


async def test_a_commands_events_name_it_as_their_cause_and_carry_its_metadata() -> None:
    kept = Kept()
    dispatcher = user_dispatcher(kept.repository)
    metadata = {"actor": "ann", "traceparent": "00-1-2-01", "if_match": 1, "tab": 7}
    await dispatcher.dispatch(create_user(id="user123"))
    await dispatcher.dispatch(
        CommandEnvelope.of(ChangeEmail("a@b"), "user123", id="c2", metadata=metadata)
    )
    first, second = await kept.stored()
    assert first.actor is None
    assert first.correlation_id == first.causation_id
    assert (second.correlation_id, second.causation_id) == ("c2", "c2")
    assert (second.actor, second.traceparent) == ("ann", "00-1-2-01")
    assert second.id == event_id("users", "user123", "c2")


async def test_a_command_may_say_what_it_belongs_to() -> None:
    kept = Kept()
    command = create_user()
    metadata = {"correlation_id": "order-9", "causation_id": "event-7"}
    await user_dispatcher(kept.repository).dispatch(replace(command, metadata=metadata))
    [event] = await kept.stored()
    assert (event.correlation_id, event.causation_id) == ("order-9", "event-7")


async def test_metadata_that_an_event_can_not_carry_names_the_field() -> None:
    kept = Kept()
    command = replace(create_user(), metadata={"actor": 7})
    with pytest.raises(InvalidRecord, match=r"^actor: "):
        await user_dispatcher(kept.repository).dispatch(command)
    assert await kept.stored() == []


async def test_a_command_may_name_the_version_that_it_was_decided_on() -> None:
    kept = Kept()
    dispatcher = user_dispatcher(kept.repository, RetryOnConflict())
    await dispatcher.dispatch(create_user())
    command = CommandEnvelope.of(ChangeEmail("a@b"), "user123", metadata={"if_match": 7})
    with pytest.raises(EditConflict) as caught:
        await dispatcher.dispatch(command)
    assert (caught.value.expected, caught.value.present) == (7, 1)
    assert await dispatcher.dispatch(replace(command, metadata={"if_match": 1})) == 2


async def test_commands_that_conflict_are_decided_again_until_each_is_stored() -> None:
    kept = Kept()
    await kept.created()
    kept.memory._yield_point = lambda: asyncio.sleep(0)
    dispatcher = user_dispatcher(kept.repository, RetryOnConflict(20))
    commands = [CommandEnvelope.of(ChangeEmail(f"{n}@example.com"), "user123") for n in range(5)]
    versions = await asyncio.gather(*map(dispatcher.dispatch, commands))
    assert sorted(versions) == [2, 3, 4, 5, 6]
    assert [name for name, _ in kept.events.calls].count("put") > 6
    stored = await kept.stored()
    assert [event.version for event in stored] == [1, 2, 3, 4, 5, 6]
    assert {event.causation_id for event in stored[1:]} == {command.id for command in commands}


async def test_a_rule_that_forbids_a_command_reaches_the_caller_and_stores_nothing() -> None:
    kept = Kept()
    dispatcher = user_dispatcher(kept.repository, RetryOnConflict())
    with pytest.raises(NotFound):
        await dispatcher.dispatch(CommandEnvelope.of(ChangeEmail("a@b"), "user123"))
    await dispatcher.dispatch(create_user())
    with pytest.raises(Refused, match="no address"):
        await dispatcher.dispatch(CommandEnvelope.of(ChangeEmail("nowhere"), "user123"))
    assert summary(await kept.stored()) == [(1, "UserCreated")]


async def test_a_command_that_is_sent_again_after_a_lost_answer_is_done_once() -> None:
    kept = Kept()
    dispatcher = user_dispatcher(kept.repository, SkipRepeated(kept.repository))
    command = create_user()
    kept.events.after["put"] = 1
    with pytest.raises(ServerUnavailable):
        await dispatcher.dispatch(command)
    assert await dispatcher.dispatch(command) is None
    assert summary(await kept.stored()) == [(1, "UserCreated")]
    assert [e.id for e in await kept.repository.find_events(command)] == [
        event_id("users", "user123", command.id)
    ]


async def test_a_repeated_command_that_is_decided_again_is_recognised_when_it_is_saved() -> None:
    kept = Kept()
    command = CommandEnvelope.of(ChangeEmail("a@b"), "user123")
    dispatcher = user_dispatcher(kept.repository)
    await kept.created()
    await dispatcher.dispatch(command)
    await dispatcher.dispatch(CommandEnvelope.of(ChangeEmail("c@d"), "user123"))
    user = await kept.repository.load("user123")
    user.change_email("a@b")
    assert summary(await kept.repository.save(user, command=command)) == [(2, "EmailChanged")]
    assert (user.version, user.state.email, user.uncommitted_changes) == (3, "c@d", ())
    assert len(await kept.stored()) == 3


async def test_one_command_that_is_handled_twice_at_once_is_stored_once() -> None:
    kept = Kept()
    command, saved = create_user(), []
    for _ in range(2):
        user = await kept.repository.load_or_new("user123")
        user.create("John Doe", "john@example.com")
        saved.append(user)
    first = await kept.repository.save(saved[0], command=command)
    assert await kept.repository.save(saved[1], command=command) == first
    assert (saved[1].version, saved[1].uncommitted_changes) == (1, ())


@pytest.mark.parametrize("skips", [True, False])
async def test_the_id_of_another_command_is_refused(skips: bool) -> None:
    kept = Kept()
    middleware = [SkipRepeated(kept.repository)] if skips else []
    dispatcher = user_dispatcher(kept.repository, *middleware)
    await dispatcher.dispatch(create_user(id="user123"))
    [event] = await kept.stored()
    other = CommandEnvelope.of(ChangeEmail("a@b"), "user123", id=event.causation_id)
    with pytest.raises(InvalidRecord, match="id: was used for another command, which made UserC"):
        await dispatcher.dispatch(other)
    assert len(await kept.stored()) == 1


async def test_a_command_is_saved_once_for_an_aggregate() -> None:
    kept = Kept()
    user, command = await kept.created(), CommandEnvelope.of(ChangeEmail("a@b"), "user123")
    user.change_email("a@b")
    await kept.repository.save(user, command=command)
    user.rename("Jane")
    with pytest.raises(ValueError, match="raise all its events first, and save them together"):
        await kept.repository.save(user, command=command)


# Under the fleet


class TillAggregate(Aggregate[Till]):
    domain = sync_domain.till

    def take_out(self, cents: int) -> None:
        self.raise_event(sync_domain.Taken(cents=cents))
        self.raise_event(sync_domain.Charged(cents=sync_domain.FEE))


async def test_events_are_stored_as_the_manager_of_a_synchronous_domain_stores_them() -> None:
    async with SyncFixture().open() as fleet, SyncFixture().open() as other:
        for each in fleet, other:
            assert isinstance(await each.send("PutIn", "c1", cents=9), Accepted)
        await fleet.send("TakeOut", "c2", cents=5)
        stores = DomainStores(other.events, other.shots)
        repository = Repository(TillAggregate, stores, partitions=1)
        till = await repository.load("a")
        till.take_out(5)
        command = CommandEnvelope.of(TakeOut(cents=5), "a", id="c2")
        await repository.save(till, command=command)
        by_manager = [replace(e, time=sync_domain.NOW) async for e in fleet.events.read("a")]
        by_repository = [replace(e, time=sync_domain.NOW) async for e in other.events.read("a")]
        assert by_repository == by_manager
        assert await other.events.sweep(0, 10) == [e async for e in other.events.read("a")]
        # The Manager goes on from there, and knows the command.
        assert isinstance(await other.send("TakeOut", "c2", cents=5), Repeated)
        assert isinstance(accepted := await other.send("PutIn", "c3", cents=1), Accepted)
        assert accepted.version == 4
        assert len(await repository.find_events(command)) == 2


async def test_events_are_unplaced_in_the_partition_of_their_aggregate() -> None:
    kept = Kept()
    ids = [f"user{number}" for number in range(20)]
    for id in ids:
        await kept.created(id)
    found = {
        event.aggregate_id: partition
        for partition in range(DEFAULT_PARTITIONS)
        for event in await kept.memory.sweep(partition, 100)
    }
    assert found == {id: partition_of(id, DEFAULT_PARTITIONS) for id in ids}
    assert len(set(found.values())) > 1
    assert await kept.memory.registry.partition_count() == DEFAULT_PARTITIONS


async def test_the_registered_number_of_partitions_is_taken() -> None:
    kept = Kept()
    await kept.memory.registry.register_partition_count(7)
    await kept.created()
    assert len(await kept.memory.sweep(partition_of("user123", 7), 9)) == 1


async def test_another_number_of_partitions_than_the_registered_one_is_refused() -> None:
    kept = Kept()
    await kept.memory.registry.register_partition_count(7)
    repository = Repository(User, kept.stores, partitions=3)
    with pytest.raises(Misconfigured, match=r"has partitions=3, .* were divided by 7"):
        await repository.prepare()
    with pytest.raises(ValueError, match="partitions=0: the number must be at least 1"):
        Repository(User, kept.stores, partitions=0)


async def test_the_stores_are_prepared_once_at_the_first_use() -> None:
    kept = Kept()
    await asyncio.gather(*(kept.repository.load_or_new("user123") for _ in range(3)))
    await kept.created()
    assert [name for name, _ in kept.events.calls].count("prepare") == 1


def test_an_asynchronous_domains_events_are_appends_to_store() -> None:
    domain = Domain(
        "marked",
        state=UserState,
        evolve=lambda user, event: user,
        events=[UserCreated, EmailChanged],
        commands=[Emits("Create", UserCreated)],
    )

    class Marked(Aggregate[UserState]):
        pass

    Marked.domain = domain
    with pytest.raises(DeclarationError, match="domain marked is asynchronous, only its append"):
        Repository(Marked, Kept().stores)
