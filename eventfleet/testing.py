"""Tests a domain without servers: given events, when a command, then events or a rejection.

    opened = Opened(owner="ann", currency="EUR")
    given(bank, opened, Deposited(amount=5)).when(Withdraw(amount=3)).then(Withdrawn(amount=3))
    given(bank, opened).when(Withdraw(amount=3)).rejected("more than the balance of 0")

Given events, views have rows, and totals over many aggregates:

    given(bank, opened, Deposited(amount=5)).row("accounts", balance=5)
    totals("deposits", given(bank, opened), given(bank, opened, Deposited(amount=5)))

Routes pass events on, and the snapshot rule makes snapshots:

    given(bank, opened, Deposited(amount=5)).routed("bank.bookings", Deposited(amount=5))
    given(bank, opened, Closed()).snapshots(2)

Commands and events pass the same checks as in the fleet. Each state must survive a snapshot
unchanged, and no function may modify the state or the row that it is given. Errors of a domain's
own functions pass through.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import ndiff
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar

import msgspec
from msgspec.structs import replace

from eventfleet.deciders.command_parser import parse_command
from eventfleet.deciders.expected_version import is_expected, version_conflict
from eventfleet.deciders.outcomes import Rejected, VersionConflict
from eventfleet.deciders.pending_command import rejection
from eventfleet.deciders.proposed_event import ProposedEvent
from eventfleet.deciders.state_command import (
    StateCommand,
    make_context,
    make_events,
    seen_event_ids,
    validate_event,
)
from eventfleet.model.command_rules import START, Rejection
from eventfleet.model.domain import Domain
from eventfleet.model.folded_view import FoldedView, ModifiedRow
from eventfleet.model.payloads import Command, Data, Event, SchemalessPayload, State
from eventfleet.model.view_functions import row_id
from eventfleet.model.view_rows import UnstorableRow
from eventfleet.model.views import Row, Table, Totals, View, find_table
from eventfleet.states.live_state import LiveState, reload_state
from eventfleet.states.view_reader import UnknownView
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import (
    MAX_EVENT_BYTES,
    CommandRecord,
    EventRecord,
    ExpectedVersion,
    Position,
    event_id,
)
from eventfleet.topics.names import wire_name

S = TypeVar("S", bound=State)
AGGREGATE = "aggregate-1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AN_EVENT = "is not an event of the domain"


class StoredEvent(NamedTuple):
    """An event as it was stored, such as in an older schema."""

    type: type[Event] | str
    data: Data
    schema_version: int = 1


GivenEvent = Event | SchemalessPayload | StoredEvent | EventRecord


def given(domain: Domain[S], *events: GivenEvent) -> "Given[S]":
    """Return an aggregate after these events, the oldest first.

    AssertionError: one of them is not an event of the domain.
    """
    __tracebackhide__ = True
    aggregate = Given(domain, domain.state())
    if not events:
        aggregate.story.append("given  no event")
    for version, event in enumerate(events, 1):
        aggregate.story.append(f"given  {event!r}")
        try:
            record = _stored(domain, event, version)
        except InvalidRecord as error:
            aggregate._fail(NOT_AN_EVENT, [], [str(error)])
        aggregate._apply([record])
    return aggregate


def totals(name: str, *aggregates: "Given[Any]") -> list[Row]:
    """Return the totals of a name over these aggregates of a domain, as queries show them.

    Every second aggregate is in another partition: their parts are merged.
    """
    __tracebackhide__ = True
    if not aggregates:
        return []
    view, table = aggregates[0].table(name)
    if not isinstance(table, Totals):
        raise TypeError(f"{name} is a view: ask for its rows, given(...).row({name!r})")
    folded = FoldedView(view)
    for number, aggregate in enumerate(aggregates, 1):
        aggregate.fold_view(folded, f"aggregate-{number}", number % 2)
    return folded.totals(table)


class Given(Generic[S]):
    """An aggregate: its events, and their state."""

    def __init__(self, domain: Domain[S], state: S) -> None:
        self._domain, self._state = domain, state
        self._events: list[EventRecord] = []
        self.story: list[str] = []

    def when(
        self,
        command: Command | SchemalessPayload,
        *,
        expected_version: ExpectedVersion | None = None,
        command_id: str = "",
        actor: str | None = None,
        time: datetime = NOW,
    ) -> "When[S]":
        """Send a command; in a schema-free domain, `SchemalessPayload(name, data)`.

        With an `expected_version` it holds for an aggregate of this version only. The rest is for a
        `decide` that takes a CommandContext. The command of the event with version N has the id
        `id-N`, unless it gets another.

        AssertionError: the command before it became no event, which nothing has asserted.
        """
        __tracebackhide__ = True
        self._check_asserted()
        name, data = _named(command)
        record = CommandRecord(
            id=command_id or _command_id(len(self._events) + 1),
            type=name,
            domain=self._domain.name,
            aggregate_id=AGGREGATE,
            time=time,
            data=data,
            actor=actor,
            expected_version=expected_version,
        )
        return When(self, command, record)

    def state(self, **fields: Any) -> S:
        """Return the state. AssertionError: one of these fields has another value."""
        __tracebackhide__ = True
        self._check_asserted()
        self._check_fields("state", self._state, fields)
        return self._state

    def row(self, view: str, key: str = "", /, **fields: Any) -> Row | None:
        """Return a row of a view; None without one. AssertionError: one of these fields has
        another value, or there is no row that has them."""
        __tracebackhide__ = True
        declared, table = self.table(view)
        if isinstance(table, Totals):
            raise TypeError(f"{view} has totals of many aggregates: ask totals({view!r}, ...)")
        folded = FoldedView(declared)
        self.fold_view(folded, AGGREGATE)
        row = folded.rows.get(row_id(AGGREGATE, key))
        if fields and row is None:
            self._fail(f"row of {view}", [f"{k}={v!r}" for k, v in fields.items()], ["no row"])
        self._check_fields(f"row of {view}", row, fields)
        return row

    def routed(self, to: str, *events: Event | SchemalessPayload) -> Self:
        """Assert that a route passes these of the aggregate's events on, and no other."""
        __tracebackhide__ = True
        self._check_asserted()
        topics = {route.to for route in self._domain.routes}
        if to not in topics:
            self._fail("the domain's routes do not lead there", sorted(topics), [to])
        passed_on = [
            self._domain.payload(event)
            for event in self._events
            for route in self._domain.routes_for(event.type)
            if route.to == to and route.takes(self._domain.for_routes(event))
        ]
        if passed_on != [*events]:
            self._fail(f"route to {to}", *([*map(repr, each)] for each in (events, passed_on)))
        return self

    def snapshots(self, *versions: int, later: timedelta = timedelta()) -> Self:
        """Assert that the snapshot rule, asked after each event, makes snapshots of these versions.

        It is also asked when, after the last event, the time `later` has passed.
        """
        __tracebackhide__ = True
        self._check_asserted()
        if (rule := self._domain.snapshot) is None:
            raise TypeError(f"{self._domain.name} has no snapshot rule")
        live, taken, now = LiveState(AGGREGATE, self._domain.first_state()), [], NOW
        for event in self._events:
            now = max(now, event.time)
            live.fold(self._domain, event, now)
            if live.is_due(rule, now):
                taken.append(live.version)
                live.record_snapshot(now)
        if live.is_due(rule, now + later):
            taken.append(live.version)
        if taken != [*versions]:
            self._fail("snapshots", *([f"version {v}" for v in made] for made in (versions, taken)))
        return self

    def table(self, name: str) -> tuple[View[Any], Table]:
        """Return a view, or totals, of a name, with its view. UnknownView."""
        found = find_table(self._domain.views, name)
        if found is None:
            raise UnknownView(self._domain, name)
        return found

    def fold_view(self, view: FoldedView, aggregate_id: str, partition: int = 0) -> None:
        """Apply the events to a view, as those of an aggregate of this id."""
        __tracebackhide__ = True
        self._check_asserted()
        for version, event in enumerate(self._events, 1):
            projected = replace(
                event,
                aggregate_id=aggregate_id,
                version=version,
                position=str(Position(0, partition, version)),
                data=self._domain.payload(event),
            )
            try:
                view.apply(projected, partition)
            except (ModifiedRow, UnstorableRow) as error:
                self._fail("a view that no role can keep", [], [str(error)])

    def _check_asserted(self) -> None:
        """Do nothing: no command came before."""

    def _check_fields(self, what: str, found: object, fields: dict[str, Any]) -> None:
        __tracebackhide__ = True
        values = {name: getattr(found, name) for name in fields}
        if values != fields:
            self._fail(what, *([f"{k}={v!r}" for k, v in d.items()] for d in (fields, values)))

    def _apply(self, events: Sequence[EventRecord]) -> None:
        __tracebackhide__ = True
        for event in events:
            try:
                self._events.append(validate_event(self._domain, event))
            except InvalidRecord as error:
                self._fail(NOT_AN_EVENT, [], [str(error)])
            before, dumped = self._state, self._domain.dump_state(self._state)
            self._state = self._domain.fold(before, self._events[-1])
            self._check_unchanged(before, dumped, "evolve")
        live = LiveState(AGGREGATE, self._state, len(self._events))
        loaded = reload_state(self._domain, live, MAX_EVENT_BYTES)
        if loaded != self._state:
            self._fail("a snapshot does not keep the state", [repr(self._state)], [repr(loaded)])

    def _check_unchanged(self, state: S, dumped: Data, by: str) -> None:
        __tracebackhide__ = True
        if (now := self._domain.dump_state(state)) != dumped:
            self._fail(f"{by} modifies the state that it is given", [repr(dumped)], [repr(now)])

    def _fail(self, what: str, expected: list[str], found: list[str]) -> NoReturn:
        __tracebackhide__ = True
        difference = [line.rstrip() for line in ndiff(expected, found)]
        raise AssertionError("\n".join([*self.story, f"{what} (- expected, + found)", *difference]))


