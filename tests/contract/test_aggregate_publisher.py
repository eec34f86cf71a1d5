"""What a repository with a bus publishes, over every event store and on real buses."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from pymongo import MongoClient

from eventfleet.aggregates import AggregateEventMapper, CommandEnvelope, Repository, SkipRepeated
from eventfleet.buses import DerivedEvent, DocumentEvent, MemoryBus, publisher
from eventfleet.documents import EditConflict
from eventfleet.errors import ServerUnavailable
from eventfleet.stores.mongo import open_stores
from eventfleet.topics.event import EventRecord
from tests.acceptance.fleet import ROOT
from tests.contract.bus_openings import Buses
from tests.contract.bus_openings import buses as buses
from tests.contract.document_openings import eventually
from tests.contract.published_events import Published
from tests.contract.repository_writers import OpenWriter, lose_the_next_answer, stored
from tests.contract.repository_writers import writer as writer
from tests.unit.eventually import until
from tests.unit.users import Refused, User, create_user, user_dispatcher

EXIT_CODE = 3
EXPECTED = [(1, "UserCreated"), (2, "Renamed"), (3, "Renamed"), (4, "EmailChanged")]


@pytest.fixture
def database(mongo_url: str, prefix: str) -> Iterator[str]:
    yield prefix
    with MongoClient(mongo_url) as client:
        client.drop_database(prefix)


async def work(users: Repository[User], id: str = "user123") -> None:
    """Save a user's four events in three commits, the second one of two."""
    user = await users.load_or_new(id)
    user.create("John", "john@example.com")
    await users.save(user)
    user.rename("Jack")
    user.rename("Jill")
    await users.save(user)
    user.change_email("jill@example.com")
    await users.save(user)


async def pending(users: Repository[User]) -> list[int]:
    outbox = users._stores.events.outbox
    return [event.version for event in await outbox.pending(100, to_publish=True)]


async def settled(users: Repository[User]) -> None:
    async def nothing_is_pending() -> bool:
        return not await pending(users)

    await eventually(nothing_is_pending)


def subscribed() -> tuple[MemoryBus, Published]:
    bus, published = MemoryBus(), Published()
    bus.subscribe("*", published)
    return bus, published


async def test_each_event_is_published_once_in_version_order(
    writer: OpenWriter, buses: Buses
) -> None:
    bus, published = await buses(), Published()
    bus.subscribe("*", published, "published")
    async with bus, writer(bus=bus) as one, writer(bus=bus) as other, one, other:
        saves = (work(random.choice((one, other)), f"u{number}") for number in range(10))
        await asyncio.gather(*saves)
        await until(lambda: all(len(published.events[f"u{n}"]) == 4 for n in range(10)))
        await settled(one)
    for number in range(10):
        assert published.types(f"u{number}") == EXPECTED


async def test_a_published_event_is_the_stored_one(writer: OpenWriter) -> None:
    bus, published = subscribed()
    async with bus, writer(bus=bus) as users, users:
        await work(users)
        await until(lambda: len(published.events["user123"]) == 4)
        assert published.events["user123"] == [
            DocumentEvent(
                id=event.id,
                event_type=event.type,
                aggregate_id="user123",
                aggregate_type="User",
                version=event.version,
                timestamp=event.time,
                data=event.data,
            )
            for event in await stored(users)
        ]
        assert published.events["user123"][3].data == {"email": "jill@example.com"}


async def test_the_events_of_one_save_come_together_and_in_order(writer: OpenWriter) -> None:
    batches: list[list[int]] = []

    class Noting:
        async def publish(self, events: Sequence[DocumentEvent]) -> None:
            batches.append([event.version for event in events])

    async with writer(bus=Noting()) as users, users:
        user = await users.load_or_new("user123")
        user.create("John", "john@example.com")
        for number in range(20):
            user.rename(f"John {number}")
        await users.save(user)
        await settled(users)
    assert batches == [[*range(1, 22)]]


async def test_nothing_is_published_of_a_save_that_conflicts_or_raises(writer: OpenWriter) -> None:
    bus, published = subscribed()
    async with bus, writer(bus=bus) as users, users:
        user = await users.load_or_new("user123")
        user.create("John", "john@example.com")
        await users.save(user)
        mine, theirs = await users.load("user123"), await users.load("user123")
        theirs.rename("Theirs")
        await users.save(theirs)
        mine.rename("Mine")
        mine.change_email("mine@example.com")
        with pytest.raises(EditConflict):
            await users.save(mine)
        with pytest.raises(EditConflict):
            await users.save(mine, expected_version=7)
        with pytest.raises(Refused):
            theirs.change_email("no address")
        assert await users.save(theirs) == []
        theirs.rename("The last one")
        await users.save(theirs)
        await until(lambda: len(published.events["user123"]) >= 3)
        await settled(users)
    assert [event.data.get("name") for event in published.events["user123"]] == [
        "John",
        "Theirs",
        "The last one",
    ]


