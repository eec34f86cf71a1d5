"""The bodies of answers."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from eventfleet.stores.contracts import Stage
from eventfleet.topics.event import EventRecord

JSON = "application/json"
LINES = "application/x-ndjson"
PROBLEM = "application/problem+json"

Version = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Body(msgspec.Struct, kw_only=True):
    """Base of an answer's body."""


class SentBody(Body):
    """What became of a command: its event is safe. In a synchronous domain `version` is the
    aggregate's after all events of the command, of which `event_id` is the first; `published` is
    false when the stream does not have them yet. `stage`: how far the event has come, where a stage
    was waited for."""

    outcome: Literal["accepted", "repeated"]
    command_id: str
    event_id: str
    place: str
    version: Version | UnsetType = UNSET
    published: bool | UnsetType = UNSET
    stage: Stage | UnsetType = UNSET


class EventsBody(Body):
    """Events by version. `next`: what to give as `after` for those that follow; null at the end."""

    events: list[EventRecord]
    next: int | None


class FeedBody(Body):
    """Events of a whole domain, in order within each aggregate. `next`: what to give as `from` for
    those that follow, now or later."""

    events: list[EventRecord]
    next: str


class AggregatesBody(Body):
    """Ids in their order. `next`: what to give as `from` for those that follow; null at the end."""

    aggregates: list[str]
    next: str | None


class MissingBody(Body):
    """The events that a client lacks, and the latest version. `ahead`: the client claims a version
    that is not stored, so it has read something else. `next`: what to give as `after` for those
    that follow; null at the end."""

    events: list[EventRecord]
    latest: Version
    ahead: bool
    next: int | None


class DomainBody(Body):
    """What a domain declares. One that is schema-free may take other commands and events."""

    name: str
    mode: Literal["asynchronous", "synchronous"]
    schema_free: bool
    commands: list[str]
    events: list[str]


class DomainsBody(Body):
    """The domains that may be read."""

    domains: list[DomainBody]


class ProblemBody(Body, omit_defaults=True):
    """Why a request was not done (RFC 9457). `field` and `reason`: what of the request is wrong."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    reason: str = ""
    command_id: str = ""


class StateBody(Body):
    """The state of an aggregate after `version` events."""

    aggregate_id: str
    version: Version
    state: dict[str, Any]


class SnapshotBody(StateBody):
    """The newest snapshot of an aggregate; `taken_at` is when it was saved."""

    state_version: int
    taken_at: datetime


class DiffBody(Body):
    """What turns the state at version `first` into that at `second`: a JSON Patch (RFC 6902)."""

    aggregate_id: str
    first: int
    second: int
    patch: list[dict[str, Any]]
