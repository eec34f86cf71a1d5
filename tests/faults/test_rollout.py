"""A roll-out that adds a schema version, by processes under load: in the chart's order, in another.

SECONDS=10 of load at rest, and behind each step. The percentiles of both are printed.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import pytest

from tests.acceptance.command_fleet import CommandFleet
from tests.acceptance.fleet import Worker
from tests.acceptance.http_service import HttpService, sent, serving
from tests.acceptance.kafka_by_hand import wait_for

pytestmark = pytest.mark.faults
SECONDS = float(os.environ.get("SECONDS", "10"))
ROLES = ("append", "snapshot", "relay", "project", "command")
SENDERS = 4
AGGREGATES = 25
PAUSE_SECONDS = 0.02
REASON = "this process knows version 1 of Moved, the event has 2: deploy"


class Senders:
    """Callers who each move parcels of their own, over the newest service."""

    def __init__(self, url: str) -> None:
        self.url, self.newer = url, False
        self.statuses: Counter[str] = Counter()
        self.latencies: list[tuple[float, float]] = []  # when it was sent, and the seconds
        self.accepted: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def percentile(self, since: float, until: float) -> float:
        """The p99 of the commands that were sent meanwhile, in milliseconds."""
        found = [seconds for at, seconds in self.latencies if since <= at < until]
        assert len(found) > 100
        return 1000 * quantiles(found, n=100)[-1]

    def _send(self, sender: int) -> None:
        with httpx.Client(timeout=60) as client:
            number = 0
            while not self._over.wait(PAUSE_SECONDS):
                key = f"{sender}-{number % AGGREGATES}"
                command = "Move" if number >= AGGREGATES else "Place"
                data = {"to": number} if command == "Move" else {}
                if command == "Move" and self.newer:
                    data["lane"] = "side"  # type: ignore[assignment]
                client.base_url = httpx.URL(self.url)
                began = time.monotonic()
                answer = sent(client, f"rolled/{key}/{command}", data)
                self.latencies.append((began, time.monotonic() - began))
                kind = answer.json().get("type", "").rpartition(":")[2]
                self.statuses[f"{answer.status_code} {kind}".strip()] += 1
                self.accepted[key] += answer.is_success
                number += 1


class RollOut:
    """A fleet of old processes, one for each role, of which each is replaced by a new one."""

    def __init__(self, fleet: CommandFleet, folder: Path, stack: ExitStack) -> None:
        self._fleet, self._folder, self._stack = fleet, folder, stack
        self._workers: dict[str, Worker] = dict(zip(ROLES, fleet.start(*ROLES), strict=True))
        self._service = self._serve("old")
        self.senders = Senders(self._service.url)
        stack.callback(self.senders.end)

    def step(self, role: str) -> None:
        """Start a new process, and stop the old one once it is ready, as Kubernetes does."""
        self._fleet.environment["NEWER"] = "1"
        if role == "serve":
            old, self._service = self._service, self._serve("new")
            self.senders.url, self.senders.newer = self._service.url, True
            time.sleep(1)  # as the endpoints go before the process does
            assert old.stop() == 0
        else:
            [worker] = self._fleet.start(role)
            assert self._workers[role].stop() == 0
            self._workers[role] = worker
        time.sleep(SECONDS)

    def notes(self) -> list[str]:
        """What `check` notes of the order, with the new code."""
        self._fleet.environment["NEWER"] = "1"
        found = self._fleet.json("check")["notes"]
        return [note for note in found if "roll out append first" in note]

    def parked(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._fleet.json("deadletters", "list", "rolled")[
            "dead_letters"
        ]
        return found

    def assert_well(self) -> None:
        """All that was accepted is stored, and reached all readers, once and in order."""
        self.senders.end()
        fleet = self._fleet
        fleet.settle("append", "snapshot", "relay", "project")
        stored = Counter(each["aggregate_id"] for each in fleet.events.find())
        assert stored == +self.senders.accepted
        assert fleet.audit()[1]["clean"]
        rows = fleet.json("view", "rolled", "places", "--limit", "1000")["rows"]
        assert {each["aggregate_id"]: each["row"]["moves"] + 1 for each in rows} == stored

    def _serve(self, name: str) -> HttpService:
        (folder := self._folder / name).mkdir()
        environment = self._fleet.environment | {"EVENTFLEET_METRICS_PORT": "0"}
        return self._stack.enter_context(serving(environment, folder))


@pytest.fixture
def rollout(kafka: str, mongo_url: str, redis_url: str, tmp_path: Path) -> Iterator[RollOut]:
    (folder := tmp_path / "fleet").mkdir()
    servers = kafka, mongo_url, redis_url
    with CommandFleet(servers, folder, "tests.faults.rolled") as fleet, ExitStack() as stack:
        yield RollOut(fleet, tmp_path, stack)


def test_in_the_order_of_the_chart_nothing_parks(rollout: RollOut) -> None:
    [note] = rollout.notes()
    assert note.startswith("event Moved, schema version 2, is new to append, snapshot, relay, ")
    time.sleep(SECONDS)  # the caches are filled
    marks = [time.monotonic()]
    time.sleep(SECONDS)
    for role in (*ROLES, "serve"):
        marks.append(time.monotonic())
        rollout.step(role)
        assert rollout.parked() == []
    marks.append(time.monotonic())
    assert rollout.notes() == []
    rollout.assert_well()
    senders = rollout.senders
    assert {*senders.statuses} <= {"202", "200"}
    steps = {
        name: round(senders.percentile(*marks[n : n + 2]))
        for n, name in enumerate(["at rest", *ROLES, "serve"])
    }
    whole = senders.percentile(marks[1], marks[-1])
    print(f"\np99 in ms: {steps}; of the whole roll-out {whole:.0f}; {dict(senders.statuses)}")


def test_in_another_order_it_is_told_and_well_again_by_itself(rollout: RollOut) -> None:
    time.sleep(SECONDS)
    rollout.step("serve")
    [note] = rollout.notes()
    assert "is new to append, snapshot, relay, " in note
    told = rollout.parked()
    assert {each["role"] for each in told} == {"append"}
    assert all(REASON in each["reason"] for each in told)
    began = time.monotonic()
    for role in ("project", "relay", "snapshot", "append", "command"):
        rollout.step(role)
    wait_for(lambda: rollout.parked() == [], "what is parked to be handled")
    assert {*rollout.senders.statuses} <= {"202", "200", "503 unavailable"}
    print(f"\nwell again {time.monotonic() - began:.0f} s after: {rollout.senders.statuses}")
    rollout.assert_well()
