"""A fleet's file through plain SQL: its log as KafkaByHand has Kafka's, and its tables as MongoDB's
collections of the same documents."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import ge, gt, itemgetter, le, lt
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from eventfleet.runtime import connections
from eventfleet.runtime.file_backend import data_file
from eventfleet.runtime.settings import Settings
from eventfleet.topics.record import ProducerRecord
from tests.acceptance.kafka_by_hand import run

BUSY_MILLISECONDS = 10_000
Document = dict[str, Any]


@contextmanager
def transaction(path: Path, mode: str = "IMMEDIATE") -> Iterator[apsw.Connection]:
    """A transaction on a connection of its own."""
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.execute(f"BEGIN {mode}")  # other threads go on while it waits
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


class FileLogByHand:
    """Reads records, and changes topics and offsets. Records are written by the product's writer:
    the commits of its process wake who reads the log, others do not."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, data_file(settings)

    def records(self, *topics: str) -> list[Any]:
        """All records of these topics, by partition and offset."""
        found = self._select(
            "SELECT topic, partition, offset, timestamp, key, value, headers"
            " FROM log_partitions JOIN log_records ON partition_id = id"
            " WHERE topic IN (SELECT value FROM json_each(?)) ORDER BY topic, partition, offset",
            json.dumps(topics),
        )
        return [_record(*row) for row in found]

    def waiting(self, group: str, topic: str) -> list[Any]:
        """The records that a group has not passed."""
        passed = self.offsets(group, topic)
        return [
            each
            for each in self.records(topic)
            if each.offset >= passed.get(TopicPartition(topic, each.partition), 0)
        ]

    def has_passed(self, group: str, topic: str) -> bool:
        """Check that a group has passed all records of a topic."""
        return not self.waiting(group, topic)

    def offsets(self, group: str, *topics: str) -> dict[TopicPartition, int]:
        """The committed offsets of a group."""
        found = self._select(
            "SELECT topic, partition, next_offset FROM log_groups"
            " WHERE name = ? AND next_offset IS NOT NULL",
            group,
        )
        return {TopicPartition(*place): next for *place, next in found if place[0] in topics}

    def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the offsets of a group that has no members."""
        self._change(
            "INSERT OR REPLACE INTO log_groups (topic, name, partition, next_offset)"
            " VALUES (?, ?, ?, ?)",
            [(topic, group, partition, next) for (topic, partition), next in offsets.items()],
        )

    def produce(self, records: Iterable[Any]) -> None:
        """Append records, NewRecord or as read from a topic, to their partitions."""
        new = [
            ProducerRecord(each.topic, each.key, each.value, each.partition, tuple(each.headers))
            for each in records
        ]

        async def produce() -> None:
            async with connections.log_writer(self._settings) as writer:
                await writer.produce(new)

        run(produce())

    def topics(self) -> set[str]:
        return {name for (name,) in self._select("SELECT name FROM log_topics")}

    def delete(self, topics: Iterable[str]) -> None:
        doomed = [(topic,) for topic in topics]
        self._change(
            "DELETE FROM log_records"
            " WHERE partition_id IN (SELECT id FROM log_partitions WHERE topic = ?)",
            doomed,
        )
        for table, column in {"partitions": "topic", "groups": "topic", "topics": "name"}.items():
            self._change(f"DELETE FROM log_{table} WHERE {column} = ?", doomed)

    def limit(self, topic: str, record_bytes: int) -> None:
        """Have the topic refuse larger records."""
        self._change(
            """UPDATE log_topics SET config = json_set(config, '$."max.message.bytes"', ?)"""
            " WHERE name = ?",
            [(str(record_bytes), topic)],
        )

    def truncate(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records of each partition before an offset."""
        doomed = [(offset, topic, partition) for partition, offset in before.items()]
        self._change(
            "DELETE FROM log_records WHERE offset < ? AND partition_id ="
            " (SELECT id FROM log_partitions WHERE topic = ? AND partition = ?)",
            doomed,
        )
        self._change(
            "UPDATE log_partitions SET oldest = ? WHERE topic = ? AND partition = ?", doomed
        )

    def _select(self, statement: str, *values: Any) -> list[Any]:
        with transaction(self._path, "DEFERRED") as connection:
            return connection.execute(statement, values).fetchall()

    def _change(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with transaction(self._path) as connection:
            connection.executemany(statement, rows)


def _record(
    topic: str, partition: int, offset: int, timestamp: int, key: Any, value: Any, headers: Any
) -> Any:
    """A record as a client of Kafka has it."""
    key, value = (each.encode() if isinstance(each, str) else each for each in (key, value))
    pairs = [(name, text.encode("latin-1")) for name, text in json.loads(headers or "[]")]
    sizes = (len(each or b"") for each in (key, value))
    return ConsumerRecord(
        topic, partition, offset, timestamp, 0, key, value, None, *sizes, tuple(pairs)
    )


# Tables


class TableLayout(NamedTuple):
    """How the rows of a table are documents: by columns of JSON, whose fields may be the document's
    own (`flat`), and by columns of another name. `key` is a document's `_id`, where it has one."""

    name: str
    json: tuple[str, ...]
    flat: str = ""
    renamed: Mapping[str, str] = {}
    key: Callable[[Document], str] | None = None


EVENTS = TableLayout(
    "events",
    ("data", "attributes"),
    "attributes",
    {"log_offset": "offset"},
    lambda event: f"{event['aggregate_id']}\0{event['id']}",
)
SNAPSHOTS = TableLayout("snapshots", ("state",))


def view_rows(path: Path, domain: str, view: str, table: str) -> "TableByHand":
    """A table of the first build of a view."""
    with transaction(path, "DEFERRED") as connection:
        number = connection.execute(
            "SELECT id FROM view_tables WHERE (domain, view, build, name) = (?, ?, 1, ?)",
            (domain, view, table),
        ).get
    layout = TableLayout(f"view_rows_{number}", ("fields",), "", {"id": "_id", "fields": "row"})
    return TableByHand(path, "", layout)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": lt,
    "$lte": le,
    "$gt": gt,
    "$gte": ge,
    "$in": lambda value, among: value in among,
}


