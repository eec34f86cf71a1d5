"""The event mapper: default events, names of one's own, and derived events."""

from datetime import UTC, datetime
from uuid import UUID

from eventfleet.aggregates import AggregateEventMapper
from eventfleet.aggregates.mapper import published_aggregate_events
from eventfleet.buses import DerivedEvent
from eventfleet.documents import Change, ChangeOperation, Diff, EventMapper, EventTypes
from eventfleet.documents.mapper import published_events
from eventfleet.topics.event import EventRecord

TIME = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = {"email": "j@example.com"}


def change(operation: ChangeOperation = ChangeOperation.UPDATE, **diff: object) -> Change:
    return Change(
        id="0190",
        document_id="u1",
        client_id="web",
        operation=operation,
        version=3,
        timestamp=TIME,
        diff=Diff(version=3, has_changes=True, **diff),  # type: ignore[arg-type]
    )


class UserMapper(EventMapper):
    """Derives an event of its own from a changed address."""

    def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
        events = super().map_to_events(collection, id, diff)
        if collection == "users" and "email" in diff.merge_patch:
            changed = {"new_email": diff.merge_patch["email"]}
            events += [DerivedEvent("UserEmailChanged", "User", changed)] * 2
        return events


def test_default_events_are_named_for_the_type_and_the_operation() -> None:
    mapper = EventMapper()
    mapper.register_type("users", "User")
    names = [
        event.event_type
        for each in (
            change(ChangeOperation.CREATE, is_new=True),
            change(merge_patch=EMAIL),
            change(ChangeOperation.DELETE, is_deleted=True),
        )
        for event in published_events(mapper, "users", each)
    ]
    assert names == ["UserCreated", "UserUpdated", "UserDeleted"]


def test_a_default_event_has_all_of_an_event_and_the_stored_events_id_and_time() -> None:
    mapper = EventMapper()
    mapper.register_type("users", "User")
    [event] = published_events(mapper, "users", change(merge_patch=EMAIL))
    assert (event.id, event.event_type, event.timestamp) == ("0190", "UserUpdated", TIME)
    assert (event.aggregate_id, event.aggregate_type, event.version) == ("u1", "User", 3)
    assert event.data["merge_patch"] == EMAIL
    assert event.data["diff"]["merge_patch"] == EMAIL
    assert event.data["diff"]["version"] == 3


def test_a_collection_s_events_may_have_other_names() -> None:
    mapper = EventMapper()
    mapper.register("users", EventTypes("Joined", "Changed", "Left"))
    [event] = published_events(mapper, "users", change(ChangeOperation.DELETE, is_deleted=True))
    assert event.event_type == "Left"
    [event] = published_events(mapper, "games", change())
    assert event.event_type == "gamesUpdated"


def test_derived_events_have_ids_that_come_out_the_same_again() -> None:
    mapper = UserMapper()
    mapper.register_type("users", "User")
    once, again = (published_events(mapper, "users", change(merge_patch=EMAIL)) for _ in "12")
    assert once == again
    assert [event.event_type for event in once] == ["UserUpdated", *["UserEmailChanged"] * 2]
    assert once[0].id == "0190"
    assert len({event.id for event in once}) == 3
    assert all(UUID(event.id).version == 5 for event in once[1:])
    assert once[1].data == {"new_email": "j@example.com"}
    [only] = published_events(mapper, "games", change(merge_patch=EMAIL))
    assert only.event_type == "gamesUpdated"


STORED = EventRecord(
    id="0191",
    type="EmailChanged",
    domain="users",
    aggregate_id="u1",
    time=TIME,
    data=EMAIL,
    version=3,
)


def test_an_aggregates_default_event_has_all_of_the_stored_one() -> None:
    [event] = published_aggregate_events(AggregateEventMapper(), "User", STORED)
    assert (event.id, event.event_type, event.timestamp) == ("0191", "EmailChanged", TIME)
    assert (event.aggregate_id, event.aggregate_type, event.version) == ("u1", "User", 3)
    assert event.data == EMAIL


def test_events_derived_from_an_aggregates_have_ids_that_come_out_the_same_again() -> None:
    class TwiceMapper(AggregateEventMapper):
        def map_to_events(self, aggregate_type: str, event: EventRecord) -> list[DerivedEvent]:
            told = DerivedEvent("AddressTold", aggregate_type, {})
            return [self.default_event(aggregate_type, event), told, told]

    once, again = (published_aggregate_events(TwiceMapper(), "User", STORED) for _ in "12")
    assert once == again
    assert once[0].id == "0191"
    assert len({event.id for event in once}) == 3
    assert all(UUID(event.id).version == 5 for event in once[1:])
