"""A fleet under load that is tended as a cluster would: who has ended is started anew."""

import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from tests.acceptance.fleet import ROOT, SOURCES, Fleet, Worker
from tests.acceptance.kafka_by_hand import wait_for
from tests.faults.fleet_oracle import ROUTED
from tests.faults.half_done_probe import HalfDone, half_done, page, partitions

LOOKS = 400
PARTITIONS = 4
TAKEN_FROM = {**SOURCES, "command": "commands"}


class Orders(Fleet):
    """A fleet for the orders, and what their routes go to."""

    def __init__(self, kafka: str, mongo_url: str, folder: Path) -> None:
        super().__init__(kafka, mongo_url, folder, "eventfleet.domains.orders")

    def _remove(self) -> None:
        super()._remove()
        self.kafka.delete(ROUTED)


class Tended:
    """Workers in named places: `append-1`, `append-2`, `snapshot-1`, `relay-1`."""

    def __init__(self, fleet: Fleet, *places: str, chunk_records: int = 200) -> None:
        self.fleet = fleet
        self.restarts = 0
        self.workers: dict[str, Worker] = {}
        self._environment = fleet.environment | {
            "EVENTFLEET_CHUNK_RECORDS": str(chunk_records),
            "PYTHONPATH": str(ROOT),
        }
        for place in places:
            self.start(place)
        self.steady()

    def start(self, place: str) -> Worker:
        """A new process in a place that is empty, or whose process has ended."""
        number = len(self.fleet.workers)
        log = self.fleet.folder / f"{place}-{number}.log"
        worker = Worker((place.partition("-")[0],), self._environment, log)
        self.fleet.workers.append(worker)
        self.workers[place] = worker
        return worker

    def of(self, role: str) -> list[str]:
        return [place for place in self.workers if place.startswith(role)]

    def tend(self) -> None:
        """Start those anew that have ended."""
        for place, worker in list(self.workers.items()):
            if worker.process.poll() is not None:
                self.restarts += 1
                self.start(place)

    def steady(self) -> None:
        """Wait until every partition of each role has an owner that has opened it."""

        def all_owned() -> bool:
            self.tend()
            return all(self._owned(role) for role in TAKEN_FROM if self.of(role))

        with self.fleet._telling():
            wait_for(all_owned, "an owner of every partition of each role")

    def metric(self, name: str) -> float:
        """The sum over all workers."""
        return sum(worker.metric(name) for worker in self.workers.values())

    def _owned(self, role: str) -> bool:
        workers = [self.workers[place] for place in self.of(role)]
        if not all(page(worker, "/ready")[0] == 200 for worker in workers):
            return False
        owned = [partition for worker in workers for partition in partitions(worker)]
        return sorted(owned) == list(range(PARTITIONS))

    def moving(self, roles: Iterable[str] = SOURCES) -> None:
        """Wait until every role has committed more than it has now."""
        for role in roles:
            before = self._committed(role)
            wait_for(lambda r=role, b=before: self._committed(r) > b, f"{role} to go on")

    def _committed(self, role: str) -> int:
        source = self.fleet.topic(TAKEN_FROM[role])
        return sum(self.fleet.kafka.offsets(self.fleet.group(role), source).values())


def freeze(worker: Worker) -> None:
    """Stop the process where it is; everything it holds stays as it is."""
    worker.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED)


def thaw(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGCONT)


def caught_half_done(
    fleet: Fleet, worker: Worker, role: str, chance: random.Random
) -> tuple[HalfDone, int]:
    """Freeze the worker at random moments, until one is in the middle of a chunk.

    It stays frozen. Also the number of moments looked at.
    """
    for look in range(1, LOOKS + 1):
        time.sleep(chance.uniform(0.0, 0.3))
        owned = partitions(worker)
        freeze(worker)
        if found := half_done(fleet, role, owned):
            return found, look
        thaw(worker)
    raise AssertionError(f"no look of {LOOKS} found {role} in the middle of a chunk")