class Found(list[Document]):
    """What was found; a list of documents."""

    def sort(self, field: str, direction: int = 1) -> "Found":  # type: ignore[override]
        return Found(sorted(self, key=itemgetter(field), reverse=direction < 0))


class UpdateResult(NamedTuple):
    matched_count: int


class TableByHand:
    """One domain's rows of a table of the file, as documents of MongoDB, in all that tests use.

    Without a domain it has all rows. A row without `_id` keeps the one that it was inserted with,
    as long as this object lasts.
    """

    def __init__(self, path: Path, domain: str, layout: TableLayout) -> None:
        self._path, self._layout = path, layout
        self._domain = {"domain": domain} if domain else {}
        self._ids: dict[int, Any] = {}

    # Reads

    def find(self, wanted: Document | None = None) -> Found:
        return Found(document for _, document in self._matching(wanted or {}))

    def find_one(self, wanted: Document | None = None) -> Document | None:
        return next(iter(self.find(wanted)), None)

    def count_documents(self, wanted: Document) -> int:
        return len(self.find(wanted))

    # Changes

    def insert_one(self, document: Document) -> None:
        self.insert_many([document])

    def insert_many(self, documents: Iterable[Document]) -> None:
        with transaction(self._path) as connection:
            for document in documents:
                self._insert(connection, document)

    def delete_many(self, wanted: Document) -> None:
        self._delete([row for row, _ in self._matching(wanted)])

    def delete_one(self, wanted: Document) -> None:
        self._delete([row for row, _ in self._matching(wanted)][:1])

    def find_one_and_delete(self, wanted: Document) -> Document | None:
        found = self.find_one(wanted)
        self.delete_one(wanted)
        return found

    def replace_one(self, wanted: Document, document: Document) -> None:
        self.delete_one(wanted)
        self.insert_one(document)

    def update_one(self, wanted: Document, change: Mapping[str, Document]) -> UpdateResult:
        """`change`: `$set`, `$inc` and `$unset` of fields by their dotted paths."""
        document = self.find_one(wanted)
        if document is None:
            return UpdateResult(0)
        for path, value in change.get("$set", {}).items():
            parent, name = _parent(document, path)
            parent[name] = value
        for path, value in change.get("$inc", {}).items():
            parent, name = _parent(document, path)
            parent[name] += value
        for path in change.get("$unset", {}):
            parent, name = _parent(document, path)
            del parent[name]
        self.replace_one(wanted, document)
        return UpdateResult(1)

    def drop_index(self, name: str) -> None:
        index = f"{self._layout.name.removesuffix('s')}_{name}"
        with transaction(self._path) as connection:
            connection.execute(f"DROP INDEX {index}")

    # Rows

    def _matching(self, wanted: Document) -> list[tuple[int, Document]]:
        """The number of each row for which the conditions hold, and its document."""
        with transaction(self._path, "DEFERRED") as connection:
            names = self._columns(connection)
            query = f"SELECT rowid, {', '.join(names)} FROM {self._layout.name}"
            where = " WHERE domain = :domain" if self._domain else ""
            rows = connection.execute(query + where, self._domain).fetchall()
        found = [
            (row, self._document(row, dict(zip(names, values, strict=True))))
            for row, *values in rows
        ]
        return [(row, document) for row, document in found if _holds(wanted, document)]

    def _columns(self, connection: apsw.Connection) -> list[str]:
        """All but the domain, and but the number of the row."""
        found = connection.execute("SELECT name FROM pragma_table_info(?)", (self._layout.name,))
        return [name for (name,) in found if name not in ("domain", "seq")]

    def _document(self, row: int, values: Document) -> Document:
        layout = self._layout
        values |= {name: json.loads(values[name] or "{}") for name in layout.json}
        values |= values.pop(layout.flat, {})
        document = {
            layout.renamed.get(name, name): value
            for name, value in values.items()
            if value is not None
        }
        own = layout.key(document) if layout.key else row
        return {"_id": self._ids.get(row, own)} | document

    def _insert(self, connection: apsw.Connection, document: Document) -> None:
        layout, rest = self._layout, dict(document)
        values: Document = dict(self._domain)
        for column in self._columns(connection):
            if (name := layout.renamed.get(column, column)) in rest:
                values[column] = rest.pop(name)
        if layout.key:
            values["id"] = rest["_id"].rpartition("\0")[2]
        identity = rest.pop("_id", None)
        assert not rest or layout.flat, rest
        values |= {layout.flat: rest} if layout.flat else {}
        values |= {name: json.dumps(values[name]) for name in layout.json}
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        connection.execute(
            f"INSERT INTO {layout.name} ({columns}) VALUES ({marks})", tuple(values.values())
        )
        if identity is not None:
            self._ids[connection.last_insert_rowid()] = identity

    def _delete(self, rows: Iterable[int]) -> None:
        with transaction(self._path) as connection:
            connection.executemany(
                f"DELETE FROM {self._layout.name} WHERE rowid = ?", [(row,) for row in rows]
            )


def _holds(wanted: Document, document: Document) -> bool:
    for field, condition in wanted.items():
        if not isinstance(condition, dict):
            condition = {"$in": [condition]}
        for operator, value in condition.items():
            if not OPERATORS[operator](document[field], value):
                return False
    return True


def _parent(document: Document, path: str) -> tuple[Document, str]:
    *parents, name = path.split(".")
    for each in parents:
        document = document[each]
    return document, name
