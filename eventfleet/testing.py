"""What a team tests a domain with: given events, when a command, then events or a rejection.

    opened = Opened(owner="ann", currency="EUR")
    given(bank, opened, Deposited(amount=5)).when(Withdraw(amount=3)).then(Withdrawn(amount=3))
    given(bank, opened).when(Withdraw(amount=3)).rejected("more than the balance of 0")

No server takes part. Commands and events pass the checks that the fleet makes, and each state must
come back from a snapshot as it was, and stay as it is. What a domain's own functions raise passes
through.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import ndiff
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import msgspec

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.outcomes import Rejected
from eventfleet.deciders.pending_command import rejection
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.deciders.state_command import make_events, validate_event
from eventfleet.model.command_rules import START, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, Data, Event, SchemalessPayload, State
from eventfleet.states.live_state import LiveState, take_snapshot
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import MAX_EVENT_BYTES, EventRecord

S = TypeVar("S", bound=State)
AGGREGATE = "aggregate-1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_EVENT = "is no event of the domain"


class Stored(NamedTuple):
    """An event as the store may have it, in an older schema."""

    type: type[Event] | str
    data: Data
    schema_version: int = 1


Happened = Event | SchemalessPayload | Stored | EventRecord


def given(domain: Domain[S], *events: Happened) -> "Given[S]":
    """An aggregate after these events, the oldest first. AssertionError for one that is none."""
    __tracebackhide__ = True
    aggregate = Given(domain, domain.state())
    if not events:
        aggregate.story.append("given  no event")
    for version, event in enumerate(events, 1):
        aggregate.story.append(f"given  {event!r}")
        try:
            record = _stored(domain, event, version)
        except InvalidRecord as error:
            aggregate._fail(NO_EVENT, [], [str(error)])
        aggregate._happened([record])
    return aggregate


class Given(Generic[S]):
    """An aggregate: its events, and their state."""

    def __init__(self, domain: Domain[S], state: S) -> None:
        self._domain, self._state = domain, state
        self._events: list[EventRecord] = []
        self.story: list[str] = []

    def when(self, command: Command | SchemalessPayload) -> "When[S]":
        """A command is sent; `SchemalessPayload(name, data)` in a schema-free domain."""
        __tracebackhide__ = True
        return When(self, command)

    def state(self, **fields: Any) -> S:
        """The state. AssertionError where one of these fields has another value."""
        __tracebackhide__ = True
        found = {name: getattr(self._state, name) for name in fields}
        if found != fields:
            self._fail("state", *([f"{k}={v!r}" for k, v in d.items()] for d in (fields, found)))
        return self._state

    def _happened(self, events: Sequence[EventRecord]) -> None:
        __tracebackhide__ = True
        for event in events:
            try:
                self._events.append(validate_event(self._domain, event))
            except InvalidRecord as error:
                self._fail(NO_EVENT, [], [str(error)])
            before, kept = self._state, self._domain.dump_state(self._state)
            self._state = self._domain.fold(before, self._events[-1])
            self._unchanged(before, kept, "evolve")
        live = LiveState(AGGREGATE, self._state, len(self._events))
        snapshot = take_snapshot(self._domain, live, NOW, MAX_EVENT_BYTES)
        thawed = self._domain.load_state(snapshot.state) if snapshot else None
        if thawed != self._state:
            self._fail("a snapshot does not keep the state", [repr(self._state)], [repr(thawed)])

    def _unchanged(self, state: S, kept: Data, by: str) -> None:
        __tracebackhide__ = True
        if (now := self._domain.dump_state(state)) != kept:
            self._fail(f"{by} changes the state that it is given", [repr(kept)], [repr(now)])

    def _fail(self, what: str, expected: list[str], found: list[str]) -> NoReturn:
        __tracebackhide__ = True
        difference = [line.rstrip() for line in ndiff(expected, found)]
        raise AssertionError("\n".join([*self.story, f"{what} (- expected, + found)", *difference]))


class When(Given[S]):
    """The aggregate after a command; `outcome` is what became of it."""

    def __init__(self, before: Given[S], command: Command | SchemalessPayload) -> None:
        __tracebackhide__ = True
        super().__init__(before._domain, before._state)
        self._events, self.story = [*before._events], [*before.story, f"when   {command!r}"]
        decided = self._decided(command)
        self.outcome: list[Event | SchemalessPayload] | Rejected | InvalidRecord
        if isinstance(decided, list):
            self._happened(decided)
            self.outcome = [self._domain.payload(event) for event in decided]
        else:
            self.outcome = decided

    def then(self, *events: Event | SchemalessPayload) -> "When[S]":
        """It became these events, and no other."""
        __tracebackhide__ = True
        return self._must(self.outcome == [*events], [f"then   {event!r}" for event in events])

    def rejected(self, part: str = "") -> "When[S]":
        """It was rejected; the reason has this part."""
        __tracebackhide__ = True
        reason = self.outcome.reason if isinstance(self.outcome, Rejected) else None
        return self._must(reason is not None and part in reason, [f"rejected: {part}"])

    def unreadable(self, part: str = "") -> "When[S]":
        """It was no command of the domain; what is said of it, field and reason, has this part."""
        __tracebackhide__ = True
        told = str(self.outcome) if isinstance(self.outcome, InvalidRecord) else None
        return self._must(told is not None and part in told, [f"unreadable: {part}"])

    def _must(self, holds: bool, expected: list[str]) -> "When[S]":
        __tracebackhide__ = True
        match self.outcome:
            case list(events):
                found = [f"then   {event!r}" for event in events]
            case Rejected(reason=reason):
                found = [f"rejected: {reason}"]
            case error:
                found = [f"unreadable: {error}"]
        if not holds:
            self._fail("outcome", expected, found)
        self.story += found
        return self

    def _decided(
        self, command: Command | SchemalessPayload
    ) -> list[EventRecord] | Rejected | InvalidRecord:
        domain, version = self._domain, len(self._events)
        try:
            asked = parse_command(domain, _record(domain, *_named(command), version=version + 1))
        except InvalidRecord as error:
            return error
        if isinstance(asked, ProposedEvent):
            latest = self._events[-1].type if self._events else START
            if asked.allowed is not None and latest not in asked.allowed:
                return rejection(asked.event.type, asked.allowed, latest)
        elif asked.payload is not None:
            kept = domain.dump_state(self._state)
            answer = domain.decide_events(self._state, asked.payload)
            self._unchanged(self._state, kept, "decide")
            if isinstance(answer, Rejection):
                return Rejected(answer.reason)
            return make_events(domain, asked, answer, version)
        return [asked.event]


def _stored(domain: Domain[Any], event: Happened, version: int) -> EventRecord:
    if isinstance(event, EventRecord):
        return event
    if isinstance(event, Stored):
        kind = event.type if isinstance(event.type, str) else event.type.__name__
        return _record(domain, kind, event.data, version, event.schema_version)
    name, data = _named(event)
    return _record(domain, name, data, version, domain.latest_schema_version(name))


def _named(payload: Event | Command | SchemalessPayload) -> tuple[str, Data]:
    if isinstance(payload, SchemalessPayload):
        return payload.type, payload.data
    return type(payload).__name__, msgspec.to_builtins(payload)


def _record(
    domain: Domain[Any], kind: str, data: Data, version: int, schema_version: int = 1
) -> EventRecord:
    return EventRecord(
        id=f"id-{version}",
        type=kind,
        domain=domain.name,
        aggregate_id=AGGREGATE,
        time=NOW,
        data=data,
        version=version,
        schema_version=schema_version,
    )
