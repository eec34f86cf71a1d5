"""The declaration of a domain: events, state, upcasters, commands, snapshot rule, routes.

A wrong declaration raises DeclarationError when its module is imported. A Domain does no I/O: it
checks, upcasts and folds events, and converts states to plain JSON values and back. InvalidRecord:
a record does not fit the declaration. Errors of a team's own functions pass through.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import msgspec

from eventfleet.model.command_rules import (
    CommandContext,
    CommandRule,
    Decides,
    Emits,
    Rejection,
    command_class,
    command_name,
)
from eventfleet.model.declaration import Declaration, Route, S
from eventfleet.model.declaration_checks import find_fault
from eventfleet.model.errors import DeclarationError
from eventfleet.model.payloads import Command, Data, Event, SchemalessPayload
from eventfleet.model.shapes import StateShape, fingerprint
from eventfleet.model.type_checks import is_storable
from eventfleet.model.value_copy import copy_value, mutable_fields
from eventfleet.model.views import ProjectedEvent
from eventfleet.topics.codec import convert_payload, to_invalid_record
from eventfleet.topics.errors import InvalidRecord, NewerSchema
from eventfleet.topics.event import DomainName, EventRecord, FoldableEvent
from eventfleet.topics.names import wire_name
from eventfleet.topics.values import fit_numbers

NAME_RULE = "must begin with a-z and go on with up to 99 of a-z, 0-9, _ and -"


@dataclass(frozen=True)
class Domain(Declaration[S]):
    """A domain. Without `events` it is schema-free: `evolve` gets SchemalessPayload.

    `upcasters[E]` are functions that each raise payloads of E by one schema version: the first from
    1 to 2, and so on; the newest schema version of E is therefore one more than their number.
    Change `state_version` whenever `evolve` changes its meaning: snapshots of another state version
    are rebuilt. Snapshots of a `state` of another shape are rebuilt without that.

    With `decide` the domain is synchronous: `decide` decides commands that are listed as bare
    classes or as Decides, on the latest state; commands listed as Emits are accepted as they are.

    With `followed` the HTTP service lets clients follow the aggregates over sockets.
    """

    _event_types: dict[str, tuple[type[Event], int]] = field(
        default_factory=dict, init=False, repr=False
    )

    types_by_class: dict[type[Event], tuple[str, int]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        try:
            msgspec.convert(self.name, DomainName)
        except msgspec.ValidationError:
            raise DeclarationError(f"domain {self.name!r}: the name {NAME_RULE}") from None
        if fault := find_fault(self):
            raise DeclarationError(f"domain {self.name}: {fault}")
        self._event_types.update(
            (wire_name(kind), (kind, 1 + len(self.upcasters.get(kind, ())))) for kind in self.events
        )
        self.types_by_class.update(
            (kind, (name, version)) for name, (kind, version) in self._event_types.items()
        )

    def with_topic_prefix(self, prefix: str) -> Self:
        """Return the domain as a fleet runs it whose topics begin so, those of routes included.

        DeclarationError: the name of a route's topic is too long then.
        """
        if prefix == self._topic_prefix:
            return self
        routes = [
            replace(route, to=prefix + route.to.removeprefix(self._topic_prefix))
            for route in self.routes
        ]
        return replace(self, routes=routes, _topic_prefix=prefix)

    def prepare(self) -> None:
        """Make what the first command would wait for. DeclarationError: see `state_shape`."""
        for table in ("state_shape", "needs_size", "needs_types", "_storable", "_rules", "sees"):
            getattr(self, table)
        for kind in (self.state, *self.command_classes):
            mutable_fields(kind)

    @cached_property
    def command_classes(self) -> frozenset[type]:
        """The classes of the declared commands."""
        return frozenset(kind for rule in self.commands if (kind := command_class(rule)))

    @cached_property
    def sees(self) -> dict[type[Any], Callable[[Any], Collection[str]]]:
        """The `sees` of the commands whose decisions see earlier events, by their classes."""
        return {rule.command: rule.sees for rule in self.commands if isinstance(rule, Decides)}

    @cached_property
    def needs_size(self) -> bool:
        """True when the snapshot rule uses the size of payloads."""
        return self.snapshot is not None and self.snapshot.needs_size

    @cached_property
    def needs_types(self) -> bool:
        """True when the snapshot rule uses the types of events."""
        return self.snapshot is not None and self.snapshot.needs_types

    def latest_schema_version(self, event_type: str) -> int:
        """Return the latest schema version of an event type. InvalidRecord: it is not declared."""
        return 1 if self.schema_free else self._event_type(event_type)[1]

    def routes_for(self, event_type: str) -> Sequence[Route]:
        """Return the routes that take events of this type."""
        return self._routes_by_type.get(event_type, self._routes_of_any_type)

    def for_routes(self, event: EventRecord) -> ProjectedEvent:
        """Return the event as its routes take it: upcast, and read where one of them has a `when`.

        Errors of `upcast` and `payload`.
        """
        if not any(route.is_conditional for route in self.routes_for(event.type)):
            return self.upcast(event)
        return msgspec.structs.replace(event, data=self.payload(event))

    def upcast(self, event: EventRecord) -> EventRecord:
        """Return the event with its payload in the newest schema; upcasters' errors pass through.

        Upcasters get a copy, which they may change. InvalidRecord: the type is not declared, or it
        is NewerSchema.
        """
        newest = self.latest_schema_version(event.type)
        if event.schema_version == newest:
            return event
        if event.schema_version > newest:
            known = f"this process knows version {newest} of {event.type}"
            raise NewerSchema(
                "schemaversion", f"{known}, the event has {event.schema_version}: deploy"
            )
        data: Data = msgspec.to_builtins(event.data)
        for upcast in self.upcasters[self._event_types[event.type][0]][event.schema_version - 1 :]:
            data = upcast(data)
            if not isinstance(data, dict):
                name = type(data).__name__
                raise TypeError(f"an upcaster of {event.type} returned {name}, not a dict")
        return msgspec.structs.replace(event, data=data, schema_version=newest)

    def payload(self, event: EventRecord) -> Event | SchemalessPayload:
        """Return the payload that `evolve` gets, upcast and validated.

        InvalidRecord names the field.
        """
        given: Any = event.data
        declared = self._event_types.get(event.type)
        if type(given) is dict and declared and declared[1] == event.schema_version:
            try:
                return msgspec.convert(given, declared[0], str_keys=True)
            except msgspec.ValidationError:
                return convert_payload(given, declared[0])
        if isinstance(given, Event):
            return given
        data = self.upcast(event).data
        if self.schema_free:
            return SchemalessPayload(event.type, data)
        return convert_payload(data, self._event_types[event.type][0])

    def check(self, event: EventRecord) -> None:
        """Raise InvalidRecord unless the event is this domain's and its payload fits its schema."""
        if event.domain != self.name:
            raise InvalidRecord("source", f"is {event.domain!r}, not {self.name!r}")
        self.payload(event)

    def fit_numbers(self, event: EventRecord, data: Data) -> EventRecord:
        """Return the event with this payload, whose Decimals keep their digits, as texts.

        InvalidRecord: see `fit_numbers` of values.
        """
        kind, newest = self._event_types.get(event.type, (Any, event.schema_version))
        if newest != event.schema_version:
            return event
        fitted = msgspec.to_builtins(fit_numbers(data, kind, "data"))
        return msgspec.structs.replace(event, data=fitted)

    def always_storable(self, event: EventRecord) -> bool:
        """Return whether stores can keep every payload that is valid for this event's schema."""
        return self._storable.get(event.type) == event.schema_version

    def first_state(self) -> S:
        """Return the state before any event, which shares no default with another."""
        first: S = copy_value(self.state())
        return first

    def fold(self, state: S, event: FoldableEvent) -> S:
        """Return the state after one event; errors of `evolve` and upcasters pass through.

        A discarded event changes nothing.
        """
        if type(event) is EventRecord:  # for the classes of structs `isinstance` takes longer
            if event.discarded:
                return state
            payload: Any = self.payload(event)
        else:
            payload = event.data
        after = self.evolve(state, payload)
        if not isinstance(after, self.state):
            expected = f"{type(after).__name__} for {event.type}, not {self.state.__name__}"
            raise TypeError(f"evolve returned {expected}")
        return after

    @cached_property
    def state_shape(self) -> StateShape:
        """The shape of the state, which its snapshots are found by.

        DeclarationError: a field's type can't be kept in a snapshot.
        """
        try:
            return StateShape(self.state_version, fingerprint(self.state))
        except (NameError, TypeError) as error:
            raise DeclarationError(
                f"domain {self.name}: state {self.state.__name__} can't be kept in snapshots: "
                f"{error}"
            ) from None

    def dump_state(self, state: S) -> Data:
        """Convert a state to plain JSON values, for a snapshot."""
        plain: Data = msgspec.to_builtins(state, str_keys=True, order="deterministic")
        return plain

    def load_state(self, state: Data) -> S:
        """Convert a snapshot's plain values back to a state. InvalidRecord: they no longer fit."""
        try:
            return msgspec.convert(state, self.state, str_keys=True)
        except msgspec.ValidationError as error:
            raise to_invalid_record(error, "state") from None

    @cached_property
    def _routes_of_any_type(self) -> Sequence[Route]:
        return [route for route in self.routes if not route.types]

    @cached_property
    def _routes_by_type(self) -> dict[str, Sequence[Route]]:
        return {
            name: [route for route in self.routes if not route.types or name in route.names]
            for name in {name for route in self.routes for name in route.names}
        }

    @cached_property
    def _storable(self) -> dict[str, int]:
        """The newest schema version of each event type whose class is always storable, by name."""
        return {
            name: newest for name, (kind, newest) in self._event_types.items() if is_storable(kind)
        }

    @cached_property
    def _rules(self) -> dict[str, CommandRule]:
        return {command_name(rule): rule for rule in self.commands}

    @property
    def synchronous(self) -> bool:
        """True when commands are decided on the latest state, and their events put in the store."""
        return self.decide is not None

    @property
    def commands_only(self) -> bool:
        """True for a domain with command rules, which accepts events only through commands."""
        return self.uses_marker or self.synchronous

    def rule(self, command: str) -> CommandRule:
        """Return a command's rule: its Emits, or its class. InvalidRecord: it is not declared."""
        if rule := self._rules.get(command):
            return rule
        if self.schema_free and not self.uses_marker:
            return Emits(command, command)
        known = ", ".join(sorted(self._rules)) or "none"
        raise InvalidRecord("type", f"{command!r} is not a command of {self.name}; known: {known}")

    def event_data(self, rule: Emits, data: Data) -> Data:
        """Return the payload of the event that a command becomes. InvalidRecord names the field."""
        if isinstance(rule.command, str):
            return data
        command = convert_payload(data, rule.command)
        plain: Data = msgspec.to_builtins(command, str_keys=True)
        return plain

    def decide_events(
        self, state: S, command: Command, context: CommandContext | None = None
    ) -> list[Event] | Rejection:
        """Return the result of `decide`, whose errors pass through; `context` is what it takes.

        TypeError: there is no `decide`, or it returned no event, or events not declared.
        """
        if self.decide is None:
            raise TypeError(f"domain {self.name} has no decide")
        with_context = (context,) if self.takes_context else ()
        decision = self.decide(state, command, *with_context)
        if isinstance(decision, Rejection):
            return decision
        events = [decision] if isinstance(decision, Event) else decision
        events = [*events] if isinstance(events, Iterable) else None
        if not events:
            what = "no event" if events == [] else _type_name(decision)
            expected = "return an event, a list of events or a Rejection"
            raise TypeError(f"decide returned {what} for {type(command).__name__}: {expected}")
        if undeclared := {_type_name(each) for each in events if type(each) not in self.events}:
            what = ", ".join(sorted(undeclared))
            where = f"for {type(command).__name__}, not among the events of {self.name}"
            raise TypeError(f"decide returned {what} {where}")
        return events

    def _event_type(self, event_type: str) -> tuple[type[Event], int]:
        """Return the class of an event type and its newest schema version."""
        try:
            return self._event_types[event_type]
        except KeyError:
            known = ", ".join(sorted(self._event_types))
            raise NewerSchema("type", f"{event_type!r} is not one of {known}") from None


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
