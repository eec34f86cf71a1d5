"""Which of an aggregate's snapshots are kept: the last of each of its last shapes."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import Snapshot


class SnapshotKey(NamedTuple):
    """The identity of a snapshot among all of its domain."""

    aggregate_id: str
    shape: StateShape
    version: int


ShapeOf = dict[str, StateShape]
"""The shape that each aggregate was saved in last."""


def key_of(snapshot: Snapshot) -> SnapshotKey:
    return SnapshotKey(snapshot.aggregate_id, snapshot.shape, snapshot.version)


def find_excess(stored: Iterable[SnapshotKey], saved: ShapeOf, keep: int) -> list[SnapshotKey]:
    """Return the stored snapshots to drop from the aggregates in `saved`.

    Kept are `keep` of the shape saved last, and `keep` of the other shape with the highest version.
    """
    by_aggregate: defaultdict[str, list[SnapshotKey]] = defaultdict(list)
    for key in stored:
        by_aggregate[key.aggregate_id].append(key)
    found = by_aggregate.items()
    return [*chain.from_iterable(_excess_of(keys, saved[name], keep) for name, keys in found)]


def _excess_of(keys: list[SnapshotKey], saved: StateShape, keep: int) -> list[SnapshotKey]:
    keys.sort(key=lambda key: (key.version, key.shape), reverse=True)
    other = next((key.shape for key in keys if key.shape != saved), None)
    shapes = [[key for key in keys if key.shape == shape] for shape in (saved, other)]
    kept = {*chain.from_iterable(each[:keep] for each in shapes)}
    return [key for key in keys if key not in kept]
