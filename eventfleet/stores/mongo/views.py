"""The views' stores on MongoDB: a collection for each table of a build, a document for each view.

The document, `<domain>:<view>` in the collection that all domains share, holds the view's builds.
A row's document has its fields under `row`; `at` is its point without the partition.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from eventfleet.model.view_functions import SEPARATOR
from eventfleet.model.views import ViewShape
from eventfleet.stores.contracts.views import (
    AggregateSelection,
    BuildProgress,
    Comparison,
    RowQuery,
    StoredRow,
    ViewBuild,
    ViewBuilds,
)
from eventfleet.stores.cursors import FeedPoint
from eventfleet.stores.mongo import client
from eventfleet.stores.mongo.documents import Document
from eventfleet.stores.mongo.errors import has_taken_key
from eventfleet.stores.mongo.indexes import Index, ensure_indexes
from eventfleet.stores.mongo.operation import operation, split_items

VIEW_SEPARATOR = ":"
LONG_AGO = datetime(1970, 1, 1)
"""Before each deletion: queries of the tombstones need a bound that their index has as well."""
TOMBSTONES = Index(
    "tombstones",
    ("partition", "deleted_at"),
    {"partialFilterExpression": {"deleted_at": {"$gte": LONG_AGO}}},
)
LAST_CHARACTER = chr(0x10FFFF)
DECLARED_INDEX = "rows-"
"""The beginning of the name of an index that a view declares."""

Condition = dict[str, Document]
"""Operators and their values, by field."""


class MongoRows:
    """RowStore on a collection of its own."""

    def __init__(self, rows: client.Collection) -> None:
        self._rows = rows

    async def prepare(self, indexes: Sequence[Sequence[str]]) -> None:
        # Rows of the same value come by their ids: without these a page would sort all rows.
        declared = [
            Index(DECLARED_INDEX + "-".join(fields), [*(f"row.{name}" for name in fields), "_id"])
            for fields in indexes
        ]
        with operation("prepare", self._rows):
            await ensure_indexes(self._rows, [TOMBSTONES, *declared])

    async def load(self, ids: Collection[str]) -> dict[str, StoredRow]:
        found: list[Document] = []
        with operation("read_rows", self._rows):
            for part in split_items(ids):
                found += await self._rows.find({"_id": {"$in": part}}).to_list(None)
        return {each["_id"]: _row(each) for each in found}

    async def save(self, rows: Sequence[StoredRow]) -> None:
        """Save as RowStore says.

        Where the filter matches nothing, and the insertion clashes, the row is stored: mostly with
        this point or a later one. But another writer may have inserted an earlier one just then.
        """
        if not rows:
            return
        with operation("save_rows", self._rows):
            clashed = await self._replace(rows, upsert=True)
            if clashed:
                await self._replace([rows[index] for index in clashed], upsert=False)

    async def _replace(self, rows: Sequence[StoredRow], *, upsert: bool) -> list[int]:
        """Replace earlier rows; return the indexes of those that could not be inserted."""
        documents = map(_document, rows)
        requests = [
            ReplaceOne({"_id": each["_id"], "at": {"$lt": each["at"]}}, each, upsert)
            for each in documents
        ]
        try:
            await self._rows.bulk_write(requests, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            failed = details["writeErrors"]
            if details.get("writeConcernErrors") or not all(map(has_taken_key, failed)):
                raise
            return [each["index"] for each in failed]
        return []

    async def find(self, query: RowQuery, limit: int) -> list[StoredRow]:
        if query.aggregates is not None and not any(query.aggregates):
            return []
        direction = -1 if query.descending else 1
        order = [(f"row.{query.order_by}", direction)] if query.order_by else []
        rows: list[Document] = []
        with operation("read_rows", self._rows):
            for behind in _ranges(query):
                found = self._rows.find(_filter(query, behind))
                found = found.sort([*order, ("_id", direction)]).limit(limit - len(rows))
                rows += await found.to_list(None)
                if len(rows) == limit:
                    break
        return [_row(each) for each in rows]

    async def purge(self, up_to: FeedPoint, before: datetime) -> int:
        old = {
            "partition": up_to.partition,
            "deleted_at": {"$gte": LONG_AGO, "$lt": before},
            "at": {"$lte": [up_to.epoch, up_to.offset, up_to.version]},
        }
        with operation("save_rows", self._rows):
            return (await self._rows.delete_many(old)).deleted_count

    async def drop(self) -> None:
        """Remove the collection."""
        with operation("prepare", self._rows):
            await self._rows.drop()


def _document(row: StoredRow) -> Document:
    partition, *at = row.point
    document: Document = {"_id": row.id, "at": at, "partition": partition}
    if row.fields is None:
        document["deleted_at"] = row.written_at
    else:
        document["row"], document["written_at"] = row.fields, row.written_at
    return document


def _row(document: Document) -> StoredRow:
    epoch, offset, version = document["at"]
    point = FeedPoint(document["partition"], epoch, offset, version)
    written_at = document.get("deleted_at") or document["written_at"]
    return StoredRow(document["_id"], document.get("row"), point, written_at)


def _filter(query: RowQuery, behind: Condition) -> Document:
    """Return a flat filter of the rows that pass a query's filters, in a range of its order.

    Some servers use no index below `$and` and `$or`. In the range's own conditions lie values of
    rows that have passed the filters, so they are at least as narrow.
    """
    fields: defaultdict[str, Document] = defaultdict(dict)
    further: list[Document] = []
    if query.aggregates is not None:
        ids = _id_ranges(query.aggregates)
        if len(ids) == 1:
            behind = _within(behind, ids[0])
        else:
            further.append({"$or": [{"_id": each} for each in ids]})
    for field, comparison, value in query.filters:
        name, compared = f"row.{field}", f"${comparison.value}"
        if value is None and comparison is not Comparison.EQUAL:
            compared, value = "$in", []
        if compared in fields[name]:
            further.append({name: {compared: value}})
        else:
            fields[name][compared] = value
    for name, condition in behind.items():
        fields[name].update(condition)
    if not any(_excludes_missing(each) for name, each in fields.items() if name != "_id"):
        fields["row"] = {"$exists": True}  # no tombstones
    flat = {name: _plain(condition) for name, condition in fields.items()}
    return {**flat, "$and": further} if further else flat


def _id_ranges(aggregates: AggregateSelection) -> list[Document]:
    """Return the ranges of the ids of these aggregates' rows, which begin with an aggregate's."""
    beginnings = [*(f"{id}{SEPARATOR}" for id in aggregates.ids), *aggregates.prefixes]
    return [_beginning_with(text) for text in sorted(beginnings)]


def _within(behind: Condition, ids: Document) -> Condition:
    """Narrow the condition on the id to a range; a client's cursor widens nothing."""
    known = behind.get("_id", {})
    ends = [each["$lt"] for each in (ids, known) if "$lt" in each]
    return {**behind, "_id": {**ids, **known, **({"$lt": min(ends)} if ends else {})}}


