"""Keeps a fleet's workers running as a cluster would: a worker that has ended is started again."""

import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from tests.acceptance.fleet import ROOT, SOURCES, Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import ROUTED
from tests.faults.half_done_probe import HalfDone, find_half_done, get, owned_partitions

MAX_LOOKS = 400
PARTITIONS = 4
ROLE_SOURCES = {**SOURCES, "command": "commands", "project": "stored"}


class OrderFleet(Fleet):
    """A fleet for the orders; it also removes the topics of their routes."""

    def __init__(self, kafka: str, mongo_url: str, folder: Path) -> None:
        super().__init__(kafka, mongo_url, folder, "eventfleet.domains.orders")

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)


class FleetSupervisor:
    """Workers in named places: `append-1`, `append-2`, `snapshot-1`, `relay-1`.

    `environment` is that of the workers which are started next.
    """

    def __init__(self, fleet: Fleet, *places: str, chunk_records: int = 200) -> None:
        self.fleet = fleet
        self.restarts = 0
        self.workers: dict[str, Worker] = {}
        self.environment = fleet.environment | {
            "EVENTFLEET_CHUNK_RECORDS": str(chunk_records),
            "PYTHONPATH": str(ROOT),
        }
        for place in places:
            self.start(place)
        self.wait_until_owned()

    def start(self, place: str) -> Worker:
        """A new process in a place that is empty, or whose process has ended."""
        number = len(self.fleet.workers)
        log = self.fleet.folder / f"{place}-{number}.log"
        worker = Worker((place.partition("-")[0],), self.environment, log)
        self.fleet.workers.append(worker)
        self.workers[place] = worker
        return worker

    def places_of(self, role: str) -> list[str]:
        return [place for place in self.workers if place.startswith(role)]

    def restart_ended(self) -> None:
        """Start the workers again that have ended."""
        for place, worker in list(self.workers.items()):
            if worker.process.poll() is not None:
                self.restarts += 1
                self.start(place)

    def wait_until_owned(self) -> None:
        """Wait until every partition of each role has an owner that has opened it."""

        def all_owned() -> bool:
            self.restart_ended()
            return all(self._owned(role) for role in ROLE_SOURCES if self.places_of(role))

        with self.fleet._with_logs():
            wait_for(all_owned, "an owner of every partition of each role")

    def metric(self, name: str) -> float:
        """The sum over all workers."""
        return sum(worker.metric(name) for worker in self.workers.values())

    def _owned(self, role: str) -> bool:
        workers = [self.workers[place] for place in self.places_of(role)]
        if not all(get(worker, "/ready")[0] == 200 for worker in workers):
            return False
        owned = [partition for worker in workers for partition in owned_partitions(worker)]
        return sorted(owned) == list(range(PARTITIONS))

    def wait_for_progress(self, roles: Iterable[str] = SOURCES) -> None:
        """Wait until every role has committed more than it has now."""
        for role in roles:
            before = self._committed(role)
            wait_for(lambda r=role, b=before: self._committed(r) > b, f"{role} to go on")

    def _committed(self, role: str) -> int:
        source = self.fleet.topic(ROLE_SOURCES[role])
        return sum(self.fleet.kafka.offsets(self.fleet.group(role), source).values())


def freeze(worker: Worker) -> None:
    """Stop the process where it is (SIGSTOP)."""
    worker.process.send_signal(signal.SIGSTOP)
    state = Path(f"/proc/{worker.process.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it to stand still")


def thaw(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGCONT)


def freeze_half_done(
    fleet: Fleet, worker: Worker, role: str, chance: random.Random
) -> tuple[HalfDone, int]:
    """Freeze the worker at random moments, until one is in the middle of a chunk.

    The worker stays frozen. Answers what was half done, and the number of moments tried.
    """
    for look in range(1, MAX_LOOKS + 1):
        time.sleep(chance.uniform(0.0, 0.3))
        owned = owned_partitions(worker)
        freeze(worker)
        if found := find_half_done(fleet, role, owned):
            return found, look
        thaw(worker)
    raise AssertionError(f"no look of {MAX_LOOKS} found {role} in the middle of a chunk")
