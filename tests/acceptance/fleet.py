"""A fleet of real worker processes on real servers."""

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

import pymongo
from aiokafka import TopicPartition
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from eventfleet.cli import main
from eventfleet.runtime.settings import PREFIX
from tests.acceptance.kafka_by_hand import KafkaByHand, wait_for
from tests.program import run_program, start_program

ROOT = Path(__file__).parents[2]
HASTY_PATH = os.pathsep.join([str(ROOT / "tests" / "acceptance" / "hasty"), str(ROOT)])
"""PYTHONPATH of processes that doubt an offset for seconds, not for a minute."""
TIMEOUT_SECONDS = 120.0
SOURCES = {"append": "events", "snapshot": "stored", "relay": "stored"}
HEALTH_SERVER_LINE = "metrics, liveness and readiness: "


class Worker:
    """A process of `eventfleet worker`; its log is part of the error when a wait fails."""

    def __init__(self, roles: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
        self.roles, self.log = roles, log
        self.process = start_program(["worker", *roles], environment, log.parent, log)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of its health server; status 0 until that is up."""
        _, _, rest = self.output().partition(HEALTH_SERVER_LINE)
        if "\n" not in rest:
            return 0, ""
        try:
            with urlopen(rest.split()[0] + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> bool:
        status = self.process.poll()
        assert status is None, f"{self.roles} ended with {status}:\n{self.output()}"
        return self.get("/ready")[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == f"eventfleet_{name}" and labels.items() <= sample.labels.items()
        )

    def stop(self) -> int:
        """Its exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(TIMEOUT_SECONDS)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT_SECONDS)


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process with these settings, and no others of this one."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    return inherited | {PREFIX + name: value for name, value in settings.items()}


