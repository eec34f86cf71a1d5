"""What must hold, said without the protocols: lists of what went in against what came out."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from eventfleet.stores.contracts.dead_letters import DiscardedEvent
from eventfleet.topics.event import EventRecord, Position
from eventfleet.topics.parked import ParkedEntry
from eventfleet.topics.record import LogRecord


class BrokenInvariant(Exception):
    """An invariant is broken; `kind` says which."""

    def __init__(self, kind: str, detail: object) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Kept(NamedTuple):
    """A snapshot, of the store or of the compacted topic."""

    aggregate_id: str
    version: int
    trail: list[str]


History = dict[str, list[EventRecord]]


def event_of(record: LogRecord) -> EventRecord:
    wire = orjson.loads(record.value or b"")
    del wire["specversion"]
    event: EventRecord = msgspec.convert(wire, EventRecord)
    return event


def trail(events: list[EventRecord]) -> list[str]:
    return [event.data["n"] for event in events]


def check_versions(stored: History) -> None:
    """Versions are 1..n, and no event is there twice."""
    for aggregate_id, events in stored.items():
        versions = [event.version for event in events]
        if versions != list(range(1, len(events) + 1)):
            raise BrokenInvariant("gap", f"{aggregate_id} has versions {versions}")
        if len(set(trail(events))) != len(events):
            raise BrokenInvariant("stored twice", f"{aggregate_id}: {trail(events)}")


def check_placed(stored: History, log: dict[int, list[LogRecord]]) -> None:
    """Position order is version order; an offset's own event is the last one placed there."""
    for aggregate_id, events in stored.items():
        offsets: list[int] = []
        for event in events:
            if event.position is None:
                raise BrokenInvariant("not placed", f"{aggregate_id} version {event.version}")
            offsets.append(Position.parse(event.position).offset)
        if offsets != sorted(offsets):
            raise BrokenInvariant(
                "position order is not version order", f"{aggregate_id}: {offsets}"
            )
        last = {event.position: event for event in events}
        for event in last.values():
            at = Position.parse(event.position or "")
            record = next(r for r in log[at.partition] if r.offset == at.offset)
            if event_of(record).data["n"] != event.data["n"]:
                raise BrokenInvariant("placed at another's offset", f"{event.id} at {at}")


def expected(log: dict[int, list[LogRecord]], marked: bool) -> dict[str, list[str]]:
    """The order of first occurrence; where `prev` counts, of those that follow the one before."""
    order: dict[str, list[str]] = defaultdict(list)
    for partition in sorted(log):
        for event in map(event_of, log[partition]):
            before = order[event.aggregate_id]
            if event.id in before:
                continue
            if not marked or event.prev == (before[-1] if before else ""):
                before.append(event.id)
    return order


def check_order(stored: History, order: dict[str, list[str]], puts: set[str]) -> None:
    """What is stored is what was asked for: nothing lost, nothing else, in the log's order.

    The ids in `puts` were given their place by the store, and may be there without the log.
    """
    for aggregate_id in order.keys() | stored.keys():
        ids = [event.data["n"] for event in stored.get(aggregate_id, [])]
        wanted = order.get(aggregate_id, [])
        if lost := set(wanted) - set(ids):
            raise BrokenInvariant("lost", f"{aggregate_id}: {sorted(lost)}, stored {ids}")
        if extra := set(ids) - set(wanted) - puts:
            raise BrokenInvariant(
                "stored against the rule", f"{aggregate_id}: {sorted(extra)} in {ids}"
            )
        if [n for n in ids if n not in puts] != [n for n in wanted if n not in puts]:
            raise BrokenInvariant("order", f"{aggregate_id}: {ids}, the log has {wanted}")


def check_acknowledged(stored: History, puts: set[str]) -> None:
    """What a put was acknowledged for is there."""
    if lost := puts - {event.id for events in stored.values() for event in events}:
        raise BrokenInvariant("lost", f"put and acknowledged, and not stored: {sorted(lost)}")


def check_emitted(stored: History, emitted: dict[int, list[LogRecord]]) -> None:
    """A reader of committed records sees each stored event once, in version order.

    What was discarded since is marked in the store only; who waits for an event stands in what is
    emitted only.
    """
    seen: dict[str, list[EventRecord]] = defaultdict(list)
    for records in emitted.values():
        for event in map(event_of, records):
            seen[event.aggregate_id].append(event)
    for aggregate_id in seen.keys() | stored.keys():
        came, wanted = (
            [replace(event, discarded=False, reply_to=None) for event in events]
            for events in (seen[aggregate_id], stored.get(aggregate_id, []))
        )
        _same_sequence("emitted", aggregate_id, trail(came), trail(wanted))
        if came != wanted:
            raise BrokenInvariant(
                "emitted otherwise than stored", f"{aggregate_id}: {came}, {wanted}"
            )
    for records in emitted.values():
        offsets = [Position.parse(event_of(r).position or "").offset for r in records]
        if offsets != sorted(offsets):
            raise BrokenInvariant("emitted out of order", f"a partition's offsets: {offsets}")


