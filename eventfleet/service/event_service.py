"""EventService: the commands and the queries of one domain, in one object.

async with event_service(load_settings(), orders) as service:
    outcome = await service.send("order-1", Pay(amount=1999))
    order = await service.latest("order-1")
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, overload

import msgspec

from eventfleet.deciders.command_parser import ParsedCommand, parse_decoded_command
from eventfleet.deciders.decider import Decider
from eventfleet.deciders.fast_command_decoder import FastCommandDecoder
from eventfleet.deciders.outcomes import Outcome
from eventfleet.model.domain import Domain
from eventfleet.model.payloads import Command, State
from eventfleet.model.views import Row
from eventfleet.service.command_batcher import CommandBatcher
from eventfleet.service.stage_waiter import CommandFollower, WaitResult
from eventfleet.states.querier import MissingEvents, Querier, StateAt, StateDiff
from eventfleet.states.view_reader import DEFAULT_PAGE_ROWS, RowPage
from eventfleet.stores.contracts import Clock, IdGenerator, Page, Snapshot, Stage
from eventfleet.topics.codec import decode_command, encode, encode_digits, require_finite_numbers
from eventfleet.topics.errors import InvalidRecord
from eventfleet.topics.event import CommandRecord, EventKey, EventRecord, ExpectedVersion, event_id

TIMEOUT_SECONDS = 10.0

S = TypeVar("S", bound=State)


class CommandAttributes(TypedDict, total=False):
    """Attributes of a command, for its events to carry."""

    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    traceparent: str | None


class SendOptions(CommandAttributes, total=False):
    """Options of `send`; `timeout` is in seconds, TIMEOUT_SECONDS by default."""

    command_id: str | None
    is_new: bool
    time: datetime | None
    expected_version: ExpectedVersion | None
    timeout: float


class EventService(Generic[S]):
    """Used as `async with`, in one event loop; any number of tasks may send and query at once.

    Commands sent at the same time are decided together; an aggregate's commands are decided one
    after the other, as they were sent (see CommandBatcher). Queries are answered by a Querier.
    """

    def __init__(
        self,
        domain: Domain[S],
        decider: Decider,
        queries: Querier[S],
        clock: Clock,
        ids: IdGenerator,
        follower: CommandFollower | None = None,
    ) -> None:
        """Without a `follower`, `send` can't wait for a stage. `outcomes` counts the commands."""
        self.queries = queries
        self._domain, self._clock, self._ids = domain, clock, ids
        self._decoder = FastCommandDecoder(domain)
        self._batcher = CommandBatcher(decider)
        self.outcomes = self._batcher.outcomes
        self._optional_follower = follower

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Answer Unavailable to every command that is not decided yet."""
        await self._batcher.__aexit__(*exc_info)

    # Commands

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: Command,
        *,
        wait: None = None,
        patience: float = TIMEOUT_SECONDS,
        **options: Unpack[SendOptions],
    ) -> Outcome: ...

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: Command,
        *,
        wait: Stage,
        patience: float = TIMEOUT_SECONDS,
        **options: Unpack[SendOptions],
    ) -> WaitResult: ...

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        wait: None = None,
        patience: float = TIMEOUT_SECONDS,
        **options: Unpack[SendOptions],
    ) -> Outcome: ...

    @overload
    async def send(
        self,
        aggregate_id: str,
        command: str,
        data: dict[str, Any],
        *,
        wait: Stage,
        patience: float = TIMEOUT_SECONDS,
        **options: Unpack[SendOptions],
    ) -> WaitResult: ...

    async def send(
        self,
        aggregate_id: str,
        command: Command | str,
        data: dict[str, Any] | None = None,
        *,
        wait: Stage | None = None,
        patience: float = TIMEOUT_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        command_id: str | None = None,
        is_new: bool = False,
        time: datetime | None = None,
        expected_version: ExpectedVersion | None = None,
        **attributes: Unpack[CommandAttributes],
    ) -> Outcome | WaitResult:
        """Decide one command; Unavailable after `timeout` seconds at the latest.

        `command` is an object of one of the domain's command classes, or a command's name, with
        its `data`. Both are validated alike: InvalidRecord names the invalid field, `type` for a
        command that the domain does not declare.

        A command with the same `command_id` is the same command: one that was accepted before is
        Repeated. Without a `command_id` the command gets a new one, which spares a look into the
        store; so does `is_new`, which says that the `command_id` was made for this call.

        `time`, now by default, becomes that of the events: for what happened before it was sent.
        It needs a time zone, and is cut to milliseconds.

        With an `expected_version` the command holds for an aggregate of this version only (0: one
        without events, "*": one with events): where it is at another, nothing is done and the
        outcome is VersionConflict, with the present one. A repeat of an accepted command is
        Repeated all the same. For synchronous domains; InvalidRecord in another.

        With `wait` the answer is a WaitResult: the outcome, and the stage that was reached within
        `patience` seconds of the call.
        """
        ends = asyncio.get_running_loop().time() + patience
        name, payload = (command, data) if isinstance(command, str) else self._typed(command, data)
        identity = self._ids.new() if command_id is None else command_id
        first, reply_to = "", None
        if wait is not None:
            first = event_id(self._domain.name, aggregate_id, identity)
            reply_to = self._follower.reply_to(first, wait)
        envelope = CommandRecord(
            id=identity,
            type=name,
            domain=self._domain.name,
            aggregate_id=aggregate_id,
            time=time or self._clock.now(),
            data=payload,  # type: ignore[arg-type]  # encoded and validated by _parse
            reply_to=reply_to,
            expected_version=expected_version,
            **attributes,
        )
        parsed = self._parse(envelope, new=is_new or command_id is None)
        # A tenth of the time is left for the answer, which has the reason of no decision.
        deadline = self._clock.steady() + timedelta(seconds=timeout * 0.9)
        decide = partial(self._batcher.decide, parsed, deadline, timeout)
        if wait is None:
            return await decide()
        return await self._follower.follow(EventKey(aggregate_id, first), wait, ends, decide)

    def _typed(self, command: Command, data: object) -> tuple[str, Command]:
        """The name and the payload of a command that is given as an object of its class."""
        if data is not None:
            raise TypeError("a command object has its data itself: `data` goes with a name only")
        kind = type(command)
        if kind not in self._domain.command_classes:
            self._domain.rule(kind.__name__)
            given = f"{kind.__module__}.{kind.__qualname__}"
            raise InvalidRecord("type", f"{given} is not a command class of {self._domain.name}")
        return kind.__name__, command

    def _parse(self, envelope: CommandRecord, new: bool) -> ParsedCommand:
        """Parse a command from its bytes, so that the checks of the wire hold for its values."""
        data: Any = envelope.data
        try:
            if isinstance(data, msgspec.Struct):
                require_finite_numbers(data)
            value = encode_digits(envelope) if isinstance(data, dict) else encode(envelope)
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidRecord("data", f"is not JSON: {error}") from None
        if read := self._decoder.read(value, new):
            return read[1]
        return parse_decoded_command(self._domain, decode_command(value), new)

    @property
    def _follower(self) -> CommandFollower:
        if self._optional_follower is None:
            raise TypeError("this EventService was made without notices: it can't wait")
        return self._optional_follower

    # Queries

    def events(
        self,
        aggregate_id: str,
        after: int = 0,
        limit: int | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncIterator[EventRecord]:
        """Events with a version above `after`, in version order, in their newest schema.

        `types` is any collection of event types but a str, whose characters would be the types.
        """
        if isinstance(types, str):
            raise TypeError(f"types is the str {types!r}: give a collection, such as [{types!r}]")
        return self.queries.events(aggregate_id, after, limit, types)

    async def feed(self, cursor: str, limit: int) -> Page:
        """Events of the whole domain from a cursor on ("": the beginning), in their newest schema.
        InvalidCursor for a cursor that no feed gave."""
        return await self.queries.feed(cursor, limit)

    async def missing(
        self, aggregate_id: str, after: int, limit: int | None = None
    ) -> MissingEvents:
        """The events above the version that a reader has, and the latest version."""
        return await self.queries.missing(aggregate_id, after, limit)

    async def snapshot(self, aggregate_id: str) -> Snapshot | None:
        """The newest snapshot of the domain's present state version."""
        return await self.queries.snapshot(aggregate_id)

    async def latest(self, aggregate_id: str) -> StateAt[S] | None:
        """The state after all stored events, saved as a snapshot; None without any event."""
        return await self.queries.latest(aggregate_id)

    async def at(self, aggregate_id: str, version: int) -> StateAt[S] | None:
        """The state after `version` events; None when there are not that many."""
        return await self.queries.at(aggregate_id, version)

    async def at_time(self, aggregate_id: str, moment: datetime) -> StateAt[S] | None:
        """The state at the highest version whose event is not later; None when all are later.

        InvalidRecord for a moment without a time zone.
        """
        return await self.queries.at_time(aggregate_id, moment)

    async def row(self, view: str, aggregate_id: str, key: str = "") -> Row | None:
        """A row of a view; None without one. UnknownView; ViewNotBuilt."""
        return await self.queries.views.get(view, aggregate_id, key)

    async def rows(
        self,
        view: str,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str | None = None,
        limit: int = DEFAULT_PAGE_ROWS,
        cursor: str = "",
    ) -> RowPage:
        """Rows of a view, or totals, that pass all filters, page by page (see ViewReader)."""
        return await self.queries.views.find(
            view, where, order_by=order_by, limit=limit, cursor=cursor
        )

    async def diff(self, aggregate_id: str, first: int, second: int) -> StateDiff | None:
        """The JSON Patch from the state at one version to that at another, later or earlier.

        Version 0 is the beginning. None when there are not that many events.
        """
        return await self.queries.diff(aggregate_id, first, second)