Outcome = list[Event | SchemalessPayload] | Rejected | VersionConflict | InvalidRecord


class When(Given[S]):
    """An aggregate after a command.

    A command that became no event must be asserted to, or its `outcome` be looked at, before the
    test goes on.
    """

    def __init__(
        self,
        before: Given[S],
        command: Command | SchemalessPayload,
        record: CommandRecord,
    ) -> None:
        __tracebackhide__ = True
        super().__init__(before._domain, before._state)
        expected = record.expected_version
        at = "" if expected is None else f" expecting version {expected}"
        self._events, self.story = [*before._events], [*before.story, f"when   {command!r}{at}"]
        decided = self._decide(record)
        self._outcome: Outcome
        if isinstance(decided, list):
            self._apply(decided)
            self._outcome = [self._domain.payload(event) for event in decided]
        else:
            self._outcome = decided
        self._asserted = isinstance(self._outcome, list)

    @property
    def outcome(self) -> Outcome:
        """The events that the command became, or why it became none."""
        self._asserted = True
        return self._outcome

    def then(self, *events: Event | SchemalessPayload) -> "When[S]":
        """Assert that the command became these events, and no other."""
        __tracebackhide__ = True
        return self._check(self.outcome == [*events], [f"then   {event!r}" for event in events])

    def rejected(self, part: str = "") -> "When[S]":
        """Assert that the command was rejected, for a reason that contains `part`."""
        __tracebackhide__ = True
        reason = self.outcome.reason if isinstance(self.outcome, Rejected) else None
        return self._check(reason is not None and part in reason, [f"rejected: {part}"])

    def conflict(self, version: int) -> "When[S]":
        """Assert that the command expects another version, and that the present one is this."""
        __tracebackhide__ = True
        found = self.outcome.version if isinstance(self.outcome, VersionConflict) else None
        return self._check(found == version, [f"conflict: at version {version}"])

    def invalid(self, part: str = "") -> "When[S]":
        """Assert that the command is not valid; the error, `field: reason`, contains `part`."""
        __tracebackhide__ = True
        error = str(self.outcome) if isinstance(self.outcome, InvalidRecord) else None
        return self._check(error is not None and part in error, [f"invalid: {part}"])

    def _check(self, holds: bool, expected: list[str]) -> "When[S]":
        __tracebackhide__ = True
        found = self._found()
        if not holds:
            self._fail("outcome", expected, found)
        self.story += found
        return self

    def _check_asserted(self) -> None:
        __tracebackhide__ = True
        if not self._asserted:
            self._fail("an outcome that nothing asserts", ["then   events"], self._found())

    def _found(self) -> list[str]:
        """The outcome, as the story tells it."""
        match self._outcome:
            case list(events):
                return [f"then   {event!r}" for event in events]
            case Rejected(reason=reason):
                return [f"rejected: {reason}"]
            case VersionConflict(version=version):
                return [f"conflict: at version {version}"]
            case error:
                return [f"invalid: {error}"]

    def _decide(
        self, command: CommandRecord
    ) -> list[EventRecord] | Rejected | VersionConflict | InvalidRecord:
        domain, version, expected = self._domain, len(self._events), command.expected_version
        try:
            parsed = parse_command(domain, command)
        except InvalidRecord as error:
            return error
        if isinstance(parsed, ProposedEvent):
            latest = self._events[-1].type if self._events else START
            if parsed.allowed is not None and latest not in parsed.allowed:
                return rejection(parsed.event.type, parsed.allowed, latest)
            return [parsed.event]
        if expected is not None and not is_expected(version, expected):
            return version_conflict(domain.name, AGGREGATE, expected, version)
        return self._decide_on_state(parsed, version)

    def _decide_on_state(self, command: StateCommand, version: int) -> list[EventRecord] | Rejected:
        domain = self._domain
        if command.payload is None:
            return [replace(command.event, version=version + 1)]
        dumped = domain.dump_state(self._state)
        ids = seen_event_ids(domain, command)
        seen = {ids[event.id]: event for event in self._events if event.id in ids}
        context = make_context(domain, command, seen)
        decision = domain.decide_events(self._state, command.payload, context)
        self._check_unchanged(self._state, dumped, "decide")
        if isinstance(decision, Rejection):
            return Rejected(decision.reason)
        return make_events(domain, command, decision, version)


def _stored(domain: Domain[Any], event: GivenEvent, version: int) -> EventRecord:
    if isinstance(event, EventRecord):
        return event
    if isinstance(event, StoredEvent):
        kind = wire_name(event.type)
        return _record(domain, kind, event.data, version, event.schema_version)
    name, data = _named(event)
    return _record(domain, name, data, version, domain.latest_schema_version(name))


def _named(payload: Event | Command | SchemalessPayload) -> tuple[str, Data]:
    if isinstance(payload, SchemalessPayload):
        return payload.type, payload.data
    return wire_name(type(payload)), msgspec.to_builtins(payload, str_keys=True)


def _record(
    domain: Domain[Any], kind: str, data: Data, version: int, schema_version: int = 1
) -> EventRecord:
    return EventRecord(
        id=event_id(domain.name, AGGREGATE, _command_id(version)),
        type=kind,
        domain=domain.name,
        aggregate_id=AGGREGATE,
        time=NOW,
        data=data,
        version=version,
        schema_version=schema_version,
    )


def _command_id(version: int) -> str:
    """The id of the command that the event of a version comes of."""
    return f"id-{version}"
