"""Aggregate and AggregateFactory, of document 003's `pkg/aggregate`."""

from typing import Any

import pytest

from eventfleet import DeclarationError, Domain, EventRecord, InvalidRecord, State
from eventfleet.aggregates import Aggregate, AggregateFactory, AlreadyRegistered, NotRegistered
from eventfleet.domains.bank import Opened
from eventfleet.states.live_state import ReplayFailed
from eventfleet.stores.errors import ServerUnavailable
from tests.contract.samples import TIME
from tests.unit.users import EmailChanged, Refused, Renamed, User, UserCreated, UserState


def stored(version: int, kind: str, **data: Any) -> EventRecord:
    return EventRecord(
        id=f"e{version}",
        type=kind,
        domain="users",
        aggregate_id="u1",
        time=TIME,
        data=data,
        version=version,
    )


def created() -> User:
    user = User("u1")
    user.apply(stored(1, "UserCreated", name="John", email="john@example.com"))
    return user


def test_a_new_aggregate_is_empty_at_version_0() -> None:
    user = User("u1")
    assert (user.id, user.version, user.expected_version) == ("u1", 0, 0)
    assert (user.state, user.uncommitted_changes) == (UserState(), ())


def test_methods_check_rules_and_raise_events_that_fold_at_once() -> None:
    user = User("u1")
    user.create("John", "john@example.com")
    user.change_email("doe@example.com")
    assert user.uncommitted_changes == (
        UserCreated(name="John", email="john@example.com"),
        EmailChanged(email="doe@example.com"),
    )
    assert (user.version, user.expected_version) == (2, 0)
    assert user.state == UserState(name="John", email="doe@example.com")


def test_a_rule_that_forbids_raises_no_event() -> None:
    user = created()
    with pytest.raises(Refused, match="u1 exists already"):
        user.create("Jane", "jane@example.com")
    user.change_email("john@example.com")
    assert (user.version, user.uncommitted_changes) == (1, ())


def test_stored_events_are_applied_and_are_no_changes() -> None:
    user = created()
    user.apply(stored(2, "EmailChanged", email="doe@example.com"))
    assert (user.version, user.expected_version, user.uncommitted_changes) == (2, 2, ())
    assert user.state.email == "doe@example.com"


def test_a_stored_event_that_is_not_the_next_one_is_not_applied() -> None:
    user = created()
    with pytest.raises(ServerUnavailable, match="version 2 is missing"):
        user.apply(stored(3, "EmailChanged", email="doe@example.com"))
    assert user.version == 1


def test_a_stored_event_does_not_come_after_uncommitted_ones() -> None:
    user = created()
    user.rename("Jane")
    with pytest.raises(ValueError, match=r"users 'u1' has uncommitted changes: save it"):
        user.apply(stored(2, "EmailChanged", email="doe@example.com"))
    assert user.uncommitted_changes == (Renamed(name="Jane"),)


def test_committed_changes_are_none_any_more() -> None:
    user = created()
    user.rename("Jane")
    before = user.commit_id
    user.mark_committed()
    assert (user.version, user.expected_version, user.uncommitted_changes) == (2, 2, ())
    assert user.commit_id != before


def test_an_event_that_the_domain_does_not_declare_is_refused() -> None:
    user = created()
    with pytest.raises(InvalidRecord, match="type: 'Opened' is not one of EmailChanged"):
        user.raise_event(Opened(owner="ann", currency="EUR"))
    assert (user.version, user.uncommitted_changes) == (1, ())


def test_an_invalid_field_of_an_event_is_refused() -> None:
    user = created()
    with pytest.raises(InvalidRecord) as caught:
        user.raise_event(Renamed(name=7))  # type: ignore[arg-type]
    assert caught.value.field == "data.name"
    assert (user.version, user.uncommitted_changes) == (1, ())


def test_an_event_that_can_not_be_folded_leaves_the_aggregate_as_it_was() -> None:
    user = created()
    with pytest.raises(ReplayFailed, match=r"users 'u1' version 2, Renamed: ValueError: no fold"):
        user.rename("unfoldable")
    assert (user.version, user.state.name, user.uncommitted_changes) == (1, "John", ())


def test_an_aggregate_needs_a_domain_with_declared_events() -> None:
    class Homeless(Aggregate[UserState]):
        pass

    with pytest.raises(DeclarationError, match="aggregate Homeless has no domain"):
        Homeless("h1")
    free = Domain("free", state=State, evolve=lambda state, event: state)
    with pytest.raises(DeclarationError, match="aggregate Free: domain free declares no events"):

        class Free(Aggregate[State]):
            domain = free


def test_the_factory_makes_empty_aggregates_by_name_or_class() -> None:
    factory = AggregateFactory()
    factory.register(User)
    by_class, by_name = factory.create(User, "u1"), factory.create("User", "u2")
    assert (type(by_class), by_class.id, by_class.version) == (User, "u1", 0)
    assert (type(by_name), by_name.id, by_name.version) == (User, "u2", 0)


def test_a_delegate_makes_the_aggregates_of_its_type() -> None:
    class Priced(User):
        def __init__(self, id: str, prices: dict[str, int]) -> None:
            super().__init__(id)
            self.prices = prices

    factory, prices = AggregateFactory(), {"tea": 3}
    factory.register(Priced, lambda id: Priced(id, prices))
    assert factory.create(Priced, "p1").prices is prices


def test_an_unknown_type_is_an_error_that_names_it_and_the_known_ones() -> None:
    factory = AggregateFactory()
    with pytest.raises(NotRegistered, match="aggregate 'User' is not registered; registered: none"):
        factory.create(User, "u1")
    factory.register(User)
    with pytest.raises(NotRegistered, match="'Order' is not registered; registered: User") as error:
        factory.create("Order", "o1")
    assert (error.value.kind, error.value.name, error.value.known) == (
        *("aggregate", "Order"),
        {"User"},
    )


def test_a_second_delegate_of_a_type_is_an_error_that_names_it() -> None:
    factory = AggregateFactory()
    factory.register(User)
    with pytest.raises(AlreadyRegistered, match="aggregate 'User' is registered already"):
        factory.register(User, User)


@pytest.mark.parametrize("made", [lambda id: User("other"), lambda id: None])
def test_a_delegate_that_makes_something_else_is_an_error(made: Any) -> None:
    factory = AggregateFactory()
    factory.register(User, made)
    with pytest.raises(TypeError, match="the delegate of User made"):
        factory.create(User, "u1")
