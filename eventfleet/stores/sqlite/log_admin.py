"""Creates and checks the topics of the log on SQLite, and sets the offsets of groups."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import apsw
import orjson

from eventfleet.stores.sqlite.database import Database
from eventfleet.stores.topic_diff import describe_differences, describe_missing
from eventfleet.topics.topic_specs import TopicSpec

SET_OFFSET = """
INSERT INTO log_groups (topic, name, partition, next_offset) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset, generation = generation + 1
"""


class SqliteAdmin:
    """LogAdmin. Owners that are open when their group's offsets are set are fenced."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        return await self._database.write(
            lambda connection: [spec.name for spec in specs if _create(connection, spec)]
        )

    async def check(self, specs: Sequence[TopicSpec]) -> list[str]:
        return await self._database.read(
            lambda connection: [
                sentence for spec in specs for sentence in _differences(connection, spec)
            ]
        )

    async def transactional(self) -> bool:
        return True

    async def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        rows = [(topic, group, partition, offset) for partition, offset in offsets.items()]

        await self._database.run_each(SET_OFFSET, rows)

    async def close(self) -> None:
        """There is nothing to release."""


def _create(connection: apsw.Connection, spec: TopicSpec) -> bool:
    """Return whether the topic was created: False where it exists."""
    config = orjson.dumps(spec.config).decode()
    connection.execute(
        "INSERT INTO log_topics VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (spec.name, uuid4().hex, spec.partitions, spec.replication, config),
    )
    if not connection.changes():
        return False
    connection.executemany(
        "INSERT INTO log_partitions (topic, partition) VALUES (?, ?)",
        [(spec.name, number) for number in range(spec.partitions)],
    )
    return True


def _differences(connection: apsw.Connection, spec: TopicSpec) -> list[str]:
    found = connection.execute(
        "SELECT partitions, replication, config FROM log_topics WHERE name = ?", (spec.name,)
    ).fetchone()
    if found is None:
        return [describe_missing(spec)]
    partitions, replication, config = found
    return describe_differences(spec, partitions, replication, orjson.loads(config))
