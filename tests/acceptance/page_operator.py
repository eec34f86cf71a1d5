"""An operator, who runs the commands of the page for operators beside a fleet."""

import os
import re
import subprocess
import sysconfig
from typing import Any

from eventfleet.stores.clock import SystemClock
from eventfleet.stores.ids import Uuid7Generator
from eventfleet.topics.codec import EVENT_HEADERS, encode
from eventfleet.topics.event import EventRecord
from eventfleet.topics.names import Topics
from eventfleet.topics.partitioner import partition_of
from eventfleet.topics.record import LogRecord
from tests.acceptance.fleet import HASTY_PATH, ROOT, TIMEOUT_SECONDS, Fleet
from tests.acceptance.kafka_by_hand import wait_for
from tests.servers.server import free_port

PAGE = (ROOT / "docs" / "operations.md").read_text()
HEADER = "case:concept:name,concept:name,time:timestamp,text\n"
PARTITIONS = 2
ROLES = "append snapshot relay"
WORDS = {
    "start-workers": """
        setsid eventfleet worker append snapshot relay >> worker.log 2>&1 < /dev/null &
        echo $! > worker.pid
    """,
    "stop-workers": """
        pid=$(cat worker.pid)
        kill "$pid" || exit 0
        while grep -q . "/proc/$pid/cmdline" 2> /dev/null; do sleep 0.1; done
    """,
    "restart-workers": "stop-workers && start-workers",
}
"""The page's words for what each house does in its own way."""


def blocks(section: str) -> list[str]:
    """The commands of a section, block by block."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


class Operator:
    """Runs commands beside a fleet of one worker, with the words of the page on the path."""

    def __init__(self, fleet: Fleet, roles: str = ROLES) -> None:
        self.fleet, self.folder = fleet, fleet.folder
        port = free_port()
        for word, script in WORDS.items():
            file = self.folder / "bin" / word
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/bash\n{script}".replace(ROLES, roles))
            file.chmod(0o755)
        paths = [str(self.folder / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]]
        fleet.environment |= {
            "PATH": os.pathsep.join(paths),
            "PYTHONPATH": HASTY_PATH,
            "EVENTFLEET_METRICS_PORT": str(port),
            "EVENTFLEET_KAFKA_METADATA_AGE": "1",
            "DOMAIN": fleet.domain,
            "WORKER": f"http://127.0.0.1:{port}",
        }

    def run(self, lines: str, status: int = 0, **variables: str) -> str:
        """The output of commands, up to the first that fails; its status, or 0."""
        done = subprocess.run(
            ["bash", "-ec", lines],
            cwd=self.folder,
            env=self.fleet.environment | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == status, done.stdout + done.stderr + self.log()
        return done.stdout

    def deploy(self, module: str) -> None:
        """Put code in the place of the code before."""
        (self.folder / "notes.py").write_text(module)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def ready(self) -> str:
        """The worker's page of readiness; empty where it does not answer."""
        return self.run('curl -s "$WORKER/ready" || true')

    def has_ended(self) -> bool:
        return self.run('cat "/proc/$(cat worker.pid)/cmdline" 2> /dev/null || true') == ""

    def until_told(self, text: str) -> None:
        """Wait until the worker's page of readiness has a text."""
        wait_for(lambda: text in self.ready(), f"/ready to say {text!r}")

    def until_ended(self, text: str) -> None:
        """Wait until the worker has ended, having said why."""
        wait_for(self.has_ended, "the worker to end")
        assert text in self.log(), self.log()

    def until_ready(self) -> None:
        self.run('until curl -sf "$WORKER/ready"; do sleep 0.1; done')

    @property
    def pid(self) -> str:
        return (self.folder / "worker.pid").read_text().strip()

    def load(self, *rows: tuple[str, str], header: str = HEADER) -> None:
        lines = [f"{key},Noted,2025-01-02T03:04:05Z,{text}\n" for key, text in rows]
        self.fleet.load(header + "".join(lines))

    def send(self, aggregate_id: str, text: str) -> None:
        """Put an event into the log, and wait for nobody to store it."""
        clock, topic = SystemClock(), Topics.of(self.fleet.domain, "").events
        event = EventRecord(
            id=Uuid7Generator().new(),
            type="Noted",
            domain=self.fleet.domain,
            aggregate_id=aggregate_id,
            time=clock.now(),
            data={"text": text},
        )
        place = topic, partition_of(aggregate_id, PARTITIONS), 0
        record = LogRecord(*place, aggregate_id.encode(), encode(event), EVENT_HEADERS)
        self.fleet.kafka.produce([record])

    def texts(self, aggregate_id: str) -> list[str]:
        found = self.fleet.events.find({"aggregate_id": aggregate_id}).sort("version", 1)
        return [event["data"]["text"] for event in found]

    def relayed(self, aggregate_id: str) -> list[str]:
        events = self.fleet.topic_events("out")
        return [event["data"]["text"] for event in events if event["subject"] == aggregate_id]

    def copy(self) -> dict[str, list[Any]]:
        database = self.fleet.database
        return {name: list(database[name].find()) for name in database.list_collection_names()}

    def set_back(self, copy: dict[str, list[Any]]) -> None:
        """Put a copy in the database's place."""
        database = self.fleet.database
        for name in database.list_collection_names():
            database[name].delete_many({})
            if copy.get(name):
                database[name].insert_many(copy[name])
