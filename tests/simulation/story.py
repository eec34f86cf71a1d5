"""Tells a schedule in plain words: who did what, step by step, and what came of it."""

import re
from collections.abc import KeysView, Mapping, Sequence, ValuesView
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from eventfleet.deciders.outcomes import OUTCOME_NAMES, Outcome
from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts import (
    AssignPosition,
    Head,
    Incarnation,
    MarkRequest,
    Note,
    Snapshot,
    TailQuery,
)
from eventfleet.stores.contracts.views import BuildProgress, StoredRow
from eventfleet.stores.cursors import FeedPoint
from eventfleet.topics.event import EventKey, EventRecord, Position
from eventfleet.topics.record import LogRecord, ProducerRecord

Trace = Sequence[tuple[str, str, object]]
UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")

WORDS = {
    "find": "looks up the ids",
    "heads": "reads the heads of",
    "tails": "reads the tails of",
    "unplaced": "reads the unplaced events of",
    "placed_at": "reads what is placed at",
    "has_placed": "asks whether anything is placed in",
    "sweep": "sweeps",
    "next_offset": "reads how far append has come in",
    "note_next_offset": "notes how far it has come:",
    "befallen by:": "meets:",
    "write": "writes",
    "put": "puts",
    "put_each": "puts",
    "save": "saves snapshots:",
    "latest": "reads the latest snapshots of",
    "produce": "has produced",
    "commit": "commits",
    "open": "takes the partition over",
    "mark": "marks",
    "confirm": "confirms",
    "withdraw": "withdraws",
    "incarnation": "asks Redis for its incarnation",
    "watermarks": "reads the log's ends",
    "committed": "reads the committed offsets",
    "builds": "looks at the builds",
    "begin": "begins a build:",
    "note_progress": "notes, of a build in a partition, in place of what is known:",
    "make_live": "makes live",
    "load": "loads",
    "placed": "reads the store's events behind",
    "prepare": "has the indexes of a table",
}
GROUPS = (list, tuple, set, frozenset, KeysView, ValuesView)
QUIET = {"incarnation", "watermarks", "committed", "epoch", "next_offset"}
"""Calls that say nothing by themselves; a fault in one of them is told."""


def tell(trace: Trace) -> str:
    """The steps of a trace, one a line and numbered."""
    return "\n".join(
        f"  {number:3}. {who}: {_sentence(what, about)}"
        for number, (who, what, about) in enumerate(told(trace), 1)
    )


def told(trace: Trace) -> Trace:
    """The steps of a trace that say something."""
    return [step for step in trace if step[1] not in QUIET or not isinstance(step[2], tuple)]


def _sentence(what: str, about: object) -> str:
    return f"{WORDS.get(what, what)} {describe(about)}".rstrip()


def describe(thing: Any) -> str:
    """A thing in few words."""
    match thing:
        case str():
            return UUID.sub(r"\1", thing).replace("\0", "/")
        case bytes():
            return describe_bytes(thing)
        case ProducerRecord() | LogRecord():
            return f"{describe_bytes(thing.value or b'')} to {thing.topic}/{thing.partition}"
        case EventRecord():
            return _describe_event(thing)
        case AssignPosition():
            return f"the place {thing.position} of {describe(thing.event)}"
        case MarkRequest():
            basis = f" on the basis {describe(thing.basis.event_id)!r}" if thing.basis else ""
            return f"{describe(thing.event_id)} {thing.type} of {thing.aggregate_id}{basis}"
        case Note():
            return f"{describe(thing.event_id)} after {describe(thing.prev)!r}"
        case Incarnation():
            return f"in the incarnation {thing.id}, seen at {thing.now % 1000:.3f}"
        case Snapshot():
            return f"{thing.aggregate_id} at version {thing.version}"
        case StoredRow():
            what = "deleted" if thing.fields is None else describe(thing.fields)
            return f"{describe(thing.id)} {what} at {describe(thing.point)}"
        case FeedPoint():
            return f"{thing.epoch}-{thing.partition}-{thing.offset} version {thing.version}"
        case BuildProgress():
            ready = "ready" if thing.ready else "not ready"
            return f"{ready} up to {describe(thing.point)} after {thing.takeovers} takeovers"
        case ViewShape():
            return f"of version {thing.version}"
        case EventKey():
            return describe(thing.event_id)
        case Struct() if isinstance(thing, Outcome):
            return f"{OUTCOME_NAMES[type(thing)]} {getattr(thing, 'reason', '')}".rstrip()
        case Position() | Head() | TailQuery() | BaseException():
            return describe(str(thing))
        case _:
            return _describe_group(thing)


def _describe_group(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return ", ".join(f"{describe(key)}: {describe(value)}" for key, value in thing.items())
    if isinstance(thing, GROUPS) and not hasattr(thing, "_fields"):
        described = [text for each in thing if (text := describe(each))]
        return ", ".join(sorted(described) if isinstance(thing, set | frozenset) else described)
    return describe(str(thing))


def _describe_event(event: EventRecord) -> str:
    prev = "" if event.prev is None else f" after {describe(event.prev)!r}"
    version = f" version {event.version}" if event.version else ""
    place = f" at {event.position}" if event.position else ""
    return f"{describe(event.id)} {event.type} of {event.aggregate_id}{version}{prev}{place}"


def describe_bytes(value: bytes) -> str:
    """An encoded event or command, or the bytes as they are."""
    try:
        wire = orjson.loads(value)
        del wire["specversion"]
        return _describe_event(msgspec.convert(wire, EventRecord))
    except (ValueError, KeyError, TypeError):
        return describe(value.decode(errors="replace"))
