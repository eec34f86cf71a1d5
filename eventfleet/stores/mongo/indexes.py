"""The indexes that the protocols stand on: made where absent, and verified by what is reported."""

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
    """Ascending keys; `options` as the server reports them."""

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


def _where(**condition: Any) -> dict[str, Any]:
    return {"partialFilterExpression": condition}


# The partial ones hold documents with `epoch`, with `unplaced`, and of version 1. As bounds, not as
# `$exists`: then any condition on that field shows every server that the index may be used.
UNIQUE = {"unique": True}
VERSIONS = Index("versions", ("aggregate_id", "version"), UNIQUE)
POSITIONS = Index(
    "positions",
    ("epoch", "partition", "offset", "version"),
    UNIQUE | _where(epoch={"$gte": 0}),
)
UNPLACED = Index("unplaced", ("unplaced", "aggregate_id", "version"), _where(unplaced={"$gte": 0}))
AGGREGATES = Index("aggregates", ("version", "aggregate_id"), _where(version=1))
PARTITIONS = Index("partitions", ("version", "partition", "aggregate_id"), _where(version=1))
EVENT_INDEXES = (VERSIONS, POSITIONS, UNPLACED, AGGREGATES, PARTITIONS)

SNAPSHOTS = Index("snapshots", ("aggregate_id", "state_version", "version"))
SNAPSHOT_INDEXES = (SNAPSHOTS,)


async def prepare(collection: Collection, indexes: Sequence[Index]) -> None:
    """Make those that are absent, then verify all. Nothing that exists is dropped or changed."""
    existing = await _reported(collection)
    for index in indexes:
        if index.name not in existing:
            await _make(collection, index)
    reported = await _reported(collection)
    for index in indexes:
        _verify(full_name(collection), index, reported.get(index.name))


async def _reported(collection: Collection) -> dict[str, Mapping[str, Any]]:
    found = await maybe_await(collection.list_indexes())
    return {index["name"]: SON(index).to_dict() async for index in found}


async def _make(collection: Collection, index: Index) -> None:
    keys = [(key, 1) for key in index.keys]
    try:
        await collection.create_index(keys, name=index.name, **index.options)
    except OperationFailure as error:
        if error.code == DUPLICATE_KEY:
            raise _unfit(
                full_name(collection), index, "documents that are there break it"
            ) from None
        if error.code in INDEX_CONFLICTS:
            raise _unfit(full_name(collection), index, INDEX_CONFLICTS[error.code]) from None
        raise


def _verify(where: str, index: Index, reported: Mapping[str, Any] | None) -> None:
    if reported is None:
        raise _unfit(where, index, "it is missing though it was made")
    if index.differs(reported):
        raise _unfit(where, index, f"it is {_described(reported)}")


def _described(reported: Mapping[str, Any]) -> str:
    options = {name: reported[name] for name in sorted(reported.keys() - NOT_OPTIONS)}
    return str(Index(reported["name"], list(reported["key"]), options))


def _unfit(where: str, index: Index, what: str) -> Misconfigured:
    return Misconfigured(
        f"{where}: index {index.name!r} must be {index}, but {what}. Nothing was changed:"
        " stop the workers, remove what is in the way, and start again; the start makes the index"
    )
