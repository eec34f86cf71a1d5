"""A fleet that takes commands: with a database of its own on a Redis."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import redis

from eventfleet.runtime.settings import PREFIX, Settings
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.http_service import HttpService, serving

_databases, _services = count(1), count(1)


class CommandFleet(Fleet):
    """A fleet of one domain, whose module may lie in the folder, or be an example; `settings`
    without prefix.

    `is_one_process`: no other one can use what the fleet keeps, and its markers end with it.
    """

    is_one_process = False

    def __init__(
        self, servers: "tuple[str, str, str]", folder: Path, module: str, **settings: str
    ) -> None:
        kafka, mongo_url, redis_url = servers
        super().__init__(kafka, mongo_url, folder, module.rpartition(".")[2])
        url = f"{redis_url.rpartition('/')[0]}/{next(_databases) % 15 + 1}"
        self.redis: redis.Redis = redis.Redis.from_url(url, decode_responses=True)
        self.redis.flushdb()
        mine = {"DOMAINS": module, "REDIS_URL": url, **settings}
        self.environment |= {PREFIX + name: value for name, value in mine.items()}
        self.environment["PYTHONPATH"] = str(ROOT)

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self.redis.flushdb()
        self.redis.close()

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.startswith(f"{self.domain}."))

    @property
    def settings(self) -> Settings:
        """The fleet's settings, for the product's code in this process."""
        return settings_of(self.environment)

    @contextmanager
    def serving(self, *names: str, **settings: str) -> Iterator[HttpService]:
        """A process of the HTTP service of these domains, or of all."""
        mine = {PREFIX + name: value for name, value in settings.items()}
        log = f"service-{next(_services)}.log"
        with serving(self.environment | mine, self.folder, *names, log=log) as service:
            yield service

    def marker_key(self, aggregate_id: str) -> str:
        return f"marker:{self.domain}:{aggregate_id}"

    def marker(self, aggregate_id: str) -> dict[str, str]:
        """The fields of an aggregate's marker in Redis."""
        found: Any = self.redis.hgetall(self.marker_key(aggregate_id))
        return dict(found)

    def marker_seconds(self, aggregate_id: str) -> int:
        """Seconds until the marker expires; -1: never, -2: there is none."""
        found: Any = self.redis.ttl(self.marker_key(aggregate_id))
        return int(found)

    def change_marker(self, aggregate_id: str, **fields: str) -> None:
        """Overwrite fields of an aggregate's marker."""
        self.redis.hset(self.marker_key(aggregate_id), mapping=dict(fields))

    def delete_marker(self, aggregate_id: str) -> None:
        self.redis.delete(self.marker_key(aggregate_id))

    def forget_markers(self) -> None:
        """Empty Redis: all markers, and the ids of commands."""
        self.redis.flushdb()

    def replies(self) -> list[dict[str, str]]:
        """All replies, by partition and offset."""
        return self.topic_events("replies")

    def replies_by_aggregate(self) -> dict[str, list[tuple[str, str]]]:
        """Command and outcome of each reply, in the order of an aggregate's replies."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for reply in self.replies():
            found[reply["aggregate_id"]].append((reply["command"], reply["outcome"]))
        return dict(found)


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment has."""
    values = {k.removeprefix(PREFIX).lower(): v for k, v in environment.items()}
    return Settings(**{k: v for k, v in values.items() if k in Settings.model_fields})  # type: ignore[arg-type]


def write_csv(path: Path, rows: Iterable[dict[str, str]]) -> str:
    """Write a CSV file of these rows; its path."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)
