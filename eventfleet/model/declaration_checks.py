"""Finds faults of a domain's declaration: those that can be seen before there is any event."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from eventfleet.model.command_rules import START, Decides, Emits, command_class, command_name
from eventfleet.model.declaration import Declaration
from eventfleet.model.followed import Followed
from eventfleet.model.payloads import Command, Event, State
from eventfleet.model.type_checks import json_kinds
from eventfleet.model.views import Totals, check_views
from eventfleet.snapshot_rules import Rule
from eventfleet.topics.names import TOPIC_NAME, TOPIC_NAME_RULE, wire_name
from eventfleet.topics.values import MAX_ID_CHARS


def find_fault(domain: Declaration[Any]) -> str:
    """Return the first fault of a declaration, or nothing."""
    checks = (
        *(_check_state, _check_classes, _check_functions, _check_decide, _check_names),
        *(_check_types, _check_emits, _check_routes, _check_followed),
        lambda domain: check_views(domain.views),
    )
    return next(filter(None, (check(domain) for check in checks)), "")


# Classes


def _check_state(domain: Declaration[Any]) -> str:
    if not _is_class(domain.state, State):
        return f"state={domain.state!r} is not a class derived from State"
    try:
        domain.state()
    except TypeError as error:
        return f"every field of state {domain.state.__name__} needs a default: {error}"
    return ""


def _check_classes(domain: Declaration[Any]) -> str:
    for kind in domain.events:
        if not _is_class(kind, Event):
            return f"`events` has {kind!r}, which is not a class derived from Event"
    for rule in domain.commands:
        command = rule.command if isinstance(rule, Emits | Decides) else rule
        named = isinstance(command, str) and isinstance(rule, Emits)
        if not named and not _is_class(command, Command):
            return f"`commands` has {command!r}, which is not a class derived from Command"
    if domain.snapshot is not None and not isinstance(domain.snapshot, Rule):
        return f"snapshot={domain.snapshot!r} is not a snapshot rule, such as every(100)"
    return ""


def _is_class(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


# Functions


def _check_functions(domain: Declaration[Any]) -> str:
    for kind, upcasters in domain.upcasters.items():
        if not isinstance(upcasters, Sequence):
            return f"the upcasters of {wire_name(kind)} must be a list: write [{_name(upcasters)}]"
    for name, function, parameters in _functions(domain):
        if fault := _check_parameters(function, parameters):
            return f"{name} {fault}"
    return ""


def _functions(domain: Declaration[Any]) -> Iterator[tuple[str, Callable[..., Any], Sequence[str]]]:
    """Yield a team's functions, with the parameters that each is called with."""
    yield "evolve", domain.evolve, ("state", "event")
    for kind, upcasters in domain.upcasters.items():
        for number, upcaster in enumerate(upcasters, 1):
            yield f"upcaster {number} of {wire_name(kind)}", upcaster, ("data",)
    for route in domain.routes:
        yield f"`when` of the route to {route.to}", route.when, ("event",)
    for rule in domain.commands:
        if isinstance(rule, Decides):
            yield f"`sees` of {command_name(rule)}", rule.sees, ("command",)
    for view in domain.views:
        yield f"`project` of view {view.name}", view.project, ("row", "event")
        yield f"`key` of view {view.name}", view.key, ("event",)
        for totals in view.totals:
            yield from _functions_of_totals(totals)


def _functions_of_totals(
    totals: Totals[Any, Any],
) -> Iterator[tuple[str, Callable[..., Any], Sequence[str]]]:
    yield f"`group` of totals {totals.name}", totals.group, ("row",)
    yield f"`add` of totals {totals.name}", totals.add, ("total", "row")
    yield f"`remove` of totals {totals.name}", totals.remove, ("total", "row")
    yield f"`merge` of totals {totals.name}", totals.merge, ("total", "other")


def _check_parameters(function: object, parameters: Sequence[str]) -> str:
    if not callable(function):
        return f"is {function!r}, which is no function"
    if inspect.iscoroutinefunction(function):
        return "must be a plain function, not an async one: it does no I/O"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return ""
    try:
        signature.bind(*parameters)
    except TypeError:
        return f"must take ({', '.join(parameters)}), not {signature}"
    return ""


def _name(function: object) -> str:
    return getattr(function, "__name__", repr(function))


# Commands