class Fleet:
    """One domain on a Kafka and a MongoDB: topics and database of its own, removed at the end.

    The module that declares the domain may lie in the folder. A command may take COMMAND_SECONDS.
    """

    COMMAND_SECONDS = TIMEOUT_SECONDS
    nowhere: Mapping[str, str] = MappingProxyType(
        {
            "KAFKA_BROKERS": "127.0.0.1:1",
            "MONGO_URL": "mongodb://127.0.0.1:2/",
            "REDIS_URL": "redis://127.0.0.1:3",
        }
    )
    """Settings that lead to no data."""

    def __init__(
        self, kafka: str, mongo_url: str, folder: Path, module: str, partitions: int = 4
    ) -> None:
        domain = module.rpartition(".")[2]
        self.domain, self.folder, self.mongo_url = domain, folder, mongo_url
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.kafka = KafkaByHand(kafka)
        self._mongo: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo_url)
        self.events = self._mongo[self.prefix][f"{domain}.events"]
        self.snapshots = self._mongo[self.prefix][f"{domain}.snapshots"]
        self.database = self._mongo[self.prefix]
        self.workers: list[Worker] = []
        settings = {
            "KAFKA_BROKERS": kafka,
            "KAFKA_SESSION_TIMEOUT": "6",
            "MONGO_URL": mongo_url,
            "MONGO_DATABASE": self.prefix,
            "GROUP_PREFIX": self.prefix,
            "DOMAINS": module,
            "PARTITIONS": str(partitions),
            "METRICS_PORT": "0",
        }
        self.environment = environment_of(settings)

    def __enter__(self) -> Self:
        self._remove()
        self._create_topics()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait(TIMEOUT_SECONDS)
        self._remove()
        self._mongo.drop_database(self.database)
        self._mongo.close()

    def _create_topics(self) -> None:
        """With the ordinary timeout: a test's own may be too short for the first topics of a
        broker that has just started."""
        environment = {k: v for k, v in self.environment.items() if k != f"{PREFIX}KAFKA_TIMEOUT"}
        done = run_program(("topics", "create"), environment, self.folder, self.COMMAND_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr

    def _remove(self) -> None:
        self.kafka.delete(t for t in self.kafka.topics() if t.startswith(f"{self.domain}."))

    def topic(self, kind: str) -> str:
        return f"{self.domain}.{kind}"

    def group(self, role: str) -> str:
        return f"{self.prefix}.{self.domain}.{role}"

    def run(self, *arguments: str, status: int = 0) -> str:
        """The output of a command; it must end with this status."""
        done = run_program(arguments, self.environment, self.folder, self.COMMAND_SECONDS)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def json(self, *arguments: str, status: int = 0) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.run(*arguments, "--json", status=status))

    def load(self, text: str, status: int = 0) -> Any:
        """Load rows of a CSV text with a header; the report."""
        path = self.folder / f"{uuid.uuid4().hex}.csv"
        path.write_text(text, encoding="utf-8")
        return self.json("load", str(path), "--domain", self.domain, status=status)

    def invoke(self, *arguments: str) -> Result:
        """Run a command in this process: starting one would take as long as its work."""
        return CliRunner(env=self.environment).invoke(main, arguments)

    def json_lines(self, *arguments: str) -> list[Any]:
        """The lines of JSON that a command prints when it runs in this process."""
        done = self.invoke(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def audit(self) -> tuple[str, Any]:
        """The output of `audit` as text and as JSON; its status is 1 just if it is not clean."""
        done = [self.invoke("audit", *options) for options in ([], ["--json"])]
        statuses = [each.exit_code for each in done]
        assert statuses in ([0, 0], [1, 1]), [each.output for each in done]
        report = json.loads(done[1].stdout)
        wrong = report["violations"] or report["problems"]
        assert report["clean"] == (statuses == [0, 0]) == (not wrong)
        return done[0].stdout, report

    def start(self, *workers: str, **settings: str) -> list[Worker]:
        """Start workers, each of one or more roles divided by spaces, and wait until all work."""
        started = self.begin(*workers, **settings)
        for worker in started:
            with self._with_logs():
                wait_for(worker.ready, f"{worker.roles} to be ready")
        return started

    def begin(self, *workers: str, **settings: str) -> list[Worker]:
        """Start workers, each of one or more roles divided by spaces."""
        environment = self.environment | {PREFIX + k: v for k, v in settings.items()}
        started = []
        for roles in workers:
            log = self.folder / f"worker-{len(self.workers)}.log"
            started.append(self._begin(tuple(roles.split()), environment, log))
            self.workers.append(started[-1])
        return started

    def _begin(self, roles: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Worker:
        return Worker(roles, environment, log)

    def settle(self, *roles: str) -> None:
        """Wait until these roles (all, where none is named) have passed all that is in the log."""
        for role in roles or SOURCES:
            with self._with_logs():
                wait_for(partial(self._is_caught_up, role), f"{role} to catch up")

    def _is_caught_up(self, role: str) -> bool:
        source = SOURCES.get(role, "stored")
        return self.kafka.has_passed(self.group(role), self.topic(source))

    def view_rows(self, view: str, table: str) -> Any:
        """The collection of a table in the first build of a view."""
        return self.database[f"{self.domain}.view.{view}.1.{table}"]

    def topic_events(self, kind: str) -> list[Any]:
        """The events in a topic of the domain, as JSON, in order."""
        return [json.loads(record.value) for record in self.kafka.records(self.topic(kind))]

    @contextmanager
    def profiled(self) -> Iterator[None]:
        """The server records every operation on the database for the length of the block."""
        self.database.command({"profile": 2})
        try:
            yield
        finally:
            self.database.command({"profile": 0})

    def queries(self, kind: str) -> list[dict[str, Any]]:
        """The recorded commands on a collection, in order."""
        noted = self.database["system.profile"].find({"ns": f"{self.prefix}.{self.topic(kind)}"})
        return [operation["command"] for operation in noted]

    def remake(self, topic: str, records: Sequence[Any]) -> None:
        """Make a topic anew with these records, all of them passed by the roles that read it."""
        partitions = int(self.environment["EVENTFLEET_PARTITIONS"])
        self.kafka.delete([topic])
        made = self.invoke("topics", "create")
        assert made.exit_code == 0, made.output
        self.kafka.produce(records)
        ends = Counter(record.partition for record in records)
        offsets = {TopicPartition(topic, p): ends[p] for p in range(partitions)}
        for role, kind in SOURCES.items():
            if self.topic(kind) == topic:
                self.kafka.commit(self.group(role), offsets)

    @contextmanager
    def _with_logs(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            logs = [f"--- {worker.roles}\n{worker.output()[-3000:]}" for worker in self.workers]
            raise AssertionError("\n".join([str(error), *logs])) from error
