"""What is asked of the stores for each command and each query."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from eventfleet.model.shapes import StateShape
from eventfleet.stores.contracts import (
    AssignPosition,
    DeadLetterStore,
    EventStore,
    PlaceParked,
    RefuseParked,
    Snapshot,
    SnapshotStore,
    TailQuery,
    VersionRange,
)
from eventfleet.stores.contracts.dead_letters import ParkedQuery
from eventfleet.stores.contracts.documents import DocumentStore, StoredDocument
from eventfleet.stores.contracts.outbox import BusPlace
from eventfleet.stores.contracts.views import (
    AggregateSelection,
    Comparison,
    RowFilter,
    RowQuery,
    RowStore,
    StoredRow,
    ViewStore,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.topics.parked import Discard, ParkedAggregate
from tests.contract.samples import TIME, at, event, ids, key

SHAPE = StateShape(1, "f")
INDEXES = [["n"], ["kind", "n"]]
"""Of the rows."""


class Stores(Protocol):
    """The stores of a domain and of a collection of documents, and the rows of a table."""

    events: EventStore
    snapshots: SnapshotStore
    letters: DeadLetterStore
    views: ViewStore
    rows: RowStore
    documents: DocumentStore


def name(number: int) -> str:
    return f"a{number:06}"


def parked(number: int) -> ParkedAggregate:
    return ParkedAggregate("relay", 0, name(number), 1, 1, "e", "t", "R: x", "", 1, TIME)


AGGREGATE, OTHER = name(30), name(31)
LATER = TIME + timedelta(days=1)
PLACED = event(AGGREGATE, 1, at(7, 2))
ONE_KIND = RowFilter("kind", Comparison.EQUAL, name(1))
OWN = AggregateSelection(prefixes=(AGGREGATE,))
FROM_N = RowFilter("n", Comparison.AT_LEAST, 25)

Call = Callable[[Stores], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "read": lambda s: ids(s.events.read(AGGREGATE, 0, 9)),
    "read_all": lambda s: s.events.read_all([AGGREGATE, OTHER], 10),
    "find events": lambda s: s.events.find([key(AGGREGATE, 1), key(OTHER, 1)]),
    "heads": lambda s: s.events.heads([AGGREGATE, name(1)]),
    "tails": lambda s: s.events.tails([TailQuery(AGGREGATE, 0, "x", ("y",))], 10),
    "version_at": lambda s: s.events.version_at(AGGREGATE, TIME),
    "feed": lambda s: s.events.feed("", 10),
    "placed": lambda s: s.events.placed(FeedPoint(1, 0, 3, 1), 10),
    "parked": lambda s: s.events.parked(),
    "aggregates": lambda s: s.events.aggregates("", 10),
    "aggregates of a partition": lambda s: s.events.aggregates("", 10, 1),
    "newest_epoch": lambda s: s.events.newest_epoch(),
    "last_placed": lambda s: s.events.last_placed(1),
    "placed_at": lambda s: s.events.placed_at([at(30, 1), at(31, 2)]),
    "sweep": lambda s: s.events.sweep(1, 100),
    "unplaced": lambda s: s.events.unplaced([VersionRange(name(1), 0, 9)]),
    "mark_discarded": lambda s: s.events.mark_discarded(key(AGGREGATE, 1)),
    "mark_discarded parked": lambda s: s.events.mark_discarded(key(name(11), 1), parked=True),
    "write": lambda s: s.events.write(
        [
            AssignPosition(event(name(2)), at(9, 1)),
            PlaceParked(event(name(12)), at(90, 2, epoch=1)),
            RefuseParked(event(name(13)), at(90, 2, epoch=1)),
        ]
    ),
    "pending": lambda s: s.documents.outbox.pending(10, to_publish=True),
    "park publications": lambda s: s.documents.outbox.park([key(name(1), 1)]),
    "park pending publications": lambda s: s.documents.outbox.park_pending(name(2)),
    "parked publications": lambda s: s.documents.outbox.parked(name(6), 10),
    "aggregates of parked publications": lambda s: s.documents.outbox.parked_aggregates(),
    "parked among": lambda s: s.documents.outbox.parked_aggregates([name(1), name(30)]),
    "settle a parked one": lambda s: s.documents.outbox.settle_parked(key(name(1), 1)),
    "settle at a place": lambda s: s.documents.outbox.settle([key(name(3), 1)], BusPlace("i", 3)),
    "confirm": lambda s: s.documents.outbox.confirm(BusPlace("i", 2)),
    "publish again": lambda s: s.documents.outbox.publish_again("i"),
    "settle": lambda s: s.documents.outbox.settle([key(name(1), 1)]),
    "snapshots latest": lambda s: s.snapshots.latest([AGGREGATE], SHAPE),
    "snapshots at": lambda s: s.snapshots.at(AGGREGATE, 5, SHAPE),
    "snapshots save": lambda s: s.snapshots.save(
        [Snapshot(AGGREGATE, 2, {}, 1, TIME, fingerprint="f")]
    ),
    "builds of views": lambda s: s.views.builds(),
    "rows load": lambda s: s.rows.load([AGGREGATE, OTHER]),
    "rows save": lambda s: s.rows.save(
        [StoredRow(AGGREGATE, {"n": 1}, FeedPoint(0, 0, 9, 1), TIME)]
    ),
    "rows by a filter": lambda s: s.rows.find(RowQuery([ONE_KIND]), 20),
    "rows by two filters": lambda s: s.rows.find(RowQuery([ONE_KIND, FROM_N], "n"), 20),
    "rows in order": lambda s: s.rows.find(RowQuery((), "n"), 20),
    "rows in order, down": lambda s: s.rows.find(RowQuery((), "n", True), 20),
    "rows of a kind in order, down": lambda s: s.rows.find(RowQuery([ONE_KIND], "n", True), 20),
    "rows behind": lambda s: s.rows.find(RowQuery((), "n", False, (40, name(40))), 20),
    "rows before": lambda s: s.rows.find(RowQuery((), "n", True, (40, name(40))), 20),
    "rows by id behind": lambda s: s.rows.find(RowQuery(after=(None, name(40))), 20),
    "rows of an aggregate": lambda s: s.rows.find(RowQuery(aggregates=OWN), 20),
    "rows of an aggregate, down": lambda s: s.rows.find(
        RowQuery((), None, True, (None, name(40)), OWN), 20
    ),
    "rows of an aggregate in order": lambda s: s.rows.find(RowQuery((), "n", aggregates=OWN), 20),
    "rows purge": lambda s: s.rows.purge(FeedPoint(0, 0, 9, 9), LATER),
    "load": lambda s: s.documents.load(AGGREGATE, AGGREGATE),
    "load an absent one": lambda s: s.documents.load("none", "none"),
    "head": lambda s: s.documents.head(AGGREGATE),
    "project": lambda s: s.documents.project([StoredDocument(AGGREGATE, 2, {"n": 5})]),
    "project again": lambda s: s.documents.project([StoredDocument(AGGREGATE, 2, {"n": 5})]),
    "versions": lambda s: s.documents.versions([AGGREGATE, OTHER]),
    "find by id": lambda s: s.documents.find({"_id": AGGREGATE}, [], 0, 10),
    "find by ids": lambda s: s.documents.find({"_id": {"$in": [AGGREGATE]}}, [], 0, 10),
    "find in order": lambda s: s.documents.find({}, [], 0, 10),
    "changes": lambda s: ids(s.documents.changes(AGGREGATE, 0)),
    "letters": lambda s: s.letters.find(ParkedQuery("relay"), 20),
    "letters of all roles": lambda s: s.letters.find(ParkedQuery(), 20),
    "letters behind": lambda s: s.letters.find(ParkedQuery("relay", after=("relay", name(9))), 20),
    "letters behind, all roles": lambda s: s.letters.find(
        ParkedQuery(after=("relay", name(9))), 20
    ),
    "letter of an aggregate": lambda s: s.letters.find(ParkedQuery("relay", AGGREGATE), 20),
    "park again": lambda s: s.letters.park([parked(30)]),
    "requests": lambda s: s.letters.requests("relay", 0, 20),
    "request": lambda s: s.letters.request(parked(30), None),
    "request a discard": lambda s: s.letters.request(parked(31), Discard("me", "why", TIME)),
    "discarded": lambda s: s.letters.discarded("relay", [AGGREGATE]),
    "unpark": lambda s: s.letters.unpark("relay", [AGGREGATE]),
}
