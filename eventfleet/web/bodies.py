"""The bodies of responses. The names of these classes are the schemas' names for clients."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from eventfleet.states.view_reader import RowPage
from eventfleet.stores.contracts import DispositionKind, Stage
from eventfleet.topics.event import EventRecord, Instant
from eventfleet.topics.parked import ParkedAggregate

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
PROBLEM_JSON = "application/problem+json"

Version = Annotated[int, Meta(ge=1, le=2**63 - 1)]
ReadVersion = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A version that a client has read; 0 is that of an aggregate without events."""


class ResponseBody(msgspec.Struct, kw_only=True):
    """Base of a response's body."""


class EventDisposition(ResponseBody):
    """The outcome of an event that a role does not bring to the stage that was waited for.

    Of a `parked` event `reason` is the name of the exception; the whole of it is for operators.
    """

    kind: DispositionKind
    role: str
    reason: str


class CommandResult(ResponseBody):
    """The outcome of a command whose event is safe. In a synchronous domain, `version` is the
    aggregate's version after all events of the command, `event_id` is the first of them, and
    `published` is false while the stream does not have them yet. `stage` is the last stage that the
    event has reached, if the request waited for one; with `disposition` it does not reach the one
    that was waited for by itself."""

    outcome: Literal["accepted", "repeated"]
    command_id: str
    event_id: str
    place: str
    version: Version | UnsetType = UNSET
    published: bool | UnsetType = UNSET
    stage: Stage | UnsetType = UNSET
    disposition: EventDisposition | UnsetType = UNSET


class EventPage(ResponseBody):
    """Events of an aggregate in version order. `next` is the value of `after` for the next page;
    null on the last one."""

    events: list[EventRecord]
    next: int | None


class FeedPage(ResponseBody):
    """Events of a whole domain, in version order within each aggregate. `next` is the value of
    `from` for the events that follow, now or later."""

    events: list[EventRecord]
    next: str


class AggregatePage(ResponseBody):
    """Sorted ids of a domain's aggregates. `next` is the value of `from` for the next page; null
    on the last one."""

    aggregates: list[str]
    next: str | None


class MissingEventsPage(ResponseBody):
    """The events that a client lacks, and the latest version. `ahead` is true if the client claims
    a version that is not stored, so it has read something else. `next` is the value of `after` for
    the next page; null on the last one."""

    events: list[EventRecord]
    latest: Version
    ahead: bool
    next: int | None


class ViewPageRow(ResponseBody):
    """A row of a view, with its aggregate and its key within it. Totals have neither."""

    row: Any
    aggregate_id: str | UnsetType = UNSET
    key: str | UnsetType = UNSET


class ViewPage(ResponseBody):
    """Rows of a view. `next` is the value of `from` for the next page; null on the last one."""

    rows: list[ViewPageRow]
    next: str | None


def to_view_page(page: RowPage) -> ViewPage:
    """Convert the page of a query."""
    rows = [
        ViewPageRow(
            row=each.row,
            aggregate_id=UNSET if each.aggregate_id is None else each.aggregate_id,
            key=UNSET if each.key is None else each.key,
        )
        for each in page.rows
    ]
    return ViewPage(rows=rows, next=page.next)


class DeadLetterPage(ResponseBody):
    """Parked aggregates by role and id. Of each, the events from version `first` to `last` wait:
    `first` is the one that the role's code raised on. `next` is the value of `from` for the next
    page; null on the last one."""

    dead_letters: list[ParkedAggregate]
    next: str | None


class RedriveResult(ResponseBody):
    """The number of aggregates whose redrive was requested."""

    requested: int


class DiscardResult(ResponseBody):
    """The event that the role is to pass over."""

    event_id: str


class DomainInfo(ResponseBody):
    """The declaration of a domain. A schema-free one may take other commands and events too."""

    name: str
    mode: Literal["asynchronous", "synchronous"]
    schema_free: bool
    commands: list[str]
    events: list[str]
    views: list[str] = []


class DomainList(ResponseBody):
    """The domains that the caller may read."""

    domains: list[DomainInfo]


class ProblemDetails(ResponseBody, omit_defaults=True):
    """The reason why a request was not carried out (RFC 9457). `field` names the invalid part of
    the request, `reason` says what is wrong with it. The service's log has an error of status 500
    under `correlation_id`. `version` is the present one of an aggregate that is not at the version
    that the request expects; 0 is that of one without events."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    reason: str = ""
    command_id: str = ""
    correlation_id: str = ""
    version: ReadVersion | UnsetType = UNSET


class AggregateState(ResponseBody):
    """The state of an aggregate after `version` events."""

    aggregate_id: str
    version: Version
    state: dict[str, Any]


class AggregateSnapshot(AggregateState):
    """The newest snapshot of an aggregate, saved at `taken_at`.

    `fingerprint` is a hash of the state's shape: its fields, their types and defaults."""

    state_version: int
    fingerprint: str
    taken_at: Instant


class AggregateDiff(ResponseBody):
    """A JSON Patch (RFC 6902) from the state at version `first` to the state at `second`."""

    aggregate_id: str
    first: int
    second: int
    patch: list[dict[str, Any]]