def check_halted(
    stored: History, order: dict[str, list[str]], emitted: list[LogRecord], puts: set[str]
) -> None:
    """Whatever came before the halt is stored and emitted; more may be stored."""
    seen: dict[str, list[str]] = defaultdict(list)
    for event in map(event_of, emitted):
        seen[event.aggregate_id].append(event.data["n"])
    for aggregate_id, wanted in order.items():
        ids = trail(stored.get(aggregate_id, []))
        if lost := set(wanted) - puts - set(ids):
            raise BrokenInvariant("lost", f"{aggregate_id}: {sorted(lost)}, stored {ids}")
        came = seen[aggregate_id]
        if came != ids[: len(came)] or not set(wanted) & set(ids) <= set(came):
            raise BrokenInvariant("emitted otherwise than stored", f"{came}, not {ids}")


def check_relayed(stored: History, relayed: list[LogRecord], loud: bool) -> None:
    """A route has each event that it wants once, in version order."""
    seen: dict[str, list[str]] = defaultdict(list)
    for event in map(event_of, relayed):
        seen[event.aggregate_id].append(event.data["n"])
    for aggregate_id in seen.keys() | stored.keys():
        events = stored.get(aggregate_id, [])
        wanted = [event.data["n"] for event in events if not loud or event.data["loud"]]
        _same_sequence("relayed", aggregate_id, seen[aggregate_id], wanted)


def check_discards(
    stored: History, discarded: list[DiscardedEvent], asked: set[tuple[str, str]]
) -> None:
    """Nothing is discarded that nobody asked to be, or that no code failed on."""
    events = {event.id: event for events in stored.values() for event in events}
    for each in discarded:
        if (each.role, each.event_id) not in asked:
            raise BrokenInvariant("discarded unasked", each)
        event = events[each.event_id]
        if not event.data["poison"] or event.version != each.version:
            raise BrokenInvariant("discarded what is sound", each)


def check_marks(stored: History, logged: Sequence[ParkedEntry]) -> None:
    """The log has each discard that the store marks: a lost store is filled again from there."""
    marked = {event.id for events in stored.values() for event in events if event.discarded}
    recorded = {each.event_id for each in logged if isinstance(each, DiscardedEvent)}
    if missing := marked - recorded:
        raise BrokenInvariant("a mark without its record", missing)


def _same_sequence(what: str, aggregate_id: str, came: list[str], wanted: list[str]) -> None:
    detail = f"{aggregate_id}: {came}, not {wanted}"
    if len(set(came)) != len(came):
        raise BrokenInvariant(f"{what} twice", detail)
    if set(wanted) - set(came):
        raise BrokenInvariant(f"not {what}", detail)
    if came != wanted:
        raise BrokenInvariant(f"{what} out of order", detail)


def check_folds(stored: History, kept: list[Kept]) -> None:
    """A snapshot is the fold of the events up to its version."""
    for shot in kept:
        events = stored.get(shot.aggregate_id, [])[: shot.version]
        fold = trail([event for event in events if not event.discarded])
        if shot.trail != fold or len(events) != shot.version:
            raise BrokenInvariant("snapshot is not the fold", f"{shot}, the fold is {fold}")


def check_forward(kept: list[Kept]) -> None:
    """Read from its beginning, the compacted topic never goes back."""
    latest: dict[str, int] = defaultdict(int)
    for shot in kept:
        if shot.version < latest[shot.aggregate_id]:
            raise BrokenInvariant("topic went back", f"{shot} after {latest[shot.aggregate_id]}")
        latest[shot.aggregate_id] = shot.version


def check_fresh(stored: History, kept: list[Kept], every: int, where: str) -> None:
    """No aggregate is further past its last snapshot than its rule allows."""
    latest = {shot.aggregate_id: shot.version for shot in kept}
    for aggregate_id, events in stored.items():
        behind = len(events) - latest.get(aggregate_id, 0)
        if behind >= every:
            raise BrokenInvariant(f"{where} is behind", f"{aggregate_id}: by {behind}")


def check_letters(
    letters: list[LogRecord], stored: History, log: dict[int, list[LogRecord]]
) -> None:
    """Each record that is not stored has its dead letter, and no coordinates have two."""
    sources = [dict(letter.headers)["eventfleet-source"].decode() for letter in letters]
    if len(set(sources)) != len(sources):
        raise BrokenInvariant("dead letter twice", sources)
    ids = {event.data["n"]: event.prev for events in stored.values() for event in events}
    for event in (event_of(letter) for letter in letters):
        if ids.get(event.data["n"], "not stored") == event.prev:
            raise BrokenInvariant("dead letter of a stored event", event.id)
    silent = {event_of(r).data["n"] for records in log.values() for r in records} - ids.keys()
    if missing := silent - {event_of(letter).data["n"] for letter in letters}:
        raise BrokenInvariant("dropped silently", sorted(missing))


def kept_in(record: LogRecord) -> Kept:
    value: Any = orjson.loads(record.value or b"")
    return Kept(value["aggregate_id"], value["version"], list(value["state"]["trail"]))