async def test_a_command_whose_answer_was_lost_is_published_once(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, published = subscribed()
    async with bus, writer(bus=bus) as users, users:
        dispatcher, command = user_dispatcher(users, SkipRepeated(users)), create_user()
        lose_the_next_answer(users, monkeypatch)
        with pytest.raises(ServerUnavailable):
            await dispatcher.dispatch(command)
        await dispatcher.dispatch(command)
        user = await users.load("user123")
        user.rename("Jack")
        await users.save(user)
        await until(lambda: len(published.events["user123"]) >= 2)
    assert published.types("user123") == EXPECTED[:2]


async def test_a_bus_that_is_away_gets_all_in_order_when_it_is_back(writer: OpenWriter) -> None:
    bus, published = subscribed()

    class Unsteady:
        """A bus that is away, and once fails after the first event."""

        away, tries = True, 0

        async def publish(self, events: Sequence[DocumentEvent]) -> None:
            self.tries += 1
            if self.away or self.tries == 3:
                await bus.publish(events[:1] if not self.away else ())
                raise ServerUnavailable("the bus is away")
            await bus.publish(events)

    unsteady = Unsteady()
    async with bus, writer(bus=unsteady) as users, users:
        await work(users)
        await work(users, "user124")
        await until(lambda: unsteady.tries)
        assert await pending(users) == [1, 2, 3, 4] * 2
        unsteady.away, unsteady.tries = False, 2
        await until(lambda: sum(map(len, published.events.values())) == 8)
        await settled(users)
    assert published.types("user123") == published.types("user124") == EXPECTED


async def test_events_whose_writer_died_after_its_commit_still_go_out(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, published = subscribed()
    async with writer(bus=bus) as dead:
        with monkeypatch.context() as patch:
            patch.setattr(dead._publisher, "start", lambda: None)
            await dead.start()
        await work(dead)
    async with writer() as without_bus, without_bus:
        user = await without_bus.load("user123")
        assert user.version == 4
        assert await pending(without_bus) == [1, 2, 3, 4]
    async with bus, writer(bus=bus) as users, users:
        await until(lambda: len(published.events["user123"]) == 4)
        await settled(users)
    assert published.types("user123") == EXPECTED


async def test_events_of_a_process_that_was_killed_after_its_commit_still_go_out(
    mongo_url: str, database: str
) -> None:
    program = [sys.executable, "-m", "tests.contract.dying_writer", mongo_url, database, "user123"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    dead = await asyncio.to_thread(subprocess.run, program, env=environment, timeout=60)
    assert dead.returncode == EXIT_CODE
    bus, published = subscribed()
    opening = open_stores(mongo_url, database, ["users"], timeout=30, snapshots_kept=3)
    async with opening as stores, bus, Repository(User, stores["users"], bus=bus):
        await until(lambda: len(published.events["user123"]) == 2)
    assert published.types("user123") == EXPECTED[:2]


async def test_what_is_saved_without_a_bus_is_stored_and_never_published(
    writer: OpenWriter,
) -> None:
    bus, published = subscribed()
    async with bus, writer(bus=bus) as users, writer() as without_bus, users:
        user = await without_bus.load_or_new("user123")
        user.create("John", "john@example.com")
        await without_bus.save(user)
        user = await users.load("user123")
        user.rename("Jack")
        await users.save(user)
        await until(lambda: published.events["user123"])
        await settled(users)
        assert len(await stored(users)) == 2
    assert published.types("user123") == [(2, "Renamed")]


async def test_a_repository_without_a_bus_need_not_be_started(writer: OpenWriter) -> None:
    async with writer() as users:
        await work(users)
        assert len(await stored(users)) == 4
        assert await pending(users) == []


async def test_a_repository_with_a_bus_that_was_not_started_says_so(writer: OpenWriter) -> None:
    bus, _ = subscribed()
    async with writer(bus=bus) as users:
        user = await users.load_or_new("user123")
        user.create("John", "john@example.com")
        with pytest.raises(ValueError, match=r"repository of User has a bus.*`async with`"):
            await users.save(user)
        assert await stored(users) == []


async def test_what_is_pending_is_published_before_the_end(writer: OpenWriter) -> None:
    versions: list[int] = []

    class Noting:
        async def publish(self, events: Sequence[DocumentEvent]) -> None:
            versions.extend(event.version for event in events)

    async with writer(bus=Noting()) as users:
        async with users:
            await work(users)
        assert versions == [1, 2, 3, 4]
        user = await users.load("user123")
        user.rename("Jane")
        await users.save(user)
        assert await pending(users) == [5]
        await users.start()
        await users.stop()
        assert versions == [1, 2, 3, 4, 5]


async def test_a_bus_that_does_not_answer_delays_the_end_by_a_bounded_time(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        async def publish(self, events: Sequence[DocumentEvent]) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(publisher, "STOP_SECONDS", 0.05)
    async with asyncio.timeout(20), writer(bus=Silent()) as users:
        async with users:
            await work(users)
        assert await pending(users) == [1, 2, 3, 4]


async def test_the_lease_of_a_publisher_that_ended_is_free_at_once(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LEASE_SECONDS", 3600.0)
    bus, published = subscribed()
    async with bus, writer(bus=bus) as one, writer(bus=bus) as other:
        async with one:
            await work(one)
        async with other:
            await work(other, "user124")
            await until(lambda: len(published.events["user124"]) == 4)


async def test_first_occurrences_are_in_order_where_two_publish_at_once(
    writer: OpenWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One publisher stands still until its lease has run out and another has published."""
    monkeypatch.setattr(publisher, "LEASE_SECONDS", 0.05)
    monkeypatch.setattr(publisher, "RENEWAL_SECONDS", 0.0)
    bus, published = subscribed()
    held_up, go_on = asyncio.Event(), asyncio.Event()
    slow_types: list[tuple[int, str]] = []

    class Slow:
        async def publish(self, events: Sequence[DocumentEvent]) -> None:
            held_up.set()
            await go_on.wait()
            slow_types.extend((event.version, event.event_type) for event in events)
            await bus.publish(events)

    async with bus, writer(bus=Slow()) as slow, writer(bus=bus) as quick, slow:
        user = await slow.load_or_new("user123")
        user.create("John", "john@example.com")
        await slow.save(user)
        await held_up.wait()
        async with quick:
            user.rename("Jack")
            await quick.save(user)
            await until(lambda: len(published.events["user123"]) == 2)
            go_on.set()
            await until(lambda: slow_types)
            user.rename("Jill")
            await quick.save(user)
            await until(lambda: len(published.events["user123"]) == 3)
    assert published.types("user123") == EXPECTED[:3]
    assert slow_types[0] == EXPECTED[0]


async def test_a_mapper_may_hide_rename_and_derive_events(writer: OpenWriter) -> None:
    class UserMapper(AggregateEventMapper):
        def map_to_events(self, aggregate_type: str, event: EventRecord) -> list[DerivedEvent]:
            if event.type == "Renamed":
                return []
            if event.type == "UserCreated":
                return [DerivedEvent("Joined", "Member", {"id": event.aggregate_id})]
            changed = DerivedEvent("AddressChanged", aggregate_type, {"to": event.data["email"]})
            return [self.default_event(aggregate_type, event), changed]

    bus, published = subscribed()
    async with bus, writer(bus=bus, mapper=UserMapper()) as users, users:
        await work(users)
        await until(lambda: len(published.events["user123"]) == 3)
        await settled(users)
        events = await stored(users)
    joined, default, derived = published.events["user123"]
    assert (joined.event_type, joined.aggregate_type, joined.version) == ("Joined", "Member", 1)
    assert joined.data == {"id": "user123"}
    assert joined.id != events[0].id
    assert (default.id, default.data) == (events[3].id, {"email": "jill@example.com"})
    assert (derived.event_type, derived.data) == ("AddressChanged", {"to": "jill@example.com"})
    assert (derived.version, derived.timestamp) == (4, events[3].time)


async def test_an_aggregates_event_goes_over_the_bus_to_its_handlers(writer: OpenWriter) -> None:
    """Document 003's arrows Command, Aggregate, Event, EventBus, Event Handlers; and the quick
    start's third step: a subscriber of `UserCreated` greets the new user."""
    bus, greeted = MemoryBus(), list[str]()
    bus.subscribe("UserCreated", lambda event: greeted.append(event.aggregate_id))
    async with bus, writer(bus=bus) as users, users:
        await user_dispatcher(users).dispatch(create_user())
        change = CommandEnvelope.of("ChangeEmail", "user123", {"email": "john.doe@example.com"})
        await user_dispatcher(users).dispatch(change)
        await settled(users)
        await until(lambda: greeted)
    assert greeted == ["user123"]


async def test_the_index_of_what_is_pending_is_made_for_a_bus_alone(
    mongo_url: str, database: str
) -> None:
    def names() -> set[str]:
        with MongoClient[dict[str, object]](mongo_url) as client:
            return set(client[database]["users.events"].index_information())

    opening = open_stores(mongo_url, database, ["users"], timeout=30, snapshots_kept=3)
    async with opening as stores:
        async with Repository(User, stores["users"]):
            assert names() >= {"versions", "unplaced"}
            assert "pending" not in names()
        async with Repository(User, stores["users"], bus=MemoryBus()):
            assert "pending" in names()