def _beginning_with(text: str) -> Document:
    """Return the range of the ids that begin with a text, in the order of their code points."""
    shorter = text.rstrip(LAST_CHARACTER)
    if not shorter:
        return {"$gte": text}
    following = ord(shorter[-1]) + 1
    behind = chr(0xE000 if following == 0xD800 else following)  # between are no characters
    return {"$gte": text, "$lt": shorter[:-1] + behind}


def _excludes_missing(condition: Document) -> bool:
    return any(
        value is not None and not (compared == "$in" and None in value)
        for compared, value in condition.items()
        if compared != "$ne"
    )


def _plain(condition: Document) -> Any:
    """Return an equality as a plain value, which some servers look up by more indexes."""
    is_equality = condition.keys() == {"$eq"} and not isinstance(condition["$eq"], dict)
    return condition["$eq"] if is_equality else condition


def _ranges(query: RowQuery) -> list[Condition]:
    """Return the conditions of the ranges behind the last row of the page before, in order."""
    if query.after is None:
        return [{}]
    (value, id), beyond = query.after, "$lt" if query.descending else "$gt"
    if not query.order_by:
        return [{"_id": {beyond: id}}]
    field = f"row.{query.order_by}"
    same: Condition = {field: {"$eq": value}, "_id": {beyond: id}}
    # Nothing comes before everything else, and MongoDB compares it with nothing else.
    if value is None:
        return [same] if query.descending else [same, {field: {"$ne": None}}]
    none: list[Condition] = [{field: {"$eq": None}}] if query.descending else []
    return [same, {field: {beyond: value}}, *none]


