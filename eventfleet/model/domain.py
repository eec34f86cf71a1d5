"""The declaration of a domain: events, state, upcasters, snapshot rule, routes.

What can be seen to be wrong is refused when the module is imported. A Domain does no I/O: it
checks, lifts and folds events, and turns states into plain JSON values and back. A record that
does not fit is InvalidRecord; what a team's own functions raise passes through.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from eventfleet.model.command_rules import (
    START,
    CommandRule,
    Decide,
    Emits,
    Rejection,
    command_name,
)
from eventfleet.model.payloads import Command, Data, Event, SchemalessPayload, State
from eventfleet.model.type_checks import is_storable
from eventfleet.snapshot_rules import Rule
from eventfleet.topics.codec import convert, to_invalid_record
from eventfleet.topics.errors import EventfleetError, InvalidRecord
from eventfleet.topics.event import DomainName, EventRecord, FoldableEvent
from eventfleet.topics.names import TOPIC_NAME, Topics

Upcaster = Callable[[Data], Data]
S = TypeVar("S", bound=State)


class DeclarationError(EventfleetError):
    """A domain is declared wrongly."""


def any_event(event: EventRecord) -> bool:
    """The filter of a route that takes every event."""
    return True


@dataclass(frozen=True)
class Route:
    """Events of `types` (all, when empty) for which `when` holds go to the topic `to`.

    `when` sees the event with its payload lifted to the newest schema. Events keep their key, so
    they stay in version order per aggregate.
    """

    to: str
    types: frozenset[type[Event] | str] = frozenset()
    when: Callable[[EventRecord], bool] = any_event

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(t if isinstance(t, str) else t.__name__ for t in self.types)


@dataclass(frozen=True)
class Domain(Generic[S]):
    """One domain. Without `events` it is schema-free: evolve gets `SchemalessPayload`.

    `upcasters[E]` lifts payloads of E one schema version each: the first from 1 to 2, and so on;
    the newest schema version of E is therefore one more than their number. Change `state_version`
    whenever `state` or `evolve` change their meaning: snapshots of another one are rebuilt.

    With `decide` the domain is synchronous: those of its `commands` that are bare classes are
    decided by it on the latest state; the others are accepted as they are.
    """

    name: str
    state: type[S]
    evolve: Callable[[S, Any], S]
    events: Sequence[type[Event]] = ()
    upcasters: Mapping[type[Event], Sequence[Upcaster]] = field(default_factory=dict)
    snapshot: Rule | None = None
    routes: Sequence[Route] = ()
    state_version: int = 1
    commands: Sequence[CommandRule] = ()
    decide: Decide | None = None
    _known: dict[str, tuple[type[Event], int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            msgspec.convert(self.name, DomainName)
            self.state()
        except (msgspec.ValidationError, TypeError) as error:
            raise DeclarationError(f"domain {self.name!r}: {error}") from None
        self._known.update(
            (kind.__name__, (kind, 1 + len(self.upcasters.get(kind, ())))) for kind in self.events
        )
        checks = (self._undecided, self._doubled, self._strangers, self._misrouted)
        for problem in (check() for check in checks):
            if problem:
                raise DeclarationError(f"domain {self.name}: {problem}")

    @cached_property
    def schema_free(self) -> bool:
        return not self.events

    @cached_property
    def needs_size(self) -> bool:
        """Whether its snapshot rule looks at the size of payloads."""
        return self.snapshot is not None and self.snapshot.needs_size

    @cached_property
    def needs_types(self) -> bool:
        """Whether its snapshot rule looks at the types of events."""
        return self.snapshot is not None and self.snapshot.needs_types

    def latest_schema_version(self, event_type: str) -> int:
        """The latest schema version of an event type. InvalidRecord: the type is not declared."""
        return 1 if self.schema_free else self._declared(event_type)[1]

    def routes_for(self, event_type: str) -> Sequence[Route]:
        """Those for events of this type."""
        return self._routes_by_type.get(event_type, self._routes_of_all)

    def upcast(self, event: EventRecord) -> EventRecord:
        """The event with its payload in the newest schema; what an upcaster raises passes through.

        Upcasters get a copy: one that changes what it is given changes nothing else. InvalidRecord
        for an undeclared type or a schema version not known yet.
        """
        newest = self.latest_schema_version(event.type)
        if event.schema_version == newest:
            return event
        if event.schema_version > newest:
            known = f"the newest known of {event.type} is {newest}"
            raise InvalidRecord("schemaversion", f"is {event.schema_version}, {known}")
        data: Data = msgspec.to_builtins(event.data)
        for upcast in self.upcasters[self._known[event.type][0]][event.schema_version - 1 :]:
            data = upcast(data)
            if not isinstance(data, dict):
                name = type(data).__name__
                raise TypeError(f"an upcaster of {event.type} returned {name}, not a dict")
        return msgspec.structs.replace(event, data=data, schema_version=newest)

    def payload(self, event: EventRecord) -> Event | SchemalessPayload:
        """What evolve gets: the lifted payload, validated. InvalidRecord names the field."""
        given: Any = event.data
        known = self._known.get(event.type)
        if type(given) is dict and known and known[1] == event.schema_version:
            try:
                return msgspec.convert(given, known[0])
            except msgspec.ValidationError as error:
                raise to_invalid_record(error, "data") from None
        if isinstance(given, Event):
            return given
        data = self.upcast(event).data
        if self.schema_free:
            return SchemalessPayload(event.type, data)
        return convert(data, self._known[event.type][0], "data")

    def check(self, event: EventRecord) -> None:
        """InvalidRecord unless the event belongs here and its payload fits its schema."""
        if event.domain != self.name:
            raise InvalidRecord("source", f"is {event.domain!r}, not {self.name!r}")
        self.payload(event)

    def always_storable(self, event: EventRecord) -> bool:
        """Whether each payload that fits this event's schema is one that every store can keep."""
        return self._storable.get(event.type) == event.schema_version

    def fold(self, state: S, event: FoldableEvent) -> S:
        """The state after one event; what evolve or an upcaster raises passes through."""
        payload = self.payload(event) if isinstance(event, EventRecord) else event.data
        after = self.evolve(state, payload)
        if not isinstance(after, self.state):
            expected = f"{type(after).__name__} for {event.type}, not {self.state.__name__}"
            raise TypeError(f"evolve returned {expected}")
        return after

    def dump_state(self, state: S) -> Data:
        """The state as plain JSON values, for a snapshot."""
        plain: Data = msgspec.to_builtins(state, str_keys=True, order="deterministic")
        return plain

    def load_state(self, state: Data) -> S:
        """The state back from a snapshot. InvalidRecord when it no longer fits."""
        try:
            return msgspec.convert(state, self.state, str_keys=True)
        except msgspec.ValidationError as error:
            raise to_invalid_record(error, "state") from None

    @cached_property
    def _routes_of_all(self) -> Sequence[Route]:
        return [route for route in self.routes if not route.types]

    @cached_property
    def _routes_by_type(self) -> dict[str, Sequence[Route]]:
        return {
            name: [route for route in self.routes if not route.types or name in route.names]
            for name in {name for route in self.routes for name in route.names}
        }

    @cached_property
    def _storable(self) -> dict[str, int]:
        """The newest schema version of each event type whose class says so, by name."""
        return {name: newest for name, (kind, newest) in self._known.items() if is_storable(kind)}

    @cached_property
    def _rules(self) -> dict[str, CommandRule]:
        return {command_name(declared): declared for declared in self.commands}

    @cached_property
    def _emitting(self) -> list[Emits]:
        return [declared for declared in self.commands if isinstance(declared, Emits)]

    @property
    def synchronous(self) -> bool:
        """Whether commands are decided on the latest state, and their events put in the store."""
        return self.decide is not None

    @cached_property
    def uses_marker(self) -> bool:
        """Whether a command of this domain has a rule, on the marker."""
        return any(rule.after is not None for rule in self._emitting)

    @property
    def commands_only(self) -> bool:
        """Whether its events come from commands alone, for these are judged."""
        return self.uses_marker or self.synchronous

    def rule(self, command: str) -> CommandRule:
        """The rule of a command: its `Emits`, or its class. InvalidRecord: it is not declared."""
        if rule := self._rules.get(command):
            return rule
        if self.schema_free and not self.uses_marker:
            return Emits(command, command)
        known = ", ".join(sorted(self._rules)) or "none"
        raise InvalidRecord("type", f"{command!r} is not a command of {self.name}; known: {known}")

    def event_data(self, rule: Emits, data: Data) -> Data:
        """The payload of the event that a command becomes. InvalidRecord names the field."""
        if isinstance(rule.command, str):
            return data
        command = convert(data, rule.command, at="data")
        plain: Data = msgspec.to_builtins(command)
        return plain

    def decide_events(self, state: S, command: Command) -> list[Event] | Rejection:
        """What `decide` answers; what it raises passes through, as does an answer that is none."""
        if self.decide is None:
            raise TypeError(f"{self.name} has no decide")
        answer = self.decide(state, command)
        if isinstance(answer, Rejection):
            return answer
        events = [answer] if isinstance(answer, Event) else [*answer]
        strangers = {type(e).__name__ for e in events if type(e) not in self.events}
        if strangers or not events:
            what = ", ".join(sorted(strangers)) or "no event"
            raise TypeError(f"decide answered {type(command).__name__} with {what}")
        return events

    def _undecided(self) -> str:
        decided = sorted(c.__name__ for c in self.commands if not isinstance(c, Emits))
        if self.decide is None:
            return f"needs decide for: {', '.join(decided)}" if decided else ""
        if self.schema_free:
            return "decide needs declared events"
        if self.uses_marker:
            return "a command has `after` and the domain has decide: a domain has one of both"
        return "" if decided else "decide has no command to decide"

    def _doubled(self) -> str:
        names = {
            "events": Counter(kind.__name__ for kind in self.events),
            "commands": Counter(command_name(declared) for declared in self.commands),
        }
        for what, counts in names.items():
            if doubled := sorted(name for name, times in counts.items() if times > 1):
                return f"two {what} have the same name: {', '.join(doubled)}"
        return ""

    def _strangers(self) -> str:
        named: list[type[Event] | str] = [*self.upcasters]
        if not self.schema_free:
            named += [kind for route in self.routes for kind in route.types]
            named += self.snapshot.types if self.snapshot else ()
            named += [rule.event for rule in self._emitting]
            named += [kind for rule in self._emitting for kind in rule.after or () if kind != START]
        known = {*self.events, *self._known}
        strangers = {t if isinstance(t, str) else t.__name__ for t in named if t not in known}
        return f"not among its events: {', '.join(sorted(strangers))}" if strangers else ""

    def _misrouted(self) -> str:
        """Own topics have one writer each; only commands are anyone's to send."""
        topics = Topics.of(self.name)
        own = {*topics} - {topics.commands}
        targets = [route.to for route in self.routes]
        for to in targets:
            if targets.count(to) > 1:
                return f"two routes lead to {to}; one with both conditions sends an event once"
            if not re.fullmatch(TOPIC_NAME, to):
                return f"a route leads to {to!r}, which is no name of a topic"
            if to in own:
                return f"a route leads to its own topic {to}"
        return ""

    def _declared(self, event_type: str) -> tuple[type[Event], int]:
        """Its class and its newest schema version."""
        try:
            return self._known[event_type]
        except KeyError:
            known = ", ".join(sorted(self._known))
            raise InvalidRecord("type", f"{event_type!r} is not one of {known}") from None
