"""The contract of the outbox, sentence by sentence, over every event store."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count, groupby
from typing import Any

import pytest
from pymongo import MongoClient

from eventfleet.stores.contracts import AssignPosition, DomainStores, EventStore, Outbox
from eventfleet.stores.errors import Duplicate, Misconfigured
from eventfleet.stores.mongo import open_stores
from eventfleet.stores.mongo.documents import unplaced_document
from eventfleet.stores.mongo.outbox import pending_fields
from tests.contract.document_openings import eventually
from tests.contract.samples import DOMAIN, KEPT, TIME, at, event, key

Documents = Any


@pytest.fixture
async def outbox(store: EventStore) -> Outbox:
    await store.outbox.prepare()
    await store.outbox.prepare()
    return store.outbox


async def pending(outbox: Outbox, limit: int = 100) -> list[str]:
    return [each.id for each in await outbox.pending(limit, to_publish=True)]


async def test_what_is_put_to_publish_is_pending_in_version_order_until_it_is_settled(
    store: EventStore, outbox: Outbox
) -> None:
    await store.put([event("a1", version) for version in (1, 2, 3)], 0, to_publish=True)
    await store.put([event("a2", 1)], 1, to_publish=True)
    await store.put([event("a1", 4)], 0, to_publish=True)
    assert await pending(outbox) == ["a1-1", "a1-2", "a1-3", "a1-4", "a2-1"]
    assert (await outbox.pending(1, to_publish=True))[0] == event("a1", 1)
    assert await outbox.pending(100, to_publish=False) == []
    await outbox.settle([key("a1", 1), key("a1", 2), key("a2", 1), key("a9", 9)])
    await outbox.settle([key("a1", 1)])
    await outbox.settle([])
    assert await pending(outbox) == ["a1-3", "a1-4"]


async def test_nothing_is_pending_that_was_not_put_to_publish(
    store: EventStore, outbox: Outbox
) -> None:
    await store.put([event("a1", 1)], 0)
    await store.put_each([(event("a1", 2), 0)])
    await store.write([event("a1", 3, at(1))])
    assert await pending(outbox) == []


async def test_a_put_that_clashes_makes_nothing_pending(store: EventStore, outbox: Outbox) -> None:
    await store.put([event("a1", 2)], 0)
    for clashing in ([event("a1", 1), event("a1", 2, id="x")], [event("a1", 2, id="y")]):
        with pytest.raises(Duplicate):
            await store.put(clashing, 0, to_publish=True)
    assert await pending(outbox) == []


async def test_the_oldest_come_first_and_none_before_the_one_below_it(
    store: EventStore, outbox: Outbox
) -> None:
    # The writer of a1's second event has a clock that is behind.
    await store.put([event("a1", 1, time=TIME + timedelta(hours=1))], 0, to_publish=True)
    await store.put([event("a1", 2, time=TIME)], 0, to_publish=True)
    await store.put([event("a0", 1, time=TIME + timedelta(hours=2))], 0, to_publish=True)
    assert await pending(outbox, 1) == ["a1-1"]
    assert await pending(outbox, 3) == ["a0-1", "a1-1", "a1-2"]


async def test_all_come_where_more_aggregates_are_pending_than_one_query_names(
    store: EventStore, outbox: Outbox
) -> None:
    for number in range(130):
        await store.put([event(f"a{number:03}", 1)], 0, to_publish=True)
    seen: list[str] = []
    while page := await outbox.pending(500, to_publish=True):
        seen += [each.id for each in page]
        await outbox.settle([each.key for each in page])
    assert seen == [f"a{number:03}-1" for number in range(130)]


async def test_append_places_what_is_pending_and_it_stays_so(
    store: EventStore, outbox: Outbox
) -> None:
    await store.put([event("a1", 1)], 0, to_publish=True)
    assert [each.id for each in await store.sweep(0, 9)] == ["a1-1"]
    await store.write([AssignPosition(event("a1", 1), at(7))])
    assert await pending(outbox) == ["a1-1"]
    await outbox.settle([key("a1", 1)])
    assert [each.position async for each in store.read("a1")] == [str(at(7))]


async def test_one_owner_has_a_lease_until_it_gives_it_up(outbox: Outbox) -> None:
    assert await outbox.hold_lease("users.publisher", "one", 60.0)
    assert await outbox.hold_lease("users.publisher", "one", 60.0)
    assert not await outbox.hold_lease("users.publisher", "two", 60.0)
    assert await outbox.hold_lease("games.publisher", "two", 60.0)
    await outbox.release_lease("users.publisher", "two")
    assert not await outbox.hold_lease("users.publisher", "two", 60.0)
    await outbox.release_lease("users.publisher", "one")
    assert await outbox.hold_lease("users.publisher", "two", 60.0)


async def test_another_owner_gets_a_lease_that_ran_out(outbox: Outbox) -> None:
    assert await outbox.hold_lease("users.publisher", "one", 0.01)
    await eventually(lambda: outbox.hold_lease("users.publisher", "two", 60.0))
    assert not await outbox.hold_lease("users.publisher", "one", 60.0)


# On MongoDB


@pytest.fixture
def documents(mongo_url: str, prefix: str) -> Iterator[Documents]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client[prefix][f"{DOMAIN}.events"]
        client.drop_database(prefix)


@pytest.fixture
async def mongo(mongo_url: str, prefix: str) -> AsyncIterator[DomainStores]:
    async with open_stores(mongo_url, prefix, [DOMAIN], timeout=10, snapshots_kept=KEPT) as opened:
        await opened[DOMAIN].events.prepare()
        yield opened[DOMAIN]


async def test_an_outbox_that_nobody_uses_costs_nothing(
    mongo: DomainStores, documents: Documents
) -> None:
    await mongo.events.put([event("a1", 1)], 0)
    assert "pending" not in documents.index_information()
    assert not {"pending", "to_publish"} & documents.find_one({}).keys()
    await mongo.events.outbox.prepare()
    assert documents.index_information()["pending"]["partialFilterExpression"] == {
        "pending": {"$gte": 0}
    }


async def test_a_settled_event_leaves_the_index(mongo: DomainStores, documents: Documents) -> None:
    await mongo.events.outbox.prepare()
    await mongo.events.put([event("a1", 1)], 0, to_publish=True)
    assert documents.find_one({})["to_publish"] is True
    await mongo.events.outbox.settle([key("a1", 1)])
    assert not {"pending", "to_publish"} & documents.find_one({}).keys()


async def test_another_index_of_that_name_is_named(
    mongo: DomainStores, documents: Documents
) -> None:
    documents.create_index("type", name="pending")
    with pytest.raises(Misconfigured, match="index 'pending' must be"):
        await mongo.events.outbox.prepare()


async def test_what_is_stored_while_the_pending_are_read_waits_for_the_next_time(
    mongo: DomainStores, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a query goes on it may show an event that was just stored, and not the one below it."""
    outbox: Any = mongo.events.outbox
    await outbox.prepare()
    await mongo.events.put([event("a1", 1)], 0, to_publish=True)
    find, queries = outbox._events.find, count(1)

    def find_while_others_store(*arguments: Any) -> Any:
        if next(queries) == 3:
            later = [event("a1", 2), event("a1", 3)]
            documents.insert_many(
                unplaced_document(each, 0) | pending_fields(each, to_publish=True) for each in later
            )
        return find(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(outbox._events, "find", find_while_others_store)
        assert await pending(outbox) == ["a1-1"]
    assert await pending(outbox) == ["a1-1", "a1-2", "a1-3"]


async def test_a_page_is_full_also_where_many_aggregates_have_much_pending(
    mongo: DomainStores,
) -> None:
    """In the order of time the aggregates take turns; a page has some of them, each from its first
    pending version on."""
    outbox = mongo.events.outbox
    await outbox.prepare()
    for version in range(1, 11):
        for aggregate in range(10):
            await mongo.events.put([event(f"a{aggregate}", version)], 0, to_publish=True)
    found = await outbox.pending(20, to_publish=True)
    assert len(found) == 20
    for _, events in groupby(found, key=lambda each: each.aggregate_id):
        versions = [each.version for each in events]
        assert versions == [*range(1, len(versions) + 1)]