class MongoViews:
    """ViewStore of one domain."""

    def __init__(self, domain: str, domains: client.Collection) -> None:
        self._domain, self._domains = domain, domains

    async def builds(self) -> dict[str, ViewBuilds]:
        return {view: _builds(each) for view, each in (await self._documents()).items()}

    async def _documents(self) -> dict[str, Document]:
        """Read the documents of all views, by the view's name."""
        first = f"{self._domain}{VIEW_SEPARATOR}"
        behind = f"{self._domain}{chr(ord(VIEW_SEPARATOR) + 1)}"
        with operation("registry", self._domains):
            found = await self._domains.find({"_id": {"$gt": first, "$lt": behind}}).to_list(None)
        return {each["_id"].removeprefix(first): each for each in found}

    async def note_repaired(self, view: str, number: int) -> None:
        with operation("registry", self._domains):
            await self._domains.update_one(
                self._key(view), {"$max": {"repaired": number}}, upsert=True
            )

    async def repaired(self) -> dict[str, int]:
        found = await self._documents()
        return {view: each["repaired"] for view, each in found.items() if "repaired" in each}

    async def begin(
        self, view: str, tables: Sequence[str], shape: ViewShape, last_number: int
    ) -> bool:
        number = last_number + 1
        known: Document = {"last": last_number} if last_number else {"last": {"$exists": False}}
        begun = {
            "last": number,
            "next": number,
            f"builds.{number}": {**msgspec.structs.asdict(shape), "tables": list(tables)},
        }
        with operation("registry", self._domains):
            try:
                changed = await self._domains.update_one(
                    self._key(view) | known, {"$set": begun}, upsert=not last_number
                )
            except DuplicateKeyError:
                return False
            if not (changed.matched_count or changed.upserted_id):
                return False
        await self._remove_old(view)
        return True

    async def note_progress(
        self,
        view: str,
        number: int,
        partition: int,
        known: BuildProgress,
        progress: BuildProgress,
    ) -> bool:
        place = f"builds.{number}.partitions.{partition}"
        noted: Any = _progress_document(known)
        if known == BuildProgress():
            noted = {"$in": [None, noted]}
        kinds = [{kind: number} for kind in ViewBuilds._fields]
        present = self._key(view) | {"$or": kinds, place: noted}
        with operation("registry", self._domains):
            changed = await self._domains.update_one(
                present, {"$set": {place: _progress_document(progress)}}
            )
        return bool(changed.matched_count)

    async def make_live(self, view: str, number: int, partitions: int) -> bool:
        """Compare and set: the shapes of builds never change, their kinds may meanwhile."""
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key(view))
        builds = _builds(found) if found else ViewBuilds()
        build = next((e for e in (builds.next, builds.former) if e and e.number == number), None)
        if build is None:
            return False
        following = None if builds.next is build else builds.next
        after = _numbers(ViewBuilds(build, following, builds.former_after(build)))
        known = {kind: each or {"$exists": False} for kind, each in _numbers(builds).items()}
        ready = {f"builds.{number}.partitions.{each}.ready": True for each in range(partitions)}
        kept = {kind: each for kind, each in after.items() if each}
        change: Document = {"$set": kept}
        if gone := after.keys() - kept.keys():
            change["$unset"] = dict.fromkeys(gone, "")
        with operation("registry", self._domains):
            changed = await self._domains.update_one(self._key(view) | known | ready, change)
        return bool(changed.matched_count)

    def rows(self, view: str, table: str, number: int) -> MongoRows:
        database = self._domains.database
        name = f"{self._domain}.view.{view}.{number}.{table}"
        return MongoRows(client.open_collection(database.client, database.name, name))

    async def _remove_old(self, view: str) -> None:
        """Remove the builds that are neither live nor the next nor the former one.

        They are removed once more when the build after is begun: an owner that has not looked since
        may have written to them.
        """
        with operation("registry", self._domains):
            found = await self._domains.find_one(self._key(view)) or {}
        kept = {str(found.get(kind)) for kind in ViewBuilds._fields}
        for number, build in found.get("builds", {}).items():
            if number not in kept:
                for table in build["tables"]:
                    await self.rows(view, table, int(number)).drop()
                change = "$unset" if "removed" in build else "$set"
                place = f"builds.{number}" if "removed" in build else f"builds.{number}.removed"
                with operation("registry", self._domains):
                    await self._domains.update_one(self._key(view), {change: {place: True}})

    def _key(self, view: str) -> Document:
        return {"_id": f"{self._domain}{VIEW_SEPARATOR}{view}"}


def _builds(document: Document) -> ViewBuilds:
    return ViewBuilds(*(_build(document, kind) for kind in ViewBuilds._fields))


def _numbers(builds: ViewBuilds) -> dict[str, int | None]:
    return {kind: each and each.number for kind, each in builds._asdict().items()}


def _build(document: Document, role: str) -> ViewBuild | None:
    number = document.get(role)
    if number is None:
        return None
    build = document["builds"][str(number)]
    progress: Mapping[str, Document] = build.get("partitions", {})
    return ViewBuild(
        number,
        ViewShape(build["version"], build["fingerprint"]),
        {int(partition): _progress(noted) for partition, noted in progress.items()},
    )


def _progress(document: Document) -> BuildProgress:
    point = document["point"]
    at = FeedPoint(*point) if point else None
    stale, held = document.get("stale", False), document.get("held", "")
    return BuildProgress(document["ready"], at, document["takeovers"], stale, held)


def _progress_document(progress: BuildProgress) -> Document:
    point = list(progress.point) if progress.point else None
    noted = {"ready": progress.ready, "point": point, "takeovers": progress.takeovers}
    if progress.stale:
        noted["stale"] = True
    return noted | {"held": progress.held} if progress.held else noted
