"""A changing fleet whose worker is a user of a Kafka that gives rights."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.changing_fleet import MODULE, PARTITIONS, ROLES, ChangingFleet
from tests.acceptance.fleet import Worker
from tests.acceptance.kafka_by_hand import NewRecord
from tests.conftest import running
from tests.servers.certificates import Authority
from tests.servers.kafka import SecuredKafka
from tests.servers.kafka_acls import LITERAL, PREFIXED, Acl, KafkaAcls

USER, PASSWORD = "fleet", "s3cret-hunter2"
ALL_ROLES = f"{ROLES} command"
DOMAINS = ("notes", "letters", "memos")
TOPICS = ("commands", "replies", "events", "stored", "snapshots", "dead-letters", "parked", "out")


class GuardedFleet(ChangingFleet):
    """A fleet whose worker is a user with the rights that it needs, each of its own."""

    def __init__(
        self, kafka: SecuredKafka, ca: Path, mongo_url: str, redis_url: str, folder: Path
    ) -> None:
        super().__init__(kafka.address, mongo_url, folder, "changing", partitions=PARTITIONS)
        self.acls = KafkaAcls(kafka.address)
        self.acls.allow(*self._rights())
        self._login = {
            "REDIS_URL": redis_url,
            "KAFKA_BROKERS": kafka.secured,
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_USERNAME": USER,
            "KAFKA_PASSWORD": PASSWORD,
            "KAFKA_CA_FILE": str(ca),
        }

    def start_worker(self, metadata_age: int) -> Worker:
        [worker] = self.begin(ALL_ROLES, **self._login, KAFKA_METADATA_AGE=str(metadata_age))
        return worker

    def on_topic(self, operation: str, topic: str) -> Acl:
        return USER, operation, "--topic", topic, LITERAL

    def on_group(self, domain: str, role: str) -> Acl:
        return USER, "Read", "--group", f"{self.prefix}.{domain}.{role}", LITERAL

    def on_transactions(self, domain: str, role: str) -> Acl:
        return USER, "Write", "--transactional-id", f"{self.prefix}.{domain}.{role}-", PREFIXED

    def _rights(self) -> Iterator[Acl]:
        for domain in DOMAINS:
            yield USER, "DescribeConfigs", "--topic", f"{domain}.", PREFIXED
            yield USER, "Describe", "--topic", f"{domain}.", PREFIXED
            for operation in ("Read", "Write"):
                for kind in TOPICS:
                    yield self.on_topic(operation, f"{domain}.{kind}")
            for role in ALL_ROLES.split():
                yield self.on_group(domain, role)
                yield self.on_transactions(domain, role)

    def command(self) -> None:
        """Send a command to `memos` by Kafka."""
        id = uuid.uuid4().hex
        envelope = {
            "specversion": "1.0",
            "id": id,
            "source": "memos",
            "type": "Note",
            "subject": id,
            "time": "2026-01-01T00:00:00.000Z",
            "data": {"text": "a"},
        }
        self.kafka.produce(
            [NewRecord("memos.commands", id.encode(), json.dumps(envelope).encode())]
        )

    def answers(self) -> int:
        return len(self.kafka.records("memos.replies"))


@contextmanager
def guarded(
    mongo_url: str, redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GuardedFleet]:
    """A fleet on a Kafka of its own."""
    (folder / "changing.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    authority = Authority(folder, "authority")
    good = authority.issue("good")
    with (
        running(lambda: SecuredKafka(good, PASSWORD, [USER])) as kafka,
        GuardedFleet(kafka, authority.cert, mongo_url, redis_url, folder) as fleet,
    ):
        yield fleet