def _check_decide(domain: Declaration[Any]) -> str:
    decided = [rule for rule in domain.commands if not isinstance(rule, Emits)]
    bare = sorted(map(command_name, decided))
    if domain.decide is None:
        how = "give the domain `decide`, or declare them with Emits"
        return f"nothing decides the commands {', '.join(bare)}: {how}" if bare else ""
    if domain.schema_free:
        return "`decide` needs declared events: list them in `events`"
    if domain.uses_marker:
        names = ", ".join(rule.name for rule in domain.emits if rule.after is not None)
        return f"either `decide` or `after` decides commands, never both; `after` has: {names}"
    if not domain.takes_context and any(isinstance(rule, Decides) for rule in decided):
        return "Decides is for a `decide` that takes (state, command, context)"
    return "" if bare else "`decide` has no command to decide: list their classes in `commands`"


def _check_emits(domain: Declaration[Any]) -> str:
    """Find commands whose payload can never be that of their event."""
    for rule in domain.emits:
        classes = not isinstance(rule.command, str) and not isinstance(rule.event, str)
        if classes and (fault := _find_difference(rule.command, rule.event)):
            return f"{rule.name} can't become {rule.type}: {fault}"
    return ""


def _find_difference(command: Any, event: Any) -> str:
    given = {field.encode_name: field for field in msgspec.structs.fields(command)}
    taken = {field.encode_name: field for field in msgspec.structs.fields(event)}
    needed = {name for name, field in taken.items() if field.required}
    if missing := sorted(needed - given.keys()):
        return f"the event needs {', '.join(missing)}, which the command does not have"
    if unknown := sorted(given.keys() - taken.keys()):
        return f"the event does not have {', '.join(unknown)}, which the command has"
    for name in given.keys() & taken.keys():
        kinds, accepted = json_kinds(given[name].type), json_kinds(taken[name].type)
        if kinds and accepted and not kinds & accepted:
            one, other = "/".join(sorted(kinds)), "/".join(sorted(accepted))
            return f"{name} is {one} in the command, and {other} in the event"
    return ""


def _check_followed(domain: Declaration[Any]) -> str:
    if domain.followed is None:
        return ""
    if not isinstance(domain.followed, Followed):
        return f"followed={domain.followed!r} is not Followed(commands=[...])"
    declared = {*map(command_name, domain.commands), *map(command_class, domain.commands)}
    if unknown := sorted({wire_name(c) for c in domain.followed.commands if c not in declared}):
        return f"`followed` names what `commands` does not have: {', '.join(unknown)}"
    return ""


# Names


def _check_names(domain: Declaration[Any]) -> str:
    for kind in domain.events:
        if not 1 <= len(name := wire_name(kind)) <= MAX_ID_CHARS or "\0" in name:
            limit = f"1 to {MAX_ID_CHARS} characters without a NUL"
            return f"event {kind.__name__}: event_type={name!r} must be {limit}"
    names = {
        "events": Counter(map(wire_name, domain.events)),
        "commands": Counter(map(command_name, domain.commands)),
    }
    for field_name, counts in names.items():
        if repeated := sorted(name for name, times in counts.items() if times > 1):
            return f"`{field_name}` has two of the same name: {', '.join(repeated)}"
    return ""


def _check_types(domain: Declaration[Any]) -> str:
    """Find types that are named, but not declared; a class must be the declared class."""
    named: dict[str, list[type[Event] | str]] = {"upcasters": [*domain.upcasters]}
    if not domain.schema_free:
        named["routes"] = [kind for route in domain.routes for kind in route.types]
        named["snapshot"] = [*domain.snapshot.types] if domain.snapshot else []
        named["commands"] = [rule.event for rule in domain.emits]
        for rule in domain.emits:
            named["commands"] += [kind for kind in rule.after or () if kind != START]
    declared = {*domain.events, *map(wire_name, domain.events)}
    for field_name, kinds in named.items():
        if undeclared := sorted({wire_name(kind) for kind in kinds if kind not in declared}):
            return f"`{field_name}` names what `events` does not have: {', '.join(undeclared)}"
    return ""


def _check_routes(domain: Declaration[Any]) -> str:
    """Fleet-owned topics have one writer; anyone may write to `commands`."""
    owned = {*domain.topics} - {domain.topics.commands}
    targets = [route.to for route in domain.routes]
    for to in targets:
        if targets.count(to) > 1:
            return f"two routes lead to {to}: join them to one, or it gets events twice"
        if not re.fullmatch(TOPIC_NAME, to):
            return f"a route leads to {to!r}, which is not a valid topic name: {TOPIC_NAME_RULE}"
        if to in owned:
            return f"a route leads to {to}, which only the fleet itself writes to"
    return ""
