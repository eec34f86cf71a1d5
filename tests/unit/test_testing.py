"""The kit for testing domains: what it lets through, what it refuses, and what it then says."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from msgspec import Meta
from msgspec.structs import replace

from eventfleet import (
    START,
    Command,
    Domain,
    Emits,
    Event,
    EventRecord,
    InvalidRecord,
    Rejection,
    SchemalessPayload,
    State,
)
from eventfleet.deciders.outcomes import Rejected
from eventfleet.domains.orders import Cancel, Pay, Placed, Ship, orders
from eventfleet.domains.orders import Paid as OrderPaid
from eventfleet.domains.process_log import process_log, with_rules
from eventfleet.testing import StoredEvent, given
from tests.unit.kit_failures import failure
from tests.unit.marker_fixture import MarkerFixture

Cents = Annotated[int, Meta(ge=1)]


class Filled(Event):
    cents: Cents


class Spent(Event):
    cents: Cents


class Emptied(Event):
    pass


class Named(Event):
    name: str


class Fill(Command):
    cents: Cents


class Spend(Command):
    cents: Cents
    all: bool = False


class Name(Command):
    name: str


class Purse(State):
    cents: int = 0
    names: list[str] = []  # noqa: RUF012 (msgspec copies it)


def evolve(purse: Purse, event: Event) -> Purse:
    match event:
        case Filled(cents=cents):
            return replace(purse, cents=purse.cents + cents)
        case Spent(cents=cents):
            return replace(purse, cents=purse.cents - cents)
        case Named(name=name):
            return replace(purse, names=[*purse.names, name])
    return purse


def decide(purse: Purse, command: Command) -> Event | list[Event] | Rejection:
    match command:
        case Fill(cents=cents):
            return Filled(cents=cents)
        case Spend(cents=cents) if cents > purse.cents:
            return Rejection(f"only {purse.cents} are left")
        case Spend(cents=cents, all=True):
            return [Spent(cents=cents), Emptied()]
        case Spend(cents=cents):
            return Spent(cents=cents)
    raise KeyError(type(command).__name__)


def euros(data: dict[str, Any]) -> dict[str, Any]:
    return {"cents": data["euros"] * 100}


def declare(**changes: Any) -> Domain[Purse]:
    as_declared: dict[str, Any] = {
        "state": Purse,
        "evolve": evolve,
        "decide": decide,
        "events": [Filled, Spent, Emptied, Named],
        "upcasters": {Filled: [euros]},
        "commands": [Fill, Spend, Emits(Name, Named)],
    }
    return Domain("purse", **as_declared | changes)


purse = declare()


# What holds


def test_a_command_is_decided_on_the_state_after_the_events() -> None:
    given(purse, Filled(cents=5)).when(Spend(cents=5)).then(Spent(cents=5))
    given(purse, Filled(cents=5)).when(Spend(cents=6)).rejected("only 5")
    given(purse).when(Spend(cents=6)).rejected("only 0 are left")


def test_a_command_may_become_several_events_in_their_order() -> None:
    given(purse, Filled(cents=5)).when(Spend(cents=5, all=True)).then(Spent(cents=5), Emptied())


def test_a_command_without_a_validator_becomes_its_event() -> None:
    given(purse).when(Name(name="mine")).then(Named(name="mine"))


def test_the_story_goes_on_after_a_command() -> None:
    story = given(purse).when(Fill(cents=5)).then(Filled(cents=5)).when(Spend(cents=2))
    assert story.state(cents=3) == Purse(cents=3)
    story.when(Spend(cents=9)).rejected().when(Spend(cents=3)).then(Spent(cents=3)).state(cents=0)


def test_what_was_given_stays_as_it_was_whatever_comes_after() -> None:
    filled = given(purse, Filled(cents=5))
    for _ in range(2):
        filled.when(Spend(cents=5)).then(Spent(cents=5)).state(cents=0)
    filled.state(cents=5)


def test_events_of_an_older_schema_are_lifted() -> None:
    given(purse, StoredEvent(Filled, {"euros": 3})).state(cents=300)
    given(purse, StoredEvent("Filled", {"cents": 3}, schema_version=2)).state(cents=3)
    record = EventRecord(
        id="1",
        type="Filled",
        domain="purse",
        aggregate_id="p",
        time=datetime(2020, 1, 1, tzinfo=UTC),
        data={"euros": 2},
    )
    given(purse, record, Filled(cents=1)).when(Spend(cents=201)).then(Spent(cents=201))


async def test_a_rule_after_the_latest_event_rejects_with_the_words_of_the_fleet() -> None:
    placed = Placed(customer="ann", total=5, currency="EUR")
    given(orders, placed).when(Pay(amount=5)).then(OrderPaid(amount=5))
    desk = MarkerFixture()
    await desk.grow_old()
    await desk.send("Place")
    told = await desk.send("Ship", carrier="post")
    assert isinstance(told, Rejected)
    assert given(orders, placed).when(Ship(carrier="post")).rejected(told.reason).outcome == told
    given(orders).when(Cancel()).rejected(
        "Cancelled may follow Paid, Placed, and there is no event"
    )


def test_commands_of_a_schema_free_domain_are_named() -> None:
    given(process_log).when(SchemalessPayload("open", {"x": 1})).then(
        SchemalessPayload("open", {"x": 1})
    )
    domain = with_rules(process_log, {"open": [START], "close": ["open"]})
    opened = given(domain, SchemalessPayload("open", {}))
    opened.when(SchemalessPayload("close", {})).then(SchemalessPayload("close", {})).state(
        last="close"
    )
    opened.when(SchemalessPayload("open", {})).rejected("open may follow no event, not open")


def test_a_command_that_is_not_valid_is_invalid_and_not_rejected() -> None:
    given(purse).when(Fill(cents=0)).invalid("data.cents: Expected `int` >= 1")
    given(purse).when(Cancel()).invalid("'Cancel' is not a command of purse")
    assert failure(lambda: given(purse).when(Fill(cents=0)).rejected())
    assert failure(lambda: given(purse).when(Spend(cents=1)).invalid())


# What does not


def test_a_rejection_that_nothing_asserts_ends_the_test_at_what_follows() -> None:
    """A chain would go on as if the command had become its events."""
    follow: list[Callable[[Any], Any]] = [
        lambda after: after.when(Ship(carrier="post")),
        lambda after: after.state(),
    ]
    for each in follow:
        with pytest.raises(AssertionError) as caught:
            each(given(orders).when(Ship(carrier="post")))
        assert "an outcome that nothing asserts" in str(caught.value)
        assert "+ rejected: " in str(caught.value)
        each(given(orders).when(Ship(carrier="post")).rejected())
        looked_at = given(orders).when(Ship(carrier="post"))
        assert isinstance(looked_at.outcome, Rejected)
        each(looked_at)


def test_another_outcome_is_shown_with_all_that_led_to_it() -> None:
    story = given(purse, Filled(cents=5)).when(Fill(cents=1)).then(Filled(cents=1))
    assert failure(lambda: story.when(Spend(cents=4)).then(Spent(cents=3), Emptied())) == [
        "given  Filled(cents=5)",
        "when   Fill(cents=1)",
        "then   Filled(cents=1)",
        "when   Spend(cents=4, all=False)",
        "outcome (- expected, + found)",
        "- then   Spent(cents=3)",
        "?                    ^",
        "+ then   Spent(cents=4)",
        "?                    ^",
        "- then   Emptied()",
    ]


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (
            lambda empty: empty.when(Spend(cents=1)).then(Spent(cents=1)),
            "rejected: only 0 are left",
        ),
        (lambda empty: empty.when(Spend(cents=1)).rejected("frozen"), "rejected: only 0 are left"),
        (lambda empty: empty.when(Fill(cents=1)).rejected(), "then   Filled(cents=1)"),
        (lambda empty: empty.when(Fill(cents=1)).then(), "then   Filled(cents=1)"),
        (lambda empty: empty.when(Fill(cents=1)).then(Filled(cents=1), Emptied()), ""),
        (lambda empty: empty.state(cents=1), "cents=0"),
    ],
)
def test_what_does_not_hold_fails(check: Callable[[Any], object], found: str) -> None:
    lines = failure(lambda: check(given(purse)))
    assert lines[0] == "given  no event"
    assert any(line.endswith(found) and line.startswith("+ ") for line in lines) == bool(found)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Filled(cents=0), "data.cents: Expected `int` >= 1"),
        (Placed(customer="ann", total=5, currency="EUR"), "type: 'Placed' is not one of"),
        (
            StoredEvent(Filled, {"cents": 1}, 3),
            "schemaversion: this process knows version 2 of Filled, the event has 3",
        ),
    ],
)
def test_what_no_store_of_the_domain_can_hold_is_not_given(event: Any, reason: str) -> None:
    lines = failure(lambda: given(purse, event))
    assert lines[-2] == "is not an event of the domain (- expected, + found)"
    assert lines[-1].startswith(f"+ {reason}")


def test_an_event_that_decide_makes_passes_the_door_as_well() -> None:
    broken = declare(decide=lambda state, command: Spent(cents=0))
    with pytest.raises(InvalidRecord, match=r"data\.cents: Expected `int` >= 1"):
        given(broken).when(Fill(cents=1))


def test_what_decide_and_evolve_raise_passes_through() -> None:
    class Odd(Command):
        pass

    with pytest.raises(KeyError, match="Odd"):
        given(declare(commands=[Odd])).when(Odd())
    with pytest.raises(ZeroDivisionError):
        given(declare(evolve=lambda state, event: 1 // 0), Emptied())


def test_a_state_that_no_snapshot_can_keep_is_refused() -> None:
    most = Filled(cents=2**63 - 1)
    lines = failure(lambda: given(purse, most, most))
    assert "a snapshot does not keep the state (- expected, + found)" in lines


def test_a_function_that_changes_the_state_in_place_is_found() -> None:
    def careless(purse: Purse, event: Event) -> Purse:
        purse.names.append("x")
        return purse

    def meddling(purse: Purse, command: Command) -> Event:
        purse.names.append("x")
        return Emptied()

    assert "evolve modifies the state that it is given (- expected, + found)" in failure(
        lambda: given(declare(evolve=careless), Emptied())
    )
    assert "decide modifies the state that it is given (- expected, + found)" in failure(
        lambda: given(declare(decide=meddling)).when(Fill(cents=1))
    )
