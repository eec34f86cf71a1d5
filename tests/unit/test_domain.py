"""Declaring a domain: what is refused, and what the fleet does with what is declared."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from msgspec.structs import replace

from eventfleet import (
    START,
    Command,
    DeclarationError,
    Domain,
    Emits,
    Event,
    EventRecord,
    InvalidRecord,
    Route,
    Rule,
    SchemalessPayload,
    State,
    after,
    every,
    on,
)
from eventfleet.deciders.state_command import NewEvents, decide_events, parse_state_command
from eventfleet.states.live_state import LiveState
from eventfleet.topics.codec import decode, decode_command, encode


class Opened(Event):
    owner: Annotated[str, Meta(min_length=1)]


class Deposited(Event):
    cents: Annotated[int, Meta(ge=1)]
    note: str
    tags: tuple[str, ...] = ()


class Closed(Event):
    pass


class Account(State):
    owner: str = ""
    cents: int = 0
    opened: date | None = None
    monthly: dict[int, int] = {}  # noqa: RUF012 (msgspec copies it)


def evolve(account: Account, event: Event) -> Account:
    match event:
        case Opened(owner=owner):
            return replace(account, owner=owner)
        case Deposited(cents=cents):
            return replace(account, cents=account.cents + cents)
    return account


def cents_from_euros(data: dict[str, Any]) -> dict[str, Any]:
    return {"cents": data["euros"] * 100}


def with_note(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "note": "none"}


def declare(
    name: str = "bank",
    state: Any = Account,
    evolve: Callable[..., Any] = evolve,
    events: Sequence[type[Event]] = (Opened, Deposited, Closed),
    upcasters: Mapping[type[Event], Sequence[Any]] = {Deposited: [cents_from_euros, with_note]},
    snapshot: Rule | None = None,
    routes: Sequence[Route] = (),
    **more: Any,
) -> Domain[Any]:
    return Domain(name, state, evolve, events, upcasters, snapshot, routes, **more)


def record(kind: str, data: dict[str, Any], schema_version: int = 1, **more: Any) -> EventRecord:
    time = datetime(2024, 1, 1, tzinfo=UTC)
    return EventRecord(
        id="id-1",
        type=kind,
        domain=more.pop("domain", "bank"),
        aggregate_id="account-1",
        time=time,
        data=data,
        schema_version=schema_version,
        **more,
    )


def deposited(cents: int) -> EventRecord:
    return record("Deposited", {"cents": cents, "note": ""}, schema_version=3)


bank = declare()


# Declarations that are refused


def refused(**changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        declare(**changes)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "Bank", "1bank", "bank.eu", "b ank", "bänk", "bank\n", "-bank", "b" * 101]
)
def test_a_name_that_topics_can_not_have_is_refused(name: str) -> None:
    assert refused(name=name).startswith(f"domain {name!r}: ")


def test_a_state_without_defaults_is_refused() -> None:
    class Needy(State):
        owner: str

    reason = "domain bank: every field of state Needy needs a default"
    assert refused(state=Needy) == f"{reason}: Missing required argument 'owner'"


def test_two_events_of_a_name_are_refused() -> None:
    reason = "domain bank: `events` has two of the same name: Opened"
    assert refused(events=[Opened, Deposited, OtherOpened]) == reason
    assert refused(events=[Opened, Deposited, Opened]) == reason


class Stranger(Event):
    pass


class OtherOpened(Event):
    pass


OtherOpened.__name__ = "Opened"


def stranger(field: str, names: str = "Stranger") -> str:
    return f"domain bank: `{field}` names what `events` does not have: {names}"


def test_strangers_in_upcasters_are_refused() -> None:
    assert refused(upcasters={Stranger: [with_note]}) == stranger("upcasters")
    assert refused(events=(), upcasters={Stranger: [with_note]}) == stranger("upcasters")


def test_strangers_in_routes_are_refused() -> None:
    for kind in (Stranger, "Stranger"):
        assert refused(routes=[Route("a"), Route("b", [Opened, kind])]) == stranger("routes")


def test_a_payload_class_of_another_domain_is_a_stranger_also_under_a_known_name() -> None:
    assert refused(routes=[Route("a", [OtherOpened])]) == stranger("routes", "Opened")


def test_strangers_in_the_snapshot_rule_are_refused() -> None:
    rule = every(5) | ~(after(days=1) & on(Closed, "Stranger"))
    assert refused(snapshot=rule) == stranger("snapshot")


def test_every_stranger_is_named() -> None:
    assert refused(snapshot=on("B", "A")) == stranger("snapshot", "A, B")


@pytest.mark.parametrize("to", ["", ".", "fraud check", "x" * 250])
def test_a_route_to_what_is_no_topic_is_refused(to: str) -> None:
    assert refused(routes=[Route(to)]) == (
        f"domain bank: a route leads to {to!r}, which is not a valid topic name: 1 to 249 letters, "
        "digits, dots, '_' and '-'"
    )


@pytest.mark.parametrize("kind", ["events", "stored", "snapshots", "replies", "dead-letters"])
def test_a_route_into_a_topic_that_the_fleet_writes_is_refused(kind: str) -> None:
    assert refused(routes=[Route(f"bank.{kind}")]) == (
        f"domain bank: a route leads to bank.{kind}, which only the fleet itself writes to"
    )


def test_what_is_declared_well_is_accepted() -> None:
    declare(
        snapshot=every(5) | on(Closed) | on("Opened"),
        routes=[Route("bank.commands"), Route("fraud-check", frozenset({Deposited, "Opened"}))],
    )


def test_a_declaration_and_payloads_and_states_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        bank.name = "other"  # type: ignore[misc]
    structs: list[Any] = [Account(), Closed(), bank.payload(deposited(1))]
    for struct in structs:
        with pytest.raises(AttributeError, match="immutable"):
            struct.cents = 5


# Payloads


def test_a_payload_is_the_declared_type() -> None:
    event = record("Deposited", {"cents": 5, "note": "hi", "tags": ["a"]}, schema_version=3)
    assert bank.payload(event) == Deposited(cents=5, note="hi", tags=("a",))


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        ({"note": ""}, "data.cents", "is missing"),
        ({"cents": "5", "note": ""}, "data.cents", "Expected `int`, got `str`"),
        ({"cents": 0, "note": ""}, "data.cents", "Expected `int` >= 1"),
        ({"cents": 5, "note": None}, "data.note", "Expected `str`, got `null`"),
        ({"cents": 5, "note": "", "tags": ["a", 1]}, "data.tags[1]", "Expected `str`, got `int`"),
        ({"cents": 5, "note": "", "colour": 1}, "data.colour", "is not a known field"),
    ],
)
def test_a_payload_that_breaks_its_schema_is_unreadable(
    data: dict[str, Any], field: str, reason: str
) -> None:
    event = record("Deposited", data, schema_version=3)
    for reading in (bank.payload, bank.check):
        with pytest.raises(InvalidRecord) as caught:
            reading(event)
        assert (caught.value.field, caught.value.reason) == (field, reason)


def test_an_undeclared_type_is_unreadable() -> None:
    event = record("Withdrawn", {})
    for reading in (bank.payload, bank.check, bank.upcast):
        with pytest.raises(InvalidRecord) as caught:
            reading(event)
        assert caught.value.field == "type"
        assert caught.value.reason == "'Withdrawn' is not one of Closed, Deposited, Opened"


def test_an_event_of_another_domain_is_unreadable() -> None:
    with pytest.raises(InvalidRecord) as caught:
        bank.check(record("Closed", {}, domain="shop"))
    assert str(caught.value) == "source: is 'shop', not 'bank'"
    bank.check(record("Closed", {}))


# Upcasters


def test_the_newest_schema_version_is_one_more_than_the_upcasters() -> None:
    assert [bank.latest_schema_version(kind) for kind in ("Opened", "Deposited", "Closed")] == [
        1,
        3,
        1,
    ]


@pytest.mark.parametrize(
    ("data", "schema_version"),
    [
        ({"euros": 7}, 1),
        ({"cents": 700}, 2),
        ({"cents": 700, "note": "none"}, 3),
    ],
)
def test_every_old_version_gives_the_newest_payload_in_every_reading(
    data: dict[str, Any], schema_version: int
) -> None:
    event = record("Deposited", data, schema_version, version=4, position="0-1-2", actor="me")
    newest = replace(event, data={"cents": 700, "note": "none"}, schema_version=3)
    assert bank.upcast(event) == newest
    assert bank.payload(event) == Deposited(cents=700, note="none")
    assert bank.fold(Account(cents=1), event) == Account(cents=701)
    bank.check(event)


def test_upcasters_are_applied_in_their_order_each_to_what_the_one_before_gave() -> None:
    def step(number: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda data: {"steps": [*data["steps"], number]}

    domain = declare(upcasters={Opened: [step(1), step(2), step(3)]})
    for schema_version in (1, 2, 3, 4):
        lifted = domain.upcast(record("Opened", {"steps": []}, schema_version))
        assert lifted.data == {"steps": [1, 2, 3][schema_version - 1 :]}


def test_a_newer_schema_version_is_unreadable() -> None:
    for kind, newest in (("Deposited", 3), ("Opened", 1)):
        event = record(kind, {}, schema_version=newest + 1)
        for reading in (bank.upcast, bank.payload, bank.check):
            with pytest.raises(InvalidRecord) as caught:
                reading(event)
            assert caught.value.field == "schemaversion"
            known = f"this process knows version {newest} of {kind}"
            assert caught.value.reason == f"{known}, the event has {newest + 1}: deploy"


def test_lifting_never_touches_the_event_also_when_an_upcaster_changes_what_it_gets() -> None:
    def mutate(data: dict[str, Any]) -> dict[str, Any]:
        data["owner"] = data.pop("name")
        data["nested"]["list"].append(1)
        return data

    domain = declare(upcasters={Opened: [mutate]})
    stored = record("Opened", {"name": "ann", "nested": {"list": [0]}})
    before = copy.deepcopy(stored)
    assert domain.upcast(stored).data == {"owner": "ann", "nested": {"list": [0, 1]}}
    assert stored == before
    assert domain.upcast(stored) == domain.upcast(stored)


def test_an_event_of_the_newest_version_is_lifted_to_itself() -> None:
    event = deposited(5)
    assert bank.upcast(event) is event


def test_what_an_upcaster_raises_passes_through() -> None:
    with pytest.raises(KeyError, match="euros"):
        bank.upcast(record("Deposited", {}))


@pytest.mark.parametrize("returned", [None, [], "text"])
def test_an_upcaster_that_returns_no_dict_is_a_fault_of_the_domain(returned: object) -> None:
    domain = declare(upcasters={Opened: [lambda data: returned]})
    with pytest.raises(TypeError, match=r"an upcaster of Opened returned \w+, not a dict"):
        domain.payload(record("Opened", {}))


# Fold


@given(st.lists(st.integers(1, 10**6)))
def test_fold_gives_the_state_after_an_event(deposits: list[int]) -> None:
    account = Account(owner="ann")
    for cents in deposits:
        account = bank.fold(account, deposited(cents))
    assert account == Account(owner="ann", cents=sum(deposits))


@pytest.mark.parametrize("returned", [None, {}, Closed()])
def test_fold_refuses_what_is_no_state(returned: object) -> None:
    domain = declare(evolve=lambda state, event: returned)
    name = type(returned).__name__
    with pytest.raises(TypeError, match=f"evolve returned {name} for Closed, not Account"):
        domain.fold(Account(), record("Closed", {}))


def test_what_evolve_raises_passes_through() -> None:
    def fail(state: Account, event: Event) -> Account:
        raise ZeroDivisionError("evolve")

    with pytest.raises(ZeroDivisionError, match="evolve"):
        declare(evolve=fail).fold(Account(), record("Closed", {}))


# Decide


class Reserve(Command):
    seat: int = 1


class Reserved(Event):
    seat: int


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "None for Reserve: return an event, a list of events or a Rejection"),
        ([], "no event for Reserve: return an event, a list of events or a Rejection"),
        (5, "int for Reserve: return an event, a list of events or a Rejection"),
        (Reserved(seat=1), "Reserved for Reserve, not among the events of bank"),
        (["text", Closed()], "str for Reserve, not among the events of bank"),
    ],
)
def test_what_decide_must_not_return_is_told_with_what_it_may(returned: object, told: str) -> None:
    domain = declare(commands=[Reserve], decide=lambda state, command: returned)
    with pytest.raises(TypeError) as caught:
        domain.decide_events(Account(), Reserve())
    assert str(caught.value) == f"decide returned {told}"


class Seat(Command):
    guests: dict[int, str]
    days: dict[date, int] = {}  # noqa: RUF012 (msgspec copies it)


class Seated(Event):
    guests: dict[int, str]
    days: dict[date, int] = {}  # noqa: RUF012 (msgspec copies it)


SEATING = {"guests": {"7": "ann"}, "days": {"2024-05-06": 1}}


def test_keys_that_are_no_texts_are_texts_on_the_wire() -> None:
    def decide(state: Account, command: Command) -> Event:
        assert isinstance(command, Seat)
        return Seated(guests=command.guests, days=command.days)

    domain = declare(events=[Seated], commands=[Seat], upcasters={}, decide=decide)
    data = json.dumps(SEATING)
    envelope = on_wire(type="Seat", source="bank").replace(b'"DATA"', data.encode())
    for spelt in (envelope, b" " + envelope):
        command = parse_state_command(domain, decode_command(spelt))
        made = decide_events(domain, command, LiveState("a", Account()), 1, {})
        assert isinstance(made, NewEvents)
        (event,) = made.events
        assert event.data == SEATING
        assert domain.payload(decode(encode(event))) == Seated(
            guests={7: "ann"}, days={date(2024, 5, 6): 1}
        )


def on_wire(**attributes: str) -> bytes:
    wire = {"specversion": "1.0", "id": "c", "subject": "a", "time": "2024-01-01T00:00:00Z"}
    return json.dumps(wire | attributes | {"data": "DATA"}, separators=(",", ":")).encode()


# Schema-free domains


def test_a_schema_free_domain_takes_any_type_as_it_is() -> None:
    seen = []

    def note(state: Account, event: SchemalessPayload) -> Account:
        seen.append(event)
        return state

    domain = declare(events=(), upcasters={}, evolve=note, snapshot=on("Any thing"))
    event = record("Any thing", {"x": [1]})
    domain.check(event)
    assert domain.schema_free
    assert domain.upcast(event) is event
    domain.fold(Account(), event)
    assert seen == [SchemalessPayload("Any thing", {"x": [1]})]
    with pytest.raises(InvalidRecord, match="schemaversion"):
        domain.payload(replace(event, schema_version=2))


# Snapshots

accounts = st.builds(
    Account,
    owner=st.text(),
    cents=st.integers(-(2**63), 2**63 - 1),
    opened=st.none() | st.dates(),
    monthly=st.dictionaries(st.integers(-100, 100), st.integers(-100, 100)),
)


@given(accounts)
def test_a_frozen_state_is_plain_json_and_thaws_to_itself(account: Account) -> None:
    frozen = bank.dump_state(account)
    assert msgspec.json.decode(msgspec.json.encode(frozen)) == frozen
    assert bank.load_state(frozen) == account


@pytest.mark.parametrize(
    ("state", "field", "reason"),
    [
        ({"cents": "many"}, "state.cents", "Expected `int`, got `str`"),
        ({"monthly": {"5": None}}, "state.monthly[...]", "Expected `int`, got `null`"),
        ([], "state", "Expected `object`, got `array`"),
    ],
)
def test_a_state_that_no_longer_fits_is_unreadable(state: Any, field: str, reason: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        bank.load_state(state)
    assert (caught.value.field, caught.value.reason) == (field, reason)


# Routes


def test_a_route_names_its_types_and_takes_all_without_any() -> None:
    assert Route("a", [Opened, "Closed"]).names == {"Opened", "Closed"}
    assert Route("a").names == frozenset()
    assert Route("a").when(record("Closed", {}))


def test_an_event_is_the_same_after_the_wire() -> None:
    event = deposited(5)
    assert bank.payload(decode(encode(event))) == bank.payload(event)


COLLECTIONS = [list, tuple, set, frozenset]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_types_and_after_are_any_collection(collection: Callable[[Any], Any]) -> None:
    route = Route("a", types=collection([Opened, "Closed"]))
    rule = Emits("Close", Closed, after=collection([START, Opened, "Deposited"]))
    assert (route.names, rule.allowed) == ({"Opened", "Closed"}, {"", "Opened", "Deposited"})
    assert hash(route) == hash(Route("a", types=["Closed", Opened]))
    assert rule == Emits("Close", Closed, after=["Deposited", Opened, START])


def test_empty_types_are_all_and_an_empty_after_is_none() -> None:
    assert Route("a", types=[]).names == frozenset()
    assert Emits("Close", Closed, after=[]).allowed == frozenset()
    assert Emits("Close", Closed).allowed is None


@pytest.mark.parametrize(
    ("types", "fault"),
    [
        ("Opened", "must be a collection of event types: write ['Opened']"),
        (START, "must be a collection of event types: write ['']"),
        (Opened, "must be a collection of event types: write [Opened]"),
        ([Opened, 5], "has 5, which is neither a class nor a name"),
    ],
)
def test_types_and_after_that_are_no_collection_of_types_are_refused(
    types: Any, fault: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        Route("fraud", types=types)
    assert str(caught.value) == f"Route('fraud'): types {fault}"
    with pytest.raises(DeclarationError) as caught:
        Emits("Close", Closed, after=types)
    assert str(caught.value) == f"Emits(Close): after {fault}"


class Shut(Command):
    pass


CLOSES = Emits("Close", Closed, after=[Opened])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"commands": [Shut]}, "nothing decides the commands Shut: give the domain `decide`"),
        ({"decide": lambda state, command: Closed()}, "`decide` has no command to decide"),
        (
            {"decide": lambda state, command: Closed(), "commands": [Shut, CLOSES]},
            "either `decide` or `after` decides commands, never both; `after` has: Close",
        ),
        ({"commands": [CLOSES, CLOSES]}, "`commands` has two of the same name: Close"),
        (
            {"commands": [Emits("Close", Stranger)]},
            "`commands` names what `events` does not have: Stranger",
        ),
    ],
)
def test_command_rules_that_can_not_work_are_refused(changes: dict[str, Any], fault: str) -> None:
    assert refused(**changes).startswith(f"domain bank: {fault}")


def test_two_routes_to_one_topic_are_refused() -> None:
    with pytest.raises(DeclarationError, match="two routes lead to out"):
        Domain(
            "things",
            state=State,
            evolve=lambda state, event: state,
            routes=[Route("out"), Route("out", when=lambda event: True)],
        )


def test_a_set_in_a_state_is_frozen_in_one_order() -> None:
    class Tagged(State):
        tags: frozenset[str] = frozenset()

    domain = Domain("things", state=Tagged, evolve=lambda state, event: state)
    letters = [chr(ord("a") + i) for i in range(26)]
    assert domain.dump_state(Tagged(tags=frozenset(reversed(letters)))) == {"tags": letters}
