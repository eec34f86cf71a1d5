"""The indexes that the protocols need: created where missing, and verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.son import SON
from pymongo.errors import OperationFailure

from eventfleet.stores.errors import Misconfigured
from eventfleet.stores.mongo.client import Collection, full_name, maybe_await

INDEX_CONFLICTS = {85: "another index has these keys", 86: "another index has this name"}
DUPLICATE_KEY = 11000
NOT_OPTIONS = {"v", "ns", "name", "key", "background"}


@dataclass(frozen=True)
class Index:
    """An index with ascending keys; `options` as the server reports them."""

    name: str
    keys: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"({', '.join(self.keys)}){options}"

    def differs(self, reported: Mapping[str, Any]) -> bool:
        options = {name: reported[name] for name in reported.keys() - NOT_OPTIONS}
        same_keys = list(reported["key"].items()) == [(key, 1) for key in self.keys]
        return not same_keys or options != self.options


def _partial(**condition: Any) -> dict[str, Any]:
    return {"partialFilterExpression": condition}


# A unique index begins with `aggregate_id`, by which the collection may be sharded. Positions are
# not unique: append looks at them. The partial indexes hold the documents with `epoch`, with
# `unplaced`, and of version 1. They are declared by bounds, not by `$exists`: any condition on the
# field then lets every server use them.
UNIQUE = {"unique": True}
VERSIONS = Index("versions", ("aggregate_id", "version"), UNIQUE)
POSITIONS = Index(
    "positions", ("epoch", "partition", "offset", "version"), _partial(epoch={"$gte": 0})
)
UNPLACED = Index(
    "unplaced", ("unplaced", "aggregate_id", "version"), _partial(unplaced={"$gte": 0})
)
AGGREGATES = Index("aggregates", ("version", "aggregate_id"), _partial(version=1))
PARTITIONS = Index("partitions", ("version", "partition", "aggregate_id"), _partial(version=1))
EVENT_INDEXES = (VERSIONS, POSITIONS, UNPLACED, AGGREGATES, PARTITIONS)

# Of an outbox, where there is one: pending events by their time in milliseconds, the oldest first;
# parked ones; and those that are published and not confirmed.
PENDING = Index("pending", ("to_publish", "pending"), _partial(pending={"$gte": 0}))
UNPUBLISHED = Index(
    "unpublished", ("unpublished", "aggregate_id", "version"), _partial(unpublished=1)
)
PUBLISHED = Index("published", ("published_in", "published_at"), _partial(published_at={"$gte": 0}))
OUTBOX_INDEXES = (PENDING, UNPUBLISHED, PUBLISHED)

BY_VERSION = [("aggregate_id", 1), ("version", 1)]
BY_VERSION_DOWN = [("aggregate_id", -1), ("version", -1)]

SNAPSHOTS = Index("snapshots", ("aggregate_id", "state_version", "fingerprint", "version"))
SNAPSHOT_INDEXES = (SNAPSHOTS,)

DEAD_LETTER_INDEXES = (
    Index("parked", ("role", "partition"), _partial(first={"$gte": 0})),
    Index(
        "requested",
        ("role", "partition", "aggregate_id"),
        _partial(**{"requested.first": {"$gte": 0}}),
    ),
    Index("listed", ("role", "aggregate_id"), _partial(first={"$gte": 0})),
    Index("discarded", ("role", "aggregate_id", "version"), _partial(version={"$gte": 0})),
)


async def ensure_indexes(collection: Collection, indexes: Sequence[Index]) -> None:
    """Create the missing indexes, then verify all. An existing index is never dropped or changed.

    Misconfigured names an index that can't be created, or differs.
    """
    existing = await _reported(collection)
    for index in indexes:
        if index.name not in existing:
            await _create(collection, index)
    reported = await _reported(collection)
    for index in indexes:
        _verify(full_name(collection), index, reported.get(index.name))


async def refuse_unique_indexes(collection: Collection) -> None:
    """Refuse an index that could keep a document out although its event is stored.

    Misconfigured names it.
    """
    for name, index in (await _reported(collection)).items():
        if index.get("unique") and "_id" not in index["key"]:
            raise Misconfigured(
                f"{full_name(collection)}: the unique index {name!r} ({', '.join(index['key'])})"
                " would keep out documents whose events are stored: drop it, or make it again"
                " without `unique`"
            )


async def _reported(collection: Collection) -> dict[str, Mapping[str, Any]]:
    found = await maybe_await(collection.list_indexes())
    return {index["name"]: SON(index).to_dict() async for index in found}


async def _create(collection: Collection, index: Index) -> None:
    keys = [(key, 1) for key in index.keys]
    try:
        await collection.create_index(keys, name=index.name, **index.options)
    except OperationFailure as error:
        if error.code == DUPLICATE_KEY:
            raise _misconfigured(
                full_name(collection), index, "stored documents violate it"
            ) from None
        if error.code in INDEX_CONFLICTS:
            raise _misconfigured(
                full_name(collection), index, INDEX_CONFLICTS[error.code]
            ) from None
        raise


def _verify(where: str, index: Index, reported: Mapping[str, Any] | None) -> None:
    if reported is None:
        raise _misconfigured(where, index, "it is missing although it was created")
    if index.differs(reported):
        raise _misconfigured(where, index, f"it is {_describe(reported)}")


def _describe(reported: Mapping[str, Any]) -> str:
    options = {name: reported[name] for name in sorted(reported.keys() - NOT_OPTIONS)}
    return str(Index(reported["name"], list(reported["key"]), options))


def _misconfigured(where: str, index: Index, what: str) -> Misconfigured:
    return Misconfigured(
        f"{where}: index {index.name!r} must be {index}, but {what}. Nothing was changed:"
        " stop the workers, drop the conflicting index or documents, and start again;"
        " starting creates the index"
    )
