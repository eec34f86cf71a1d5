"""What can be wrong with one aggregate: pure functions, each yields faults of one invariant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from eventfleet.audit.logs import TopicCopies
from eventfleet.model.domain import Domain
from eventfleet.stores.contracts import Snapshot, Watermarks
from eventfleet.topics.event import EventRecord, Position


def check_versions(events: Sequence[EventRecord]) -> Iterator[str]:
    """Invariant 2: 1..n without gaps, in the order of the log. Up to the first gap."""
    last: Position | None = None
    for expected, event in enumerate(events, 1):
        if event.version != expected:
            yield f"version {expected} is missing, {event.version} follows"
            return
        if event.position is None:
            continue
        position = Position.parse(event.position)
        if last and (position.epoch, position.offset) < (last.epoch, last.offset):
            yield f"version {event.version} is at {position}, before the version below it"
        last = position


def check_log(
    events: Sequence[EventRecord], logged: Mapping[int, str], settled: Watermarks, epoch: int
) -> Iterator[str]:
    """Invariant 1: each is what the log has at its offset, or was placed along with that."""
    above: EventRecord | None = None
    for event in reversed(events):
        if event.position is None:
            continue
        at = Position.parse(event.position)
        if at.epoch != epoch or not settled.oldest <= at.offset < settled.end:
            continue
        if event.id == logged.get(at.offset):
            above = event
        elif above is None or above.position != event.position:
            found = logged.get(at.offset, "no event")
            yield f"{_named(event)} is not in the log: offset {at.offset} holds {found}"


def check_copies(event: EventRecord, copies: TopicCopies, once: bool) -> Iterator[str]:
    """Invariant 4: it is there, and where the broker has transactions once."""
    count = copies.ids[event.id]
    if count == 0:
        yield f"{_named(event)} is missing from {copies.topic}"
    elif count > 1 and once:
        yield f"{_named(event)} is {count} times in {copies.topic}"


def differs(found: EventRecord, stored: EventRecord) -> bool:
    """Whether what a log holds is another event than the stored one; its place left aside."""
    bare = [msgspec.structs.replace(e, version=0, position=None) for e in (found, stored)]
    return bare[0] != bare[1]


def check_snapshots(
    domain: Domain[Any], events: Sequence[EventRecord], named: Iterable[tuple[str, Snapshot]]
) -> Iterator[str]:
    """Invariant 3: each equals the fold of the events up to its version."""
    done = 0
    state = domain.state()
    for where, snapshot in sorted(named, key=lambda each: each[1].version):
        name = f"{where} of version {snapshot.version}"
        try:
            while done < len(events) and events[done].version <= snapshot.version:
                state = domain.fold(state, events[done])
                done += 1
        except Exception as error:
            yield f"{name} can't be checked: {type(error).__name__}: {error}"
            return
        if snapshot.version > (events[-1].version if events else 0):
            yield f"{name} is past the last of {len(events)} events"
        elif _plain(domain.dump_state(state)) != _plain(snapshot.state):
            yield f"{name} is not the fold of its events"


def _plain(state: Any) -> bytes:
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS)


def _named(event: EventRecord) -> str:
    return f"version {event.version} (event {event.id})"
