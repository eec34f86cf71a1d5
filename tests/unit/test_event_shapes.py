"""Changes of an event's class within one schema version, and what a start makes of them."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, defstruct, inspect

from eventfleet.model.domain import Domain
from eventfleet.model.event_shapes import MAX_SHAPES_PER_VERSION, find_changes
from eventfleet.model.payloads import Event, State
from eventfleet.model.shapes import describe
from eventfleet.runtime.event_shapes import register_event_shapes
from eventfleet.stores.errors import Misconfigured
from tests.simulation.in_memory_servers import InMemoryServers


class Empty(State):
    pass


def placed(name: str = "Placed", /, **fields: Any) -> type[Event]:
    """An event with these fields: a type, or a type with its default."""
    pairs = [(n, *f) if isinstance(f, tuple) else (n, f) for n, f in fields.items()]
    return defstruct(name, pairs, bases=(Event,))


def orders(*kinds: type[Event], upcasters: dict[type[Event], Any] | None = None) -> Domain[Empty]:
    return Domain("orders", Empty, lambda state, _: state, events=kinds, upcasters=upcasters or {})


def changes(old: type[Struct], new: type[Struct]) -> list[str]:
    before, after = (describe(inspect.type_info(kind)) for kind in (old, new))
    return [*find_changes(before, after)]


Address = defstruct("Address", [("city", str)])
Longer = defstruct("Address", [("city", str), ("street", str, "")])
Renamed = defstruct("Address", [("town", str)])
Colour = Enum("Colour", {"RED": 1})
Colours = Enum("Colour", {"RED": 1, "BLUE": 2})
Swapped = Enum("Colour", {"BLUE": 1, "RED": 2})

READABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the same": ({"a": int}, {"a": int}),
    "a field with a default more": ({"a": int}, {"a": int, "b": (str, "")}),
    "a default more": ({"a": int}, {"a": (int, 0)}),
    "another order": ({"a": int, "b": str}, {"b": str, "a": int}),
    "a wider union": ({"a": int}, {"a": int | None}),
    "a wider literal": ({"a": Literal["x"]}, {"a": Literal["x", "y"]}),
    "a member of an enum more": ({"a": Colour}, {"a": Colours}),
    "wider bounds": (
        {"a": Annotated[int, Meta(ge=1, le=5)], "b": Annotated[str, Meta(min_length=1)]},
        {"a": Annotated[int, Meta(ge=0)], "b": str},
    ),
    "a nested field with a default more": ({"a": list[Address]}, {"a": list[Longer]}),
}
UNREADABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "gone": ({"a": int, "b": int}, {"a": int}, "field `b` is gone, or was renamed"),
    "required": ({"a": int}, {"a": int, "b": int}, "field `b` is new and has no default"),
    "retyped": ({"a": int}, {"a": str}, "field `a` has another type"),
    "narrowed": ({"a": int | None}, {"a": int}, "field `a` has another type"),
    "bounded": ({"a": int}, {"a": Annotated[int, Meta(ge=1)]}, "field `a` has another type"),
    "tighter": (
        {"a": Annotated[str, Meta(max_length=9)]},
        {"a": Annotated[str, Meta(max_length=8)]},
        "field `a` has another type",
    ),
    "no default": ({"a": (int, 0)}, {"a": int}, "field `a` no longer has a default"),
    "another default": ({"a": (int, 0)}, {"a": (int, 1)}, "field `a` has another default"),
    "swapped": ({"a": Colours}, {"a": Swapped}, "field `a` has another type"),
    "nested": ({"a": Address}, {"a": Renamed}, "field `a.city` is gone, or was renamed"),
    "in a list": ({"a": list[Address]}, {"a": list[Renamed]}, "field `a` has another type"),
}


@pytest.mark.parametrize(("old", "new"), READABLE.values(), ids=READABLE)
def test_a_change_that_stored_payloads_survive_is_none(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert changes(placed(**old), placed(**new)) == []


@pytest.mark.parametrize(("old", "new", "change"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_change_that_stored_payloads_do_not_survive_is_named(
    old: dict[str, Any], new: dict[str, Any], change: str
) -> None:
    assert change in changes(placed(**old), placed(**new))


# At the start


@pytest.fixture
async def servers() -> InMemoryServers:
    """With a stored event, and the shape of its class."""
    servers = InMemoryServers(orders(placed(total=int)))
    await register_event_shapes(servers.domain, servers.events)
    await servers.store("1", type="Placed", data={"total": 1})
    return servers


async def test_a_required_field_without_an_upcaster_is_refused(servers: InMemoryServers) -> None:
    changed = orders(placed(total=int, currency=str))
    problem = "domain orders: event Placed, schema version 1: field `currency` is new"
    with pytest.raises(Misconfigured, match=problem) as caught:
        await register_event_shapes(changed, servers.events)
    assert "upcasters={Event: [..., upcaster]}" in str(caught.value)
    assert len(await servers.events.registry.event_shapes()) == 1


async def test_an_upcaster_makes_it_another_schema_version(servers: InMemoryServers) -> None:
    kind = placed(total=int, currency=str)
    raised = orders(kind, upcasters={kind: [lambda data: data | {"currency": "EUR"}]})
    await register_event_shapes(raised, servers.events)
    versions = [each.schema_version for each in await servers.events.registry.event_shapes()]
    assert versions == [1, 2]
    await register_event_shapes(servers.domain, servers.events)


async def test_a_field_with_a_default_is_recorded_and_then_required_to_stay(
    servers: InMemoryServers,
) -> None:
    await register_event_shapes(orders(placed(total=int, note=(str, ""))), servers.events)
    with pytest.raises(Misconfigured, match="field `note` has another type"):
        await register_event_shapes(orders(placed(total=int, note=(int, 0))), servers.events)


async def test_old_code_that_is_restored_starts_with_a_warning(
    servers: InMemoryServers, caplog: pytest.LogCaptureFixture
) -> None:
    await register_event_shapes(orders(placed(total=int, note=(str, ""))), servers.events)
    await register_event_shapes(servers.domain, servers.events)
    assert "event Placed, schema version 1 is declared as it was before" in caplog.text
    assert len(await servers.events.registry.event_shapes()) == 2


async def test_new_events_and_those_no_longer_declared_are_no_change(
    servers: InMemoryServers,
) -> None:
    await register_event_shapes(orders(placed("Paid", amount=int)), servers.events)
    types = [each.type for each in await servers.events.registry.event_shapes()]
    assert types == ["Placed", "Paid"]


async def test_an_empty_store_takes_any_shape() -> None:
    servers = InMemoryServers(orders(placed(total=int)))
    await register_event_shapes(servers.domain, servers.events)
    await register_event_shapes(orders(placed(sum=str)), servers.events)
    (shape,) = await servers.events.registry.event_shapes()
    assert "sum" in shape.shape
    assert "total" not in shape.shape


async def test_recorded_shapes_are_bounded(servers: InMemoryServers) -> None:
    for number in range(MAX_SHAPES_PER_VERSION + 3):
        fields = {f"note{n}": (str, "") for n in range(number)}
        await register_event_shapes(orders(placed(total=int, **fields)), servers.events)
    assert len(await servers.events.registry.event_shapes()) == MAX_SHAPES_PER_VERSION


async def test_processes_that_start_at_once_all_record_theirs(servers: InMemoryServers) -> None:
    """Another one records between the look and the record."""
    registry, paid = servers.events.registry, orders(placed("Paid", amount=int))
    look, looks = registry.event_shapes, list[int]()

    async def late() -> Any:
        found = await look()
        looks.append(len(found))
        if len(looks) == 1:
            await register_event_shapes(paid, servers.events)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "event_shapes", late)
        await register_event_shapes(orders(placed("Shipped", by=str)), servers.events)
    types = [each.type for each in await registry.event_shapes()]
    assert sorted(types) == ["Paid", "Placed", "Shipped"]


async def test_a_schema_free_domain_has_no_shapes() -> None:
    servers = InMemoryServers(orders())
    await register_event_shapes(servers.domain, servers.events)
    assert await servers.events.registry.event_shapes() == []
