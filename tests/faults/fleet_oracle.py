"""A fleet's stores and topics, checked after faults by a plain client and rules of our own."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from eventfleet.stores.mongo.documents import event_id as stored_event_id
from eventfleet.topics.event import EventRecord
from tests.acceptance.fleet import SOURCES, Fleet
from tests.acceptance.kafka_by_hand import wait_for

ENDS = {"Delivered", "Cancelled", "Returned"}
ROUTED = {"shipping.requests": {"Packed"}, "finance.ledger": {"Paid", "Returned"}}

Ids = dict[str, list[str]]


@dataclass
class RunSummary:
    """Counts of a run; duplicates are those in `.stored` and the routes together."""

    sent: int
    stored: int
    aggregates: int
    snapshots: int
    relayed: int
    duplicates: int
    dead_letters: int
    violations: int

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in asdict(self).items())


def check(fleet: Fleet, sent: Collection[EventRecord]) -> RunSummary:
    """Asserts that all is as without faults, once all roles have passed all that was sent."""
    settle(fleet)
    wanted = _ids((event.aggregate_id, event.id) for event in sent)
    stored = list(fleet.events.find().sort([("aggregate_id", 1), ("version", 1)]))
    assert (
        _ids((event["aggregate_id"], stored_event_id(event["_id"])) for event in stored) == wanted
    )
    versions = {key: list(range(1, len(ids) + 1)) for key, ids in wanted.items()}
    assert _versions((event["aggregate_id"], event["version"]) for event in stored) == versions

    passed = fleet.topic_events("stored")
    duplicates = _duplicates(passed)
    assert _ids((event["subject"], event["id"]) for event in passed) == wanted
    assert _versions((event["subject"], event["version"]) for event in passed) == versions
    relayed = 0
    for topic, types in ROUTED.items():
        routed = [json.loads(record.value) for record in fleet.kafka.records(topic)]
        relayed += len(routed)
        duplicates += _duplicates(routed)
        due = _ids((event.aggregate_id, event.id) for event in sent if event.type in types)
        assert _ids((event["subject"], event["id"]) for event in routed) == due
    assert _due_snapshots(sent) <= set(fleet.snapshots.distinct("aggregate_id"))
    return _audited(fleet, [len(sent), len(wanted), relayed, 0], duplicates)


def settle(fleet: Fleet, sources: Mapping[str, str] = SOURCES) -> None:
    """Wait, as long as something moves, until each role has passed all that is in its topic."""
    for role, kind in sources.items():
        group, source = fleet.group(role), fleet.topic(kind)
        while not fleet.kafka.has_passed(group, source):
            at = fleet.kafka.offsets(group, source)
            moves = partial(_moved, fleet, group, source, at)
            wait_for(moves, f"{role} to go on from {at}")


def _moved(fleet: Fleet, group: str, source: str, at: Mapping[TopicPartition, int]) -> bool:
    return fleet.kafka.offsets(group, source) != at or fleet.kafka.has_passed(group, source)


def _due_snapshots(sent: Collection[EventRecord]) -> set[str]:
    """The orders with five events or an end; age may make more due at any time."""
    ended = {event.aggregate_id for event in sent if event.type in ENDS}
    counted = Counter(event.aggregate_id for event in sent)
    return ended | {key for key, events in counted.items() if events >= 5}


def _audited(fleet: Fleet, wanted: list[int], duplicates: int) -> RunSummary:
    report = fleet.json("audit", fleet.domain)
    assert (report["violations"], report["clean"]) == ([], True)
    names = ("stored", "aggregates", "relayed", "dead_letters")
    assert [report[name] for name in names] == wanted
    assert duplicates == 0
    assert fleet.kafka.records(fleet.topic("dead-letters")) == []
    return RunSummary(
        wanted[0],
        report["stored"],
        report["aggregates"],
        report["snapshots"],
        report["relayed"],
        duplicates,
        report["dead_letters"],
        len(report["violations"]),
    )


def _ids(pairs: Iterable[tuple[str, str]]) -> Ids:
    found: Ids = defaultdict(list)
    for aggregate_id, event_id in pairs:
        found[aggregate_id].append(event_id)
    return found


def _versions(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for aggregate_id, version in pairs:
        found[aggregate_id].append(version)
    return found


def _duplicates(events: Iterable[Any]) -> int:
    return sum(times - 1 for times in Counter(event["id"] for event in events).values())
