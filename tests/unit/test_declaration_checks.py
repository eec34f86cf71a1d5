"""Declarations that are refused when their module is imported."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from eventfleet import (
    Command,
    Decides,
    DeclarationError,
    Domain,
    Emits,
    Event,
    Followed,
    Route,
    Row,
    State,
    Totals,
    View,
)


class Till(State):
    cents: int = 0


class PaidIn(Event):
    cents: int
    note: str = ""


class PayIn(Command):
    cents: int
    note: str = ""


class Drawer(Row):
    cents: int = 0


def evolve(till: Till, event: Any) -> Till:
    return till


def project(row: Drawer | None, event: Any) -> Drawer | None:
    return row


def declare(**changes: Any) -> Domain[Any]:
    declared: dict[str, Any] = {"state": Till, "evolve": evolve, "events": [PaidIn]}
    return Domain("till", **declared | changes)


def refused(**changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        declare(**changes)
    return str(caught.value).removeprefix("domain till: ")


# Classes


@pytest.mark.parametrize("state", [Till(), "Till", dict, PaidIn])
def test_a_state_that_is_no_state_is_refused(state: Any) -> None:
    assert refused(state=state) == f"state={state!r} is not a class derived from State"


def test_an_event_that_is_no_event_is_refused() -> None:
    for wrong in (PayIn, "PaidIn", PaidIn(cents=1)):
        reason = f"`events` has {wrong!r}, which is not a class derived from Event"
        assert refused(events=[PaidIn, wrong]) == reason


def test_a_command_that_is_no_command_is_refused() -> None:
    reason = f"`commands` has {PaidIn!r}, which is not a class derived from Command"
    assert refused(commands=[PaidIn], decide=lambda till, command: []) == reason
    assert refused(commands=[Emits(PaidIn, PaidIn)]) == reason  # type: ignore[arg-type]


def test_a_snapshot_rule_that_is_none_is_refused() -> None:
    assert refused(snapshot=100) == "snapshot=100 is not a snapshot rule, such as every(100)"


# Functions


def view(**changes: Any) -> list[View[Any]]:
    return [View("drawers", **{"row": Drawer, "project": project} | changes)]


def totals(**changes: Any) -> list[View[Any]]:
    functions = {
        "group": lambda row: Drawer(),
        "add": lambda total, row: total,
        "remove": lambda total, row: total,
        "merge": lambda one, other: one,
    }
    return view(totals=[Totals("sums", row=Drawer, by=["cents"], **functions | changes)])


FUNCTIONS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "evolve": (lambda f: {"evolve": f}, "(state, event)"),
    "upcaster 2 of PaidIn": (lambda f: {"upcasters": {PaidIn: [dict, f]}}, "(data)"),
    "`when` of the route to out": (lambda f: {"routes": [Route("out", when=f)]}, "(event)"),
    "`project` of view drawers": (lambda f: {"views": view(project=f)}, "(row, event)"),
    "`key` of view drawers": (lambda f: {"views": view(key=f)}, "(event)"),
    "`group` of totals sums": (lambda f: {"views": totals(group=f)}, "(row)"),
    "`add` of totals sums": (lambda f: {"views": totals(add=f)}, "(total, row)"),
    "`remove` of totals sums": (lambda f: {"views": totals(remove=f)}, "(total, row)"),
    "`merge` of totals sums": (lambda f: {"views": totals(merge=f)}, "(total, other)"),
    "`sees` of PayIn": (
        lambda f: {
            "commands": [Decides(PayIn, sees=f)],
            "decide": lambda till, command, context: PaidIn(cents=1),
        },
        "(command)",
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_other_parameters_is_refused(name: str) -> None:
    changes, parameters = FUNCTIONS[name]
    for function, signature in ((lambda: None, "()"), (lambda a, b, c: a, "(a, b, c)")):
        assert refused(**changes(function)) == f"{name} must take {parameters}, not {signature}"
    assert refused(**changes(5)) == f"{name} is 5, which is no function"
    declare(**changes(lambda *any: None))


def test_an_async_function_is_refused() -> None:
    async def evolve_later(till: Till, event: Any) -> Till:
        return till

    reason = "evolve must be a plain function, not an async one: it does no I/O"
    assert refused(evolve=evolve_later) == reason


def test_a_bare_upcaster_is_refused() -> None:
    def with_note(data: dict[str, Any]) -> dict[str, Any]:
        return data

    reason = "the upcasters of PaidIn must be a list: write [with_note]"
    assert refused(upcasters={PaidIn: with_note}) == reason


# Commands that become events


def emits(fields: dict[str, Any], event_fields: dict[str, Any]) -> dict[str, Any]:
    def make(name: str, base: type, named: dict[str, Any]) -> Any:
        described = [
            (each, *kind) if type(kind) is tuple else (each, kind) for each, kind in named.items()
        ]
        return msgspec.defstruct(name, described, bases=(base,), kw_only=True)

    command, event = make("Go", Command, fields), make("Gone", Event, event_fields)
    return {"events": [event], "commands": [Emits(command, event)]}


@pytest.mark.parametrize(
    ("fields", "event_fields", "reason"),
    [
        ({}, {"a": int, "b": str}, "the event needs a, b, which the command does not have"),
        ({"a": int, "b": int}, {"b": int}, "the event does not have a, which the command has"),
        ({"a": str}, {"a": int}, "a is a text in the command, and a number in the event"),
        (
            {"a": list[int]},
            {"a": bool},
            "a is a list in the command, and a truth value in the event",
        ),
        (
            {"a": UUID},
            {"a": dict[str, int]},
            "a is a text in the command, and an object in the event",
        ),
        (
            {"a": int | None},
            {"a": Annotated[str, msgspec.Meta(min_length=1)]},
            "a is a number/null in the command, and a text in the event",
        ),
    ],
)
def test_a_command_that_can_never_become_its_event_is_refused(
    fields: dict[str, Any], event_fields: dict[str, Any], reason: str
) -> None:
    assert refused(**emits(fields, event_fields)) == f"Go can't become Gone: {reason}"


@pytest.mark.parametrize(
    ("fields", "event_fields"),
    [
        ({"a": int}, {"a": int, "b": (str, "")}),
        ({"a": int | str}, {"a": str | None}),
        ({"a": datetime}, {"a": str}),
        ({"a": int}, {"a": float}),
        ({"a": Any}, {"a": int}),
        ({"a": int}, {"a": Annotated[int, msgspec.Meta(gt=0)]}),
        ({"a": (int, 5)}, {"a": int}),
    ],
)
def test_a_command_that_may_become_its_event_is_taken(
    fields: dict[str, Any], event_fields: dict[str, Any]
) -> None:
    declare(**emits(fields, event_fields))


# Sockets


def test_a_socket_can_send_the_domains_own_commands_only() -> None:
    commands = [Emits(PayIn, PaidIn)]
    for given in (PayIn, "PayIn"):
        declared = declare(commands=commands, followed=Followed(commands=[given])).followed
        assert declared
        assert declared.command_names == {"PayIn"}
    for unknown in (type("PayOut", (Command,), {}), type("PayIn", (Command,), {}), "PayOut"):
        fault = refused(commands=commands, followed=Followed(commands=[unknown]))
        name = unknown if isinstance(unknown, str) else unknown.__name__
        assert fault == f"`followed` names what `commands` does not have: {name}"


def test_a_wrong_followed_is_refused() -> None:
    assert refused(followed=True) == "followed=True is not Followed(commands=[...])"
    for wrong in ("PayIn", PayIn):
        with pytest.raises(DeclarationError, match="is no collection of commands"):
            Followed(commands=wrong)  # type: ignore[arg-type]
