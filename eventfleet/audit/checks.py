"""Checks of one aggregate: pure functions, each of which yields the faults of one invariant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from eventfleet.audit.logs import TopicCopies
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import Snapshot, Watermarks
from eventfleet.topics.event import EventRecord, Position


def check_versions(events: Sequence[EventRecord]) -> Iterator[str]:
    """Check invariant 2 up to the first gap: versions are 1..n, in the order of the log."""
    last: Position | None = None
    for expected, event in enumerate(events, 1):
        if event.version != expected:
            yield f"version {expected} is missing, {event.version} follows"
            return
        if event.position is None:
            continue
        position = Position.parse(event.position)
        if last and (position.epoch, position.offset) < (last.epoch, last.offset):
            yield f"version {event.version} is at position {position}, before the version below it"
        last = position


def check_log(
    events: Sequence[EventRecord], logged: Mapping[int, str], settled: Watermarks, epoch: int
) -> Iterator[str]:
    """Check invariant 1: the log has each event at its offset, or one that was placed with it."""
    logged_above: EventRecord | None = None
    for event in reversed(events):
        if event.position is None:
            continue
        position = Position.parse(event.position)
        if position.epoch != epoch or not settled.oldest <= position.offset < settled.end:
            continue
        if event.id == logged.get(position.offset):
            logged_above = event
        elif logged_above is None or logged_above.position != event.position:
            found = logged.get(position.offset, "no event")
            yield f"{_describe(event)} is not in the log: offset {position.offset} holds {found}"


def check_copies(event: EventRecord, copies: TopicCopies, exactly_once: bool) -> Iterator[str]:
    """Check invariant 4: the topic has the event, and with transactions has it exactly once."""
    count = copies.ids[event.id]
    if count == 0:
        yield f"{_describe(event)} is missing from {copies.topic}"
    elif count > 1 and exactly_once:
        yield f"{_describe(event)} is {count} times in {copies.topic}"


def differs(logged: EventRecord, stored: EventRecord) -> bool:
    """Return whether two records of an event differ, apart from version and position."""
    bare = [msgspec.structs.replace(e, version=0, position=None) for e in (logged, stored)]
    return bare[0] != bare[1]


def check_snapshots(
    domain: Domain[Any], events: Sequence[EventRecord], snapshots: Iterable[tuple[str, Snapshot]]
) -> Iterator[str]:
    """Check invariant 3: each snapshot equals the fold of the events up to its version.

    `snapshots` are pairs of the name that faults use, and the snapshot.
    """
    folded = 0
    state = domain.state()
    for where, snapshot in sorted(snapshots, key=lambda pair: pair[1].version):
        name = f"{where} of version {snapshot.version}"
        try:
            while folded < len(events) and events[folded].version <= snapshot.version:
                state = domain.fold(state, events[folded])
                folded += 1
        except Exception as error:
            yield f"{name} can't be checked: {type(error).__name__}: {error}"
            return
        if snapshot.version > (events[-1].version if events else 0):
            yield f"{name} is past the last of {len(events)} events"
        elif _plain(domain.dump_state(state)) != _plain(snapshot.state):
            yield f"{name} is not the fold of its events"


def _plain(state: Any) -> bytes:
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS)


def _describe(event: EventRecord) -> str:
    return f"version {event.version} (event {event.id})"
